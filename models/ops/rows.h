// How operators see a (B, L, …) tensor and its sequences, free of LibTorch so that kernels may include it.
#pragma once

#include <cstdint>

namespace exactmamba::ops {

/// One sequence: positions [begin, end) of the flattened B·L. It never crosses a row of the batch.
struct Sequence {
  int64_t begin, end;
};

/// The tokens of a (B, L, …) tensor whose dimensions behind L are contiguous. Strides in elements.
template <class T>
struct Rows {
  T* data = nullptr;   // [nullable]
  int64_t length = 1;  // L
  int64_t batch_stride = 0, token_stride = 0;

  explicit operator bool() const { return data != nullptr; }
  /// The row of a flattened position.
  T* at(int64_t position) const {
    return data + (position / length) * batch_stride + (position % length) * token_stride;
  }
};

}  // namespace exactmamba::ops
