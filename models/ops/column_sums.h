// Sums over rows that are the same for every number of threads: rows are cut into blocks of fixed size, each block has its
// own partial sum, and the partial sums are added in order.
#pragma once

#include <algorithm>
#include <vector>

#include <ATen/Parallel.h>

#include "models/ops/vector_math.h"

namespace exactmamba::ops {

/// add_row(row, partial) adds a row's `columns` numbers to its block's partial sum; their total is added to `total`.
/// Rows of different blocks run in parallel.
template <class T, class AddRow>
void add_column_sums(int64_t rows, int64_t columns, T* total, AddRow add_row) {
  constexpr int64_t kBlock = 32;
  const int64_t blocks = (rows + kBlock - 1) / kBlock;
  std::vector<T> partial(blocks * columns);
  at::parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin * kBlock; row < std::min(end * kBlock, rows); ++row)
      add_row(row, partial.data() + row / kBlock * columns);
  });
  if (!total) return;
  for (int64_t b = 0; b < blocks; ++b) {
    const T* from = partial.data() + b * columns;
    for_each_pack<T>(columns, [&](int64_t c, int64_t n) { store(total + c, load(total + c, n) + load(from + c, n), n); });
  }
}

}  // namespace exactmamba::ops
