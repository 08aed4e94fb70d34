#include "models/stored_weights.h"

#include <algorithm>
#include <array>
#include <set>
#include <vector>

#include <ATen/ops/equal.h>
#include <ATen/ops/isfinite.h>
#include <fmt/ranges.h>

#include "core/dtype.h"
#include "core/error.h"
#include "core/json.h"
#include "core/number.h"
#include "core/safetensors.h"
#include "core/torch_file.h"
#include "models/mamba_lm.h"

namespace exactmamba::models {
namespace {

constexpr std::array kWeightFiles = {"model.safetensors", "model.safetensors.index.json",
                                     "pytorch_model.bin"};

using core::printable;
using core::require;

/// Collects tensors of one or more files.
class Collector {
 public:
  explicit Collector(const TensorNames& names) : names_(names) {}

  void add(const std::string& name, const at::Tensor& values, const std::filesystem::path& file) {
    const std::string ours = names_.ours(name);
    const auto [place, is_new] = weights_.try_emplace(ours, StoredTensor{values, printable(name), file});
    require(is_new, "{}: '{}' and '{}' of {} are both the tensor '{}'", file.string(), printable(name),
            place->second.name, place->second.file.string(), printable(ours));
  }
  void add_file(const std::filesystem::path& path) {
    if (path.extension() == ".safetensors") {
      const core::SafetensorsFile file(path);
      for (const std::string& name : file.names()) add(name, file.tensor(name), path);
    } else {
      for (const auto& [name, values] : core::read_torch_state_dict(path)) add(name, values, path);
    }
  }
  StoredWeights take() { return std::move(weights_); }

 private:
  const TensorNames& names_;
  StoredWeights weights_;
};

/// The shards of an index, each once. A shard is a plain file name: nothing in an index may point out of its
/// folder.
std::set<std::string> shard_names(const core::Json& index, const std::string& where) {
  const auto map = index.is_object() ? index.find("weight_map") : index.end();
  require(map != index.end() && map->is_object() && !map->empty(),
          "{}: no 'weight_map' with the shard of every tensor", where);
  std::set<std::string> shards;
  for (const auto& item : map->items()) {
    require(item.value().is_string(), "{}: weight_map['{}'] is {}, but it must be a file name", where,
            printable(item.key()), printable(core::json_text(item.value())));
    const std::string shard = item.value().get<std::string>();
    require(shard.find_first_of("/\\") == std::string::npos && shard.ends_with(".safetensors"),
            "{}: weight_map['{}'] is \"{}\", but a shard is a .safetensors file inside the same folder",
            where, printable(item.key()), printable(shard));
    shards.insert(shard);
  }
  return shards;
}

std::vector<std::filesystem::path> shards_of(const std::filesystem::path& index_file) {
  const core::Json index = core::read_json(index_file);
  std::vector<std::filesystem::path> files;
  for (const std::string& shard : shard_names(index, index_file.string())) {
    files.push_back(index_file.parent_path() / shard);
    require<core::IoError>(std::filesystem::is_regular_file(files.back()), "{} is missing, but {} names it",
                           files.back().string(), index_file.filename().string());
  }
  return files;
}

// ---- what fits ----

std::string shape_text(at::IntArrayRef shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

/// What is wrong with one tensor, or "".
std::string misfit(const StoredTensor& stored, const ParameterSpec& spec, const ModelConfig& config) {
  const at::IntArrayRef shape = stored.values.sizes(), wanted = spec.shape;
  const bool vocabulary = spec.name == kEmbeddingName || spec.name == kHeadName;
  if (vocabulary && shape.size() == 2 && shape[1] == wanted[1] && shape[0] != wanted[0]) {
    const std::string padded = config.vocab_size == config.vocab_rows
                                   ? ""
                                   : fmt::format(" (vocab_size {}, padded)", config.vocab_size);
    return fmt::format("{} has {} vocabulary rows, but config.json says {}{}", stored.name, shape[0],
                       config.vocab_rows, padded);
  }
  if (shape != wanted) {
    return fmt::format("{} has shape {}, but config.json makes it {}", stored.name, shape_text(shape),
                       shape_text(wanted));
  }
  if (!core::dtype_name(stored.values.scalar_type())) {
    return fmt::format("{} has dtype {}, but weights are float16, bfloat16, float32 or float64", stored.name,
                       core::dtype_text(stored.values.scalar_type()));
  }
  return "";
}

struct Misfits {
  std::vector<std::string> lines;
  bool missing = false, unexpected = false;
};

Misfits find_misfits(const StoredWeights& weights, const std::vector<ParameterSpec>& specs,
                     const ModelConfig& config) {
  Misfits misfits;
  std::set<std::string> known;
  for (const ParameterSpec& spec : specs) {
    known.insert(spec.name);
    const auto stored = weights.find(spec.name);
    if (stored == weights.end()) {
      if (spec.name == kHeadName && config.tie_embeddings) continue;
      misfits.missing = true;
      misfits.lines.push_back(spec.name + " is missing");
    } else if (std::string line = misfit(stored->second, spec, config); !line.empty()) {
      misfits.lines.push_back(std::move(line));
    }
  }
  for (const auto& [name, stored] : weights) {
    if (known.count(name) != 0) continue;
    misfits.unexpected = true;
    misfits.lines.push_back(stored.name + " is unexpected");
  }
  return misfits;
}

void refuse(const Misfits& misfits, const std::filesystem::path& folder) {
  constexpr size_t kShown = 5;
  if (misfits.lines.empty()) return;
  const size_t shown = std::min(kShown, misfits.lines.size());
  std::string message = fmt::format(
      "{}: {} tensor(s) do not fit config.json: {}", folder.string(), misfits.lines.size(),
      fmt::join(misfits.lines.begin(), misfits.lines.begin() + static_cast<std::ptrdiff_t>(shown), "; "));
  if (misfits.lines.size() > shown) message += fmt::format("; and {} more", misfits.lines.size() - shown);
  if (misfits.missing && misfits.unexpected)
    message += "; foreign names can be mapped: --names map.toml, in a recipe model.names";
  throw core::InputError(message);
}

}  // namespace

const char* storage_dtype_name(at::ScalarType dtype) {
  const char* name = core::dtype_name(dtype);
  require(name != nullptr, "weights cannot be stored as {}: choose float32, float16, bfloat16 or float64",
          core::dtype_text(dtype));
  return name;
}

bool has_weights(const std::filesystem::path& folder) {
  std::error_code unreadable;
  return std::any_of(kWeightFiles.begin(), kWeightFiles.end(),
                     [&](const char* name) { return std::filesystem::exists(folder / name, unreadable); });
}

std::vector<std::filesystem::path> weight_files(const std::filesystem::path& folder) {
  const std::filesystem::path single = folder / kWeightFiles[0], index = folder / kWeightFiles[1],
                              torch = folder / kWeightFiles[2];
  if (std::filesystem::exists(single)) return {single};
  if (std::filesystem::exists(index)) return shards_of(index);
  if (std::filesystem::exists(torch)) return {torch};
  return {};
}

StoredWeights read_stored_weights(const std::filesystem::path& folder, const TensorNames& names) {
  Collector collector(names);
  const std::vector<std::filesystem::path> files = weight_files(folder);
  require<core::IoError>(!files.empty(), "{}: no weights: neither {} nor {} nor {} is there", folder.string(),
                         kWeightFiles[0], kWeightFiles[1], kWeightFiles[2]);
  for (const std::filesystem::path& file : files) collector.add_file(file);
  return collector.take();
}

void fit_to_config(StoredWeights& weights, const ModelConfig& config, const std::filesystem::path& folder) {
  std::vector<ParameterSpec> specs = parameter_specs(config);
  if (config.tie_embeddings) specs.push_back({kHeadName, {config.vocab_rows, config.d_model}, Decay::kYes});
  refuse(find_misfits(weights, specs, config), folder);

  const auto head = weights.find(kHeadName);
  if (!config.tie_embeddings || head == weights.end()) return;
  const StoredTensor& embedding = weights.at(kEmbeddingName);
  require(at::equal(head->second.values.to(at::kDouble), embedding.values.to(at::kDouble)),
          "{}: {} differs from {}, but config.json ties them: set \"tie_word_embeddings\" to false",
          head->second.file.string(), head->second.name, embedding.name);
  weights.erase(head);
}

void require_finite(const at::Tensor& values, const std::string& where) {
  const at::Tensor finite = at::isfinite(values);
  if (finite.all().item<bool>()) return;
  const at::Tensor index = finite.logical_not().nonzero()[0].contiguous();
  const at::IntArrayRef place(index.const_data_ptr<int64_t>(), static_cast<size_t>(index.numel()));
  at::Tensor element = values;
  for (const int64_t i : place) element = element[i];
  throw core::NumericalError(
      fmt::format("{}{} is {}", where, shape_text(place), core::shown(element.item<double>())));
}

at::Tensor parameter_to_store(const MambaLM& model, const std::string& name, at::ScalarType storage) {
  const at::Tensor values =
      model.parameters().parameter(name).to(at::kCPU, storage, /*non_blocking=*/false, /*copy=*/true);
  require_finite(values, fmt::format("{}, stored as {}: element ", name, storage_dtype_name(storage)));
  return values;
}

}  // namespace exactmamba::models
