// What both implementations of dropout draw, and the one on a GPU. The tensors have been checked.
#pragma once

#include "core/random.h"
#include "models/ops/dropout/dropout.h"

namespace exactmamba::ops {

struct DropoutDraws {
  DropoutMask mask;
  uint32_t threshold;  // of words that keep
  double scale;        // of what is kept

  core::RandomStream row(int64_t index) const;  // of the batch
};

void dropout_cuda(const at::Tensor& x, const DropoutDraws& draws, const at::Tensor& out);

}  // namespace exactmamba::ops
