#include "core/random.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <gtest/gtest.h>

#include "core/error.h"

namespace exactmamba::core {
namespace {

// Known answers published with Random123 (kat_vectors, philox4x32 10).
TEST(Philox, KnownAnswers) {
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}), (PhiloxBlock{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr uint32_t kOnes = 0xffffffff;
  EXPECT_EQ(philox4x32({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}),
            (PhiloxBlock{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (PhiloxBlock{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

std::vector<uint64_t> draws(RandomStream stream, int n) {
  std::vector<uint64_t> values;
  for (int i = 0; i < n; ++i) values.push_back(stream.next_u64());
  return values;
}

TEST(RandomStream, DependsOnEveryPartOfItsIdentity) {
  constexpr uint64_t kHigh = uint64_t{1} << 40;
  const std::vector<RandomStream> streams = {{0, "a"},        {1, "a"},           {0, "b"},
                                             {0, ""},         {0, "a", 1},        {0, "a", 0, 1},
                                             {0, "a", kHigh}, {0, "a", 0, kHigh}, {0, "a", 1, 1}};
  std::set<uint64_t> all;
  for (const RandomStream& stream : streams) {
    for (const uint64_t value : draws(stream, 100)) all.insert(value);
    EXPECT_EQ(draws(stream, 9), draws(stream, 9));
  }
  EXPECT_EQ(all.size(), streams.size() * 100);
  EXPECT_THROW(RandomStream(0, "a", uint64_t{1} << 48), InputError);
  EXPECT_THROW(RandomStream(0, "a", 0, uint64_t{1} << 48), InputError);
}

// Mean, variance and the Kolmogorov–Smirnov distance of n draws; 1.95/√n is exceeded once in a thousand.
void expect_distribution(std::vector<double> values, double mean, double variance, double (*cdf)(double)) {
  const double n = static_cast<double>(values.size());
  double sum = 0, squares = 0, distance = 0;
  std::sort(values.begin(), values.end());
  for (size_t i = 0; i < values.size(); ++i) {
    sum += values[i];
    squares += (values[i] - mean) * (values[i] - mean);
    const double expected = cdf(values[i]);
    distance = std::max({distance, std::abs(static_cast<double>(i) / n - expected),
                         std::abs(static_cast<double>(i + 1) / n - expected)});
  }
  EXPECT_NEAR(sum / n, mean, 4 * std::sqrt(variance / n));
  EXPECT_NEAR(squares / n, variance, 8 * variance / std::sqrt(n));
  EXPECT_LT(distance, 1.95 / std::sqrt(n));
}

double uniform_cdf(double x) { return std::clamp(x, 0.0, 1.0); }
double normal_cdf(double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }

TEST(RandomStream, Distributions) {
  constexpr int kDraws = 200000;
  RandomStream stream(7, "distributions");
  std::vector<double> uniform;
  for (int i = 0; i < kDraws; ++i) uniform.push_back(stream.uniform());
  EXPECT_GE(*std::min_element(uniform.begin(), uniform.end()), 0.0);
  EXPECT_LT(*std::max_element(uniform.begin(), uniform.end()), 1.0);
  expect_distribution(uniform, 0.5, 1.0 / 12, uniform_cdf);
}

std::vector<double> values_of(const at::Tensor& tensor) {
  const double* data = tensor.const_data_ptr<double>();
  return {data, data + tensor.numel()};
}

TEST(RandomStream, FilledTensorsHaveTheDistribution) {
  at::Tensor tensor = at::empty({300, 701}, at::kDouble);
  RandomStream stream(7, "fill");
  stream.fill_normal(tensor, 0, 1);
  expect_distribution(values_of(tensor), 0, 1, normal_cdf);
  stream.fill_uniform(tensor, 0, 1);
  expect_distribution(values_of(tensor), 0.5, 1.0 / 12, uniform_cdf);
  stream.fill_normal(tensor, 3, 0.25);
  EXPECT_NEAR(tensor.mean().item<double>(), 3, 4 * 0.25 / std::sqrt(300 * 701));
}

TEST(RandomStream, FillingIsTheSameInEveryDtypeLayoutAndNumberOfThreads) {
  const auto filled = [](at::Tensor tensor) {
    RandomStream(3, "dtype").fill_normal(tensor, 1, 2);
    return tensor;
  };
  const at::Tensor reference = filled(at::empty({157, 431}, at::kDouble));
  for (const at::ScalarType dtype : {at::kFloat, at::kHalf, at::kBFloat16}) {
    EXPECT_TRUE(at::equal(filled(at::empty({157, 431}, dtype)), reference.to(dtype)));
  }
  EXPECT_TRUE(at::equal(filled(at::empty({431, 157}, at::kDouble).t()), reference));
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  EXPECT_TRUE(at::equal(filled(at::empty({157, 431}, at::kDouble)), reference));
  at::set_num_threads(threads);
}

TEST(RandomStream, FillsFollowEachOtherWithoutOverlap) {
  RandomStream stream(3, "odd");
  std::set<double> all;
  for (const int64_t n : {1, 2, 7, 129}) {
    at::Tensor tensor = at::empty({n}, at::kDouble);
    stream.fill_uniform(tensor, 0, 1);
    for (const double value : values_of(tensor)) all.insert(value);
    all.insert(stream.uniform());
  }
  EXPECT_EQ(all.size(), 1u + 2 + 7 + 129 + 4);
}

TEST(RandomStream, WholeNumbersAreEvenlySpread) {
  RandomStream stream(5, "ints");
  std::vector<int> counts(7);
  for (int i = 0; i < 70000; ++i) ++counts.at(static_cast<size_t>(stream.uniform_int(-3, 3) + 3));
  for (const int count : counts) EXPECT_NEAR(count, 10000, 5 * std::sqrt(10000.0 * 6 / 7));
  EXPECT_EQ(stream.uniform_int(4, 4), 4);
  EXPECT_NO_THROW(stream.uniform_int(INT64_MIN, INT64_MAX));
  EXPECT_THROW(stream.uniform_int(1, 0), InputError);
}

TEST(RandomStream, PermutationsAreEvenlySpread) {
  RandomStream stream(5, "permutation");
  std::map<std::vector<int64_t>, int> counts;
  for (int i = 0; i < 24000; ++i) ++counts[stream.permutation(4)];
  EXPECT_EQ(counts.size(), 24u);
  for (const auto& [order, count] : counts) EXPECT_NEAR(count, 1000, 5 * std::sqrt(1000.0));
  EXPECT_TRUE(stream.permutation(0).empty());
  EXPECT_EQ(stream.permutation(1), std::vector<int64_t>{0});
}

}  // namespace
}  // namespace exactmamba::core
