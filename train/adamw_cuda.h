// AdamW of one flat buffer on a GPU.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "train/optimizer.h"

namespace exactmamba::train {

/// All of one size, in float but for `compute`.
struct AdamWBuffers {
  at::Tensor parameters, exp_avg, exp_avg_sq, gradient;
  at::Tensor compute;  // copy of the parameters in the compute dtype [nullable]
};

/// Update `step`, counted from 1, with the gradient times `factor` (() double); nothing changes where
/// `allowed` (() bool) is false.
void adamw_cuda(const AdamWBuffers& buffers, const AdamWOptions& options, int64_t step, double learning_rate,
                const at::Tensor& factor, const at::Tensor& allowed);

}  // namespace exactmamba::train
