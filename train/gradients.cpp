#include "train/gradients.h"

#include <algorithm>
#include <array>
#include <numeric>

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/clamp_max.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/sqrt.h>
#include <ATen/ops/square.h>

namespace exactmamba::train {
namespace {

using models::Decay;

constexpr int64_t kBlock = 1 << 15;  // elements summed by one thread in one go

/// Eight running sums, so that the loop vectorises without reordering what the source says.
template <class T>
double sum_of_squares(const T* values, int64_t count) {
  constexpr int64_t kLanes = 8;
  std::array<double, kLanes> sums{};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const double value = values[i + lane];
      sums[lane] += value * value;
    }
  }
  for (; i < count; ++i) sums[0] += static_cast<double>(values[i]) * values[i];
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

template <class T>
double parallel_sum_of_squares(const T* values, int64_t count) {
  std::vector<double> blocks((count + kBlock - 1) / kBlock);
  at::parallel_for(0, static_cast<int64_t>(blocks.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b)
      blocks[b] = sum_of_squares(values + b * kBlock, std::min(kBlock, count - b * kBlock));
  });
  return std::accumulate(blocks.begin(), blocks.end(), 0.0);
}

at::Tensor squared_norm(const at::Tensor& flat) {
  if (flat.is_cuda()) return at::_foreach_norm(flat, 2, at::kDouble)[0].square();  // no copy in double
  const double sum = AT_DISPATCH_FLOATING_TYPES(flat.scalar_type(), "gradient_norm", [&] {
    return parallel_sum_of_squares(flat.const_data_ptr<scalar_t>(), flat.numel());
  });
  return at::scalar_tensor(sum, at::kDouble);
}

}  // namespace

at::Tensor gradient_norm(models::ParameterStore& store) {
  return squared_norm(store.flat_gradient(Decay::kYes))
      .add_(squared_norm(store.flat_gradient(Decay::kNo)))
      .sqrt_();
}

at::Tensor clip_coefficient(const at::Tensor& norm, double max_norm) {
  if (max_norm == 0) return at::ones_like(norm);
  return at::full_like(norm, max_norm).div_(norm + 1e-6).clamp_max_(1.0);
}

}  // namespace exactmamba::train
