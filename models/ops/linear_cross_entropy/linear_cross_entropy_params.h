// The contract between linear_cross_entropy.cpp, which forms a block of logits, and the row-wise part of the
// loss.
#pragma once

#include <cstdint>

namespace exactmamba::ops {

inline constexpr int64_t kIgnoredTarget = -100;

template <class T>
struct CrossEntropyRowsParams {
  int64_t rows = 0, vocabulary = 0;  // V
  T* logits = nullptr;               // (rows, V); overwritten
  const int64_t* targets = nullptr;  // (rows), in [0, V) or kIgnoredTarget
  T* losses = nullptr;               // (rows)
  int64_t* predictions = nullptr;    // (rows): argmax over the first `true_vocab` columns [nullable]
  int64_t true_vocab = 0;
  bool write_gradient = false;  // leave scale · (softmax − smoothed onehot) in `logits`, 0 in ignored rows
  double scale = 0;
  double label_smoothing = 0;  // only with write_gradient
};

template <class T>
void cross_entropy_rows_cpu(const CrossEntropyRowsParams<T>& params);

}  // namespace exactmamba::ops
