#include "decomp/rollout.h"

#include <ATen/ops/eye.h>
#include <ATen/ops/mm.h>

namespace exactmamba::decomp {

Rollout::Rollout(int64_t length, BiasRule bias, at::TensorOptions options)
    : length_(length), product_(at::eye(length, length + (bias == BiasRule::kSeparate ? 1 : 0), options)) {}

at::Tensor Rollout::mixed(const at::Tensor& map) const { return at::mm(map.narrow(1, 0, length_), product_); }

const at::Tensor& Rollout::add(const at::Tensor& layer_map) {
  at::Tensor product = mixed(layer_map);
  if (layer_map.size(1) > length_) product.select(1, length_).add_(layer_map.select(1, length_));
  product_ = product;
  return product_;
}

}  // namespace exactmamba::decomp
