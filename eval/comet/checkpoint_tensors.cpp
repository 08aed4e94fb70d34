#include "eval/comet/checkpoint_tensors.h"

#include <fmt/ranges.h>

#include "core/error.h"

namespace exactmamba::eval {

CheckpointTensors::CheckpointTensors(const std::filesystem::path& file, core::TorchRead what)
    : file_(file.string()) {
  for (auto& [name, tensor] : core::read_torch_state_dict(file, what)) tensors_.emplace(name, tensor);
}

double CheckpointTensors::number(const std::string& name) const {
  const at::Tensor tensor = at(name, {1});
  return tensor.is_meta() ? 0 : tensor.item<double>();
}

at::Tensor CheckpointTensors::at(const std::string& name, at::IntArrayRef shape) const {
  const auto found = tensors_.find(name);
  core::require(found != tensors_.end(), "{}: has no tensor {}", file_, name);
  const at::Tensor& tensor = found->second;
  core::require(tensor.sizes() == shape,
                "{}: {} has shape [{}], but hparams.yaml and the encoder's config.json make it [{}]", file_,
                name, fmt::join(tensor.sizes(), ", "), fmt::join(shape, ", "));
  core::require(tensor.is_floating_point(), "{}: {} holds no floating point numbers", file_, name);
  return tensor;
}

}  // namespace exactmamba::eval
