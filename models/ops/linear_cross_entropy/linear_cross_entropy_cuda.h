// The row-wise part of the loss on a GPU.
#pragma once

#include <optional>

#include <ATen/core/Tensor.h>

namespace exactmamba::ops {

/// A block of tokens; all tensors on one device.
struct LossRows {
  at::Tensor logits;       // (rows, V); overwritten
  at::Tensor targets;      // (rows) int64, in [0, V) or kIgnoredTarget
  at::Tensor losses;       // (rows), float on a GPU
  at::Tensor predictions;  // (rows) int64: argmax over the first `true_vocab` columns [nullable]
  int64_t true_vocab = 0;
  std::optional<double> scale;  // leave scale · (softmax − smoothed onehot) in `logits`, 0 in ignored rows
  double label_smoothing = 0;   // only with `scale`
};

void cross_entropy_rows_cuda(const LossRows& rows);

}  // namespace exactmamba::ops
