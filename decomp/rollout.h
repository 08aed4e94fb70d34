// How the influence of input tokens spreads through layers that each mix them by a row-stochastic map.
#pragma once

#include <ATen/core/Tensor.h>

#include "decomp/approximation.h"

namespace exactmamba::decomp {

/// R^l = C^l ⋯ C^0 with R^{-1} = I; C^l is AltiMap with the residual. With a bias column the maps are (L,
/// L+1): what reaches a bias stays there, so that rows still sum to 1.
class Rollout {
 public:
  Rollout(int64_t length, BiasRule bias, at::TensorOptions options);
  /// Σ_k map[i, k] R^{l-1}[k, j]: a map over this layer's inputs as one over input tokens. `map` (L, L); a
  /// bias column of it is left out.
  at::Tensor mixed(const at::Tensor& map) const;
  /// Takes layer l in. @return R^l
  const at::Tensor& add(const at::Tensor& layer_map);

 private:
  int64_t length_;
  at::Tensor product_;  // (L, L) or (L, L+1)
};

}  // namespace exactmamba::decomp
