#include "models/ops/dropout/dropout.h"

#include <algorithm>
#include <cmath>

#include <ATen/Parallel.h>

#include "core/random.h"
#include "models/ops/checks.h"
#include "models/ops/dropout/dropout_cuda.h"

namespace exactmamba::ops {
namespace {

constexpr int64_t kGrain = 1 << 12;  // blocks of a thread at least

/// Blocks `first` to `last` of one row.
template <class T>
void drop(const T* x, T* out, int64_t size, const DropoutDraws& draws, int64_t row, int64_t first,
          int64_t last) {
  const core::RandomStream stream = draws.row(row);
  const T scale = static_cast<T>(draws.scale);
  for (int64_t k = first; k < last; ++k) {
    const core::PhiloxBlock words = stream.block(static_cast<uint64_t>(k));
    const int64_t begin = 4 * k, end = std::min(begin + 4, size);
    for (int64_t e = begin; e < end; ++e) out[e] = words[e - begin] >= draws.threshold ? x[e] * scale : T(0);
  }
}

template <class T>
void dropout_cpu(const at::Tensor& x, const DropoutDraws& draws, const at::Tensor& out) {
  const int64_t rows = x.size(0), size = x.size(1) * x.size(2), blocks = (size + 3) / 4;
  const T* from = x.const_data_ptr<T>();
  T* to = out.mutable_data_ptr<T>();
  at::parallel_for(0, rows * blocks, kGrain, [&](int64_t begin, int64_t end) {
    while (begin < end) {
      const int64_t row = begin / blocks, first = begin % blocks,
                    last = std::min(blocks, first + end - begin);
      drop(from + row * size, to + row * size, size, draws, row, first, last);
      begin += last - first;
    }
  });
}

}  // namespace

core::RandomStream DropoutDraws::row(int64_t index) const {
  return {mask.seed, "dropout", static_cast<uint64_t>(mask.layer),
          static_cast<uint64_t>(mask.first_row + index)};
}

void dropout(const at::Tensor& x, const DropoutMask& mask, const at::Tensor& out) {
  const OperatorChecks checks("dropout", "x", x);
  checks.dimensions("x", x, 3, "(B, L, d)");
  checks.dense("x", x, x.sizes());
  checks.dense("out", out, x.sizes());
  core::require(mask.rate >= 0 && mask.rate < 1, "dropout: the rate is {}, but must be in [0, 1)", mask.rate);
  core::require(x.size(1) * x.size(2) <= int64_t(1) << 34,
                "dropout: a row of {} × {} numbers is longer than a random stream", x.size(1), x.size(2));
  const DropoutDraws draws{mask, static_cast<uint32_t>(std::min(std::round(mask.rate * 0x1p32), 0x1p32 - 1)),
                           1 / (1 - mask.rate)};
  if (x.is_cuda()) return dropout_cuda(x, draws, out);
  dispatch_floating(x.scalar_type(), [&]<class T>() { dropout_cpu<T>(x, draws, out); });
}

}  // namespace exactmamba::ops
