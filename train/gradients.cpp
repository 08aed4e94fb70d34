#include "train/gradients.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>

namespace exactmamba::train {
namespace {

using models::Decay;
constexpr std::array kGroups = {Decay::kYes, Decay::kNo};

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

double squared_norm(const at::Tensor& flat) {
  if (flat.is_cuda()) return std::pow(flat.norm().item<double>(), 2);
  return AT_DISPATCH_FLOATING_TYPES(flat.scalar_type(), "gradient_norm", [&] {
    return parallel_sum_of_squares(flat.const_data_ptr<scalar_t>(), flat.numel());
  });
}

}  // namespace

double gradient_norm(models::ParameterStore& store) {
  double sum = 0;
  for (Decay group : kGroups) sum += squared_norm(store.flat_gradient(group));
  return std::sqrt(sum);
}

double clip_gradients(models::ParameterStore& store, double norm, double max_norm) {
  if (max_norm == 0) return 1.0;
  const double coefficient = std::min(1.0, max_norm / (norm + 1e-6));
  if (coefficient < 1.0)
    for (Decay group : kGroups) store.flat_gradient(group).mul_(coefficient);
  return coefficient;
}

}  // namespace exactmamba::train
