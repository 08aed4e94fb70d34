// safetensors files: memory-mapped reading, atomic writing. https://github.com/huggingface/safetensors
// (format section)
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/files.h"

namespace exactmamba::core {

class SafetensorsFile {
 public:
  /// Maps the file and checks the whole header before returning: header ≤ 100 MB, offsets inside the file,
  /// without gaps or overlap, size = product(shape) · bytes(dtype) without overflow, no duplicate names,
  /// known dtypes.
  /// @throws IoError, InputError ("file: byte N: …")
  explicit SafetensorsFile(const std::filesystem::path& file);

  const std::filesystem::path& path() const { return path_; }
  const std::vector<std::string>& names() const { return names_; }  // in file order
  bool contains(const std::string& name) const { return entries_.count(name) != 0; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

  /// A view of the mapping (which it keeps alive), in the stored dtype. Read only: clone before writing.
  /// @throws InputError when `name` is not in the file.
  at::Tensor tensor(const std::string& name) const;

  struct Entry {
    at::ScalarType dtype;
    std::vector<int64_t> shape;
    size_t begin, end;  // bytes from the start of the file
  };
  const Entry& entry(const std::string& name) const;

 private:
  std::filesystem::path path_;
  std::shared_ptr<void> mapping_;
  std::vector<std::string> names_;
  std::map<std::string, Entry> entries_;
  std::map<std::string, std::string> metadata_;
};

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

/// Tensors are written in the given order, contiguous, on the CPU, in their own dtype. Atomic. @throws
/// IoError
void write_safetensors(const std::filesystem::path& file, const NamedTensors& tensors,
                       const std::map<std::string, std::string>& metadata = {},
                       Durable durable = Durable::kNow);

}  // namespace exactmamba::core
