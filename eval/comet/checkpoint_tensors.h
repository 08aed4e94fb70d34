// The tensors of a checkpoint of Lightning, asked for by name and shape.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include <ATen/core/Tensor.h>

#include "core/torch_file.h"

namespace exactmamba::eval {

class CheckpointTensors {
 public:
  /// @throws IoError, InputError
  explicit CheckpointTensors(const std::filesystem::path& file,
                             core::TorchRead what = core::TorchRead::kValues);
  /// @throws InputError when there is no such tensor of floating point numbers, or it has another shape
  at::Tensor at(const std::string& name, at::IntArrayRef shape) const;
  /// Of a tensor of one number; 0 where only shapes were read. @throws as at()
  double number(const std::string& name) const;
  bool contains(const std::string& name) const { return tensors_.contains(name); }
  const std::string& file() const { return file_; }

 private:
  std::string file_;
  std::map<std::string, at::Tensor> tensors_;
};

}  // namespace exactmamba::eval
