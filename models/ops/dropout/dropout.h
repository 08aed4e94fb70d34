// Dropout (Srivastava et al. 2014): out = x ⊙ keep / (1 − rate), with keep 1 with probability 1 − rate and 0
// otherwise. What is kept follows from the seed, the layer, the number of a row in the training and the place
// in that row alone, so it is the same on a CPU and a GPU, in any batch, on any rank, and whenever it is
// computed again. Being linear, the operator is its own gradient: grad_x = dropout(grad_out) with the same
// mask. On a CPU x is float or double, on a GPU float, bfloat16 or half.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace exactmamba::ops {

/// Number e of row `first_row + b`, counted over its L·d numbers, is kept where word e of the stream
/// core::RandomStream(seed, "dropout", layer, row) is at least rate · 2³².
struct DropoutMask {
  double rate = 0;  // in [0, 1)
  uint64_t seed = 0;
  int64_t layer = 0, first_row = 0;
};

/// x (B, L, d); `out` is like it, and may be x itself. @throws InputError
void dropout(const at::Tensor& x, const DropoutMask& mask, const at::Tensor& out);

}  // namespace exactmamba::ops
