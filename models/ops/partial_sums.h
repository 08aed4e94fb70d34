// Sums over tasks that are the same for every number of threads: each task has a partial sum of its own, and
// the partial sums are added in the tasks' order.
#pragma once

#include <algorithm>
#include <vector>

#include <ATen/Parallel.h>

#include "models/ops/rows.h"
#include "models/ops/vector_math.h"

namespace exactmamba::ops {

/// add_row(row, partial) adds a row's `columns` numbers to the partial sum of its block of rows; their total
/// is added to `total` [nullable]. Rows of different blocks run in parallel.
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
    for_each_pack<T>(
        columns, [&](int64_t c, int64_t n) { store(total + c, load(total + c, n) + load(from + c, n), n); });
  }
}

/// The gradient of B or C, rows of (groups, states): `partials` (blocks, tokens, states) summed over the
/// blocks of each group; the blocks lie group by group. Nothing happens without `grad`.
template <class T>
void sum_blocks_of_groups(const T* partials, int64_t tokens, int64_t states, int64_t groups, int64_t blocks,
                          const Rows<T>& grad) {
  if (!grad) return;
  constexpr int64_t kGrain = 64;
  const int64_t per_group = blocks / groups, stride = tokens * states;
  at::parallel_for(0, tokens, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t token = begin; token < end; ++token)
      for (int64_t group = 0; group < groups; ++group) {
        const T* from = partials + group * per_group * stride + token * states;
        T* to = grad.at(token) + group * states;
        std::copy_n(from, states, to);
        for (int64_t block = 1; block < per_group; ++block)
          for (int64_t n = 0; n < states; ++n) to[n] += from[block * stride + n];
      }
  });
}

}  // namespace exactmamba::ops
