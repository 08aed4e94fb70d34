// pytorch_model.bin as torch.save writes it: a zip archive of a pickled dict and a record for each storage.
#pragma GCC diagnostic ignored "-Wnull-dereference"  // in LibTorch's Dict, where it is inlined here

#include <caffe2/serialize/inline_container.h>
#include <cerrno>
#include <cstring>
#include <fstream>

#include <ATen/core/Dict.h>
#include <ATen/core/ivalue.h>
#include <torch/csrc/jit/serialization/pickler.h>

#include "core/error.h"
#include "core/json.h"
#include "models/checkpoint.h"
#include "models/stored_weights.h"

namespace exactmamba::models {
namespace {

using StateDict = c10::Dict<std::string, at::Tensor>;

/// A file that remembers its first failure: the archive writer must not see one, because its destructor
/// throws.
class FailureKeepingFile {
 public:
  explicit FailureKeepingFile(std::filesystem::path file)
      : path_(std::move(file)), stream_(path_, std::ios::binary) {
    note_failure();
  }
  size_t write(const void* bytes, size_t count) {
    stream_.write(static_cast<const char*>(bytes), static_cast<std::streamsize>(count));
    note_failure();
    return count;
  }
  /// @throws IoError
  void close() {
    stream_.close();
    note_failure();
    core::require<core::IoError>(error_ == 0, "cannot write {}: {}", path_.string(), std::strerror(error_));
  }

 private:
  void note_failure() {
    if (!stream_ && error_ == 0) error_ = errno != 0 ? errno : EIO;
  }
  std::filesystem::path path_;
  std::ofstream stream_;
  int error_ = 0;
};

/// Each parameter with a storage of its own; a tied head shares the embedding's, as in the public files.
StateDict state_dict(const MambaLM& model, at::ScalarType storage) {
  StateDict tensors;
  for (const ParameterSpec& spec : model.parameters().specs()) {
    const bool embedding = spec.name == kEmbeddingName;
    tensors.insert(embedding ? "backbone.embedding.weight" : spec.name,
                   parameter_to_store(model, spec.name, storage));
  }
  if (model.config().tie_embeddings) tensors.insert(kHeadName, tensors.at("backbone.embedding.weight"));
  return tensors;
}

std::string pickled(const StateDict& tensors, std::vector<at::Tensor>& storages) {
  std::string bytes;
  const auto append = [&bytes](const char* begin, size_t count) { bytes.append(begin, count); };
  // Without type tags: they would make the dict an object of torch.jit.
  torch::jit::Pickler pickler(append, nullptr, nullptr, nullptr, nullptr, /*tag_aggregates=*/false);
  pickler.protocol();
  pickler.pushIValue(tensors);
  pickler.stop();
  storages = pickler.tensorData();
  return bytes;
}

void write_torch_file(const StateDict& tensors, const std::filesystem::path& path) {
  FailureKeepingFile file(path);
  {
    caffe2::serialize::PyTorchStreamWriter archive(
        [&file](const void* bytes, size_t count) { return file.write(bytes, count); });
    std::vector<at::Tensor> storages;
    const std::string pickle = pickled(tensors, storages);
    archive.writeRecord("data.pkl", pickle.data(), pickle.size());
    for (size_t i = 0; i < storages.size(); ++i) {
      archive.writeRecord("data/" + std::to_string(i), storages[i].storage().data(),
                          storages[i].storage().nbytes());
    }
    archive.writeEndOfFile();
  }
  file.close();
}

}  // namespace

void save_state_spaces(const MambaLM& model, const std::filesystem::path& folder, at::ScalarType storage) {
  const core::Json config = config_to_state_spaces_json(model.config());
  write_torch_file(state_dict(model, storage), folder / "pytorch_model.bin");
  core::write_json(folder / "config.json", config);
}

}  // namespace exactmamba::models
