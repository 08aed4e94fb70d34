// What one micro-batch is: rows of token ids, what to predict, and where sequences begin.
#pragma once

#include <ATen/core/Tensor.h>

namespace exactmamba::data {

inline constexpr int64_t kIgnoredTarget = -100;

struct Batch {
  at::Tensor input_ids;  // (B, L) int64
  at::Tensor
      targets;  // (B, L) int64: the token to predict AT this position (already shifted); -100 = no target
  at::Tensor cu_seqlens;     // (S+1) int32 over the flattened B·L, every row start included; never undefined
  int64_t target_count = 0;  // targets that are not -100
  int64_t first_row = 0;     // of a training: number of the first row, counted over ranks and epochs
};

}  // namespace exactmamba::data
