// The same computation in two places: double on the CPU is the reference for every dtype on the GPU.
#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/max.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/sqrt.h>
#include <ATen/ops/square.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

namespace exactmamba::gpu_tests {

/// Where a case runs. On the GPU parameters and states are float whatever the activations are.
struct Place {
  at::Device device;
  at::ScalarType dtype, wide;

  at::Tensor activation(const at::Tensor& x) const { return x.defined() ? x.to(device, dtype) : x; }
  at::Tensor parameter(const at::Tensor& x) const { return x.defined() ? x.to(device, wide) : x; }
};
inline Place reference() { return {at::kCPU, at::kDouble, at::kDouble}; }
inline Place gpu(at::ScalarType dtype) { return {at::Device(at::kCUDA, 0), dtype, at::kFloat}; }

using Results = std::map<std::string, at::Tensor>;

/// What rounding one result to `dtype` may change, relative: half the distance of neighbours just above a
/// power of two.
inline double rounding(at::ScalarType dtype) {
  if (dtype == at::kBFloat16) return 0x1p-8;
  return dtype == at::kHalf ? 0x1p-11 : 0x1p-24;
}

/// Normal numbers that `dtype` holds exactly, as double on the CPU: both places begin with the same values.
inline at::Tensor random_exact(at::IntArrayRef shape, at::ScalarType dtype, double scale = 1) {
  return at::randn(shape, at::kDouble).mul_(scale).to(dtype).to(at::kDouble);
}

/// Terms of results that are sums, (terms, …shape of the result).
using Terms = std::map<std::string, at::Tensor>;

/// max|reference|. A sum of terms with either sign may be small by chance, and its error is not: terms t that
/// are off by independent errors, each of at most b·|t|, are together off by b·√(Σt²/3) in the root mean
/// square. A sum whose terms are known is therefore measured against √Σt², the size it has where chance does
/// not make it small.
inline double size_of(const std::string& name, const at::Tensor& value, const Terms& terms) {
  const double largest = value.abs().max().item<double>();
  const auto found = terms.find(name);
  if (found == terms.end()) return largest;
  return std::max(largest, found->second.square().sum(0).max().sqrt().item<double>());
}

/// max|difference| / size of every result is below its bound.
inline void expect_close(const Results& expected, const Results& found, double bound, const std::string& what,
                         const Terms& terms = {}) {
  for (const auto& [name, value] : expected) {
    ASSERT_EQ(found.count(name), 1U) << name;
    const at::Tensor got = found.at(name).to(at::kCPU, at::kDouble), want = value.to(at::kDouble);
    ASSERT_EQ(got.sizes(), want.sizes()) << what << ": " << name;
    const double size = size_of(name, want, terms);
    const double error = (got - want).abs().max().item<double>() / std::max(size, 1e-30);
    EXPECT_LE(error, bound) << what << ": " << name << ", size " << size;  // false for NaN too
  }
}

/// ‖found − expected‖ / ‖expected‖, all taken together.
inline double relative_distance(const Results& expected, const Results& found) {
  double difference = 0, size = 0;
  for (const auto& [name, value] : expected) {
    const at::Tensor want = value.to(at::kCPU, at::kDouble), got = found.at(name).to(at::kCPU, at::kDouble);
    difference += (got - want).square().sum().item<double>();
    size += want.square().sum().item<double>();
  }
  return std::sqrt(difference / size);
}

/// Every bit of every result.
inline void expect_identical(const Results& a, const Results& b, const std::string& what) {
  for (const auto& [name, value] : a) EXPECT_TRUE(value.equal(b.at(name))) << what << ": " << name;
}

/// What `roundings` results stored in `dtype`, one computed from the other, and a chain of `sums` in float
/// may add up to.
inline double bound(at::ScalarType dtype, double roundings, double sums) {
  return roundings * rounding(dtype) + sums * 0x1p-24;
}

/// cu_seqlens (CPU) of `batch` rows of `length` positions, each cut at `cuts` (ascending, inside the row).
inline at::Tensor cut_rows(int64_t batch, int64_t length, const std::vector<int64_t>& cuts) {
  std::vector<int32_t> boundaries = {0};
  for (int64_t row = 0; row < batch; ++row) {
    for (const int64_t cut : cuts) boundaries.push_back(static_cast<int32_t>(row * length + cut));
    boundaries.push_back(static_cast<int32_t>((row + 1) * length));
  }
  return at::tensor(boundaries, at::kInt);
}

/// Some sequences of one position, some long ones; none where the row is too short.
inline at::Tensor packed_rows(int64_t batch, int64_t length) {
  if (length < 7) return {};
  const std::set<int64_t> cuts = {1, 2, length / 3, length / 2 + 1, length - 1};
  return cut_rows(batch, length, {cuts.begin(), cuts.end()});
}

inline constexpr int64_t kLengths[] = {1, 2, 7, 129, 151, 372, 2049, 4097};
inline constexpr at::ScalarType kDtypes[] = {at::kFloat, at::kBFloat16, at::kHalf};

}  // namespace exactmamba::gpu_tests
