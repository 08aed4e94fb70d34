#include <algorithm>
#include <cmath>

#include <ATen/Parallel.h>

#include "models/ops/linear_cross_entropy/linear_cross_entropy_params.h"
#include "models/ops/vector_math.h"

namespace exactmamba::ops {
namespace {

template <class T>
T largest(const T* row, int64_t size) {
  const int64_t whole = size - size % kLanes<T>;
  T top = row[0];
  if (whole) {
    Pack<T> tops = load(row);
    for (int64_t c = kLanes<T>; c < whole; c += kLanes<T>) {
      const Pack<T> x = load(row + c);
      tops = x > tops ? x : tops;
    }
    for (int64_t i = 0; i < kLanes<T>; ++i) top = std::max<T>(top, tops[i]);
  }
  for (int64_t c = whole; c < size; ++c) top = std::max(top, row[c]);
  return top;
}

/// Σ (top − row) in double: no cancellation where the logits are large but close together.
template <class T>
double sum_below(const T* row, int64_t size, T top) {
  double sum = 0;
  for (int64_t c = 0; c < size; ++c) sum += static_cast<double>(top) - static_cast<double>(row[c]);
  return sum;
}

/// Replaces the row by exp(row − top). @return its sum, added in double per stretch of columns.
template <class T>
double exponentiate(T* row, int64_t size, T top) {
  constexpr int64_t kStretch = 1024;
  double sum = 0;
  for (int64_t first = 0; first < size; first += kStretch) {
    Pack<T> sums{};
    for_each_pack<T>(std::min(kStretch, size - first), [&](int64_t c, int64_t n) {
      const Pack<T> e = exp(load(row + first + c, n) - top);
      store(row + first + c, e, n);
      sums += n == kLanes<T> ? e : load(row + first + c, n);  // no lanes beyond the row
    });
    sum += sum_of_lanes(sums);
  }
  return sum;
}

template <class T>
void finish_gradient(const CrossEntropyRowsParams<T>& params, T* row, int64_t target, double sum) {
  const double smoothing = params.label_smoothing;
  const T factor = static_cast<T>(params.scale / sum),
          everywhere = static_cast<T>(params.scale * smoothing / static_cast<double>(params.vocabulary));
  for_each_pack<T>(params.vocabulary,
                   [&](int64_t c, int64_t n) { store(row + c, load(row + c, n) * factor - everywhere, n); });
  row[target] -= static_cast<T>(params.scale * (1 - smoothing));
}

template <class T>
void process_row(const CrossEntropyRowsParams<T>& params, int64_t r) {
  T* row = params.logits + r * params.vocabulary;
  if (params.predictions) params.predictions[r] = std::max_element(row, row + params.true_vocab) - row;
  const int64_t target = params.targets[r];
  if (target == kIgnoredTarget) {
    params.losses[r] = 0;
    if (params.write_gradient) std::fill_n(row, params.vocabulary, T(0));
    return;
  }
  const T top = largest(row, params.vocabulary);
  double distance = static_cast<double>(top) - static_cast<double>(row[target]);
  if (params.label_smoothing > 0)
    distance += params.label_smoothing *
                (sum_below(row, params.vocabulary, top) / static_cast<double>(params.vocabulary) - distance);
  const double sum = exponentiate(row, params.vocabulary, top);
  params.losses[r] = static_cast<T>(std::log(sum) + distance);
  if (params.write_gradient) finish_gradient(params, row, target, sum);
}

}  // namespace

template <class T>
void cross_entropy_rows_cpu(const CrossEntropyRowsParams<T>& params) {
  at::parallel_for(0, params.rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) process_row(params, r);
  });
}

template void cross_entropy_rows_cpu(const CrossEntropyRowsParams<float>&);
template void cross_entropy_rows_cpu(const CrossEntropyRowsParams<double>&);

}  // namespace exactmamba::ops
