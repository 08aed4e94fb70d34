// Tiles against the closed form and against the layer's own output: odd lengths, packed rows, tile shapes,
// threads, long decays.
#include <cmath>
#include <limits>
#include <tuple>
#include <utility>
#include <vector>

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "decomp/aggregators.h"
#include "decomp/approximation_error.h"
#include "decomp/tile_producer.h"
#include "tests/decomp/traces.h"
#include "tests/support/tensors.h"

namespace exactmamba::decomp {
namespace {

using models::ActivationKind;
using models::ConvActivation;
using testing::LayerSpec;

constexpr models::Architecture kArchitectures[] = {models::Architecture::kMamba1,
                                                   models::Architecture::kMamba2};

LayerSpec make_spec(models::Architecture architecture, std::vector<int> bounds,
                    ConvActivation activation = {}) {
  LayerSpec spec;
  spec.architecture = architecture;
  spec.bounds = std::move(bounds);
  spec.activation = activation;
  return spec;
}

/// Every pair of the layer, in fp64, against the closed form.
void expect_closed_form(const LayerSpec& spec, Approximation approximation, BiasRule bias, TileShape shape) {
  const models::LayerTrace trace = testing::random_trace(spec);
  FullContributions full(trace, bias);
  produce_tiles(trace, approximation, bias, {&full}, shape);
  at::Tensor expected = at::zeros_like(full.contributions());
  for (int64_t n = 0; n < expected.size(0); ++n) {
    const int64_t i = full.pairs()[n][0].item<int64_t>(), j = full.pairs()[n][1].item<int64_t>();
    EXPECT_LE(spec.sequence_start(i), j);
    expected.select(0, n).copy_(testing::closed_form(spec, trace, approximation, bias, i, j));
  }
  EXPECT_LE(testing::relative_difference(full.contributions(), expected), 1e-13)
      << approximation_name(approximation);
  if (bias == BiasRule::kOwn) return;
  at::Tensor expected_bias = at::zeros_like(trace.y);
  for (int64_t i = 0; i < spec.length(); ++i)
    expected_bias.select(0, i).copy_(
        testing::closed_form(spec, trace, approximation, bias, i, spec.length()));
  EXPECT_LE(testing::relative_difference(full.bias(), expected_bias), 1e-13)
      << approximation_name(approximation);
}

TEST(Tiles, EqualTheClosedForm) {
  for (const auto architecture : kArchitectures)
    for (const Approximation approximation : testing::kApproximations)
      for (const BiasRule bias : {BiasRule::kOwn, BiasRule::kSeparate})
        expect_closed_form(make_spec(architecture, {0, 7}), approximation, bias, {3, 2});
}

TEST(Tiles, HoldForOddLengthsAndTileShapes) {
  for (const auto architecture : kArchitectures)
    for (const auto& [length, shape] :
         {std::pair{1, TileShape{64, 64}}, {2, {1, 1}}, {7, {5, 3}}, {33, {8, 8}}, {33, {64, 5}}})
      expect_closed_form(make_spec(architecture, {0, length}), Approximation::kActivation, BiasRule::kOwn,
                         shape);
}

TEST(Tiles, NeverCrossASequence) {
  for (const auto architecture : kArchitectures)
    for (const Approximation approximation : {Approximation::kActivation, Approximation::kRatio})
      expect_closed_form(make_spec(architecture, {0, 5, 6, 8, 19}), approximation, BiasRule::kSeparate,
                         {4, 3});
}

TEST(Tiles, FollowAnnealedActivations) {
  for (const ActivationKind kind : {ActivationKind::kRelu, ActivationKind::kIdentity})
    for (const Approximation approximation : testing::kApproximations)
      expect_closed_form(make_spec(models::Architecture::kMamba1, {0, 6}, {kind, 0.3}), approximation,
                         BiasRule::kOwn, {64, 64});
}

TEST(Tiles, CarryTheBiasOfOutProj) {
  for (const BiasRule bias : {BiasRule::kOwn, BiasRule::kSeparate})
    for (const bool conv_bias : {true, false}) {
      LayerSpec spec = make_spec(models::Architecture::kMamba2, {0, 3, 7});
      spec.out_bias = true;
      spec.conv_bias = conv_bias;
      expect_closed_form(spec, Approximation::kActivation, bias, {2, 2});
    }
}

/// 80 channels are more than one block of lanes, and not a multiple of one; so are 40 of a head.
TEST(Tiles, HoldForOtherSizes) {
  for (const auto& [D, N, W, d] : {std::tuple{37, 3, 2, 19}, {80, 5, 4, 23}}) {
    LayerSpec spec = make_spec(models::Architecture::kMamba1, {0, 2, 9});
    std::tie(spec.D, spec.N, spec.W, spec.d) = std::tuple{D, N, W, d};
    expect_closed_form(spec, Approximation::kActivation, BiasRule::kOwn, {4, 4});
  }
  for (const auto& [D, H, G, d] : {std::tuple{30, 6, 3, 17}, {80, 2, 1, 23}, {80, 2, 2, 23}}) {
    LayerSpec spec = make_spec(models::Architecture::kMamba2, {0, 2, 9});
    std::tie(spec.D, spec.H, spec.G, spec.N, spec.W, spec.d) = std::tuple{D, H, G, 7, 3, d};
    expect_closed_form(spec, Approximation::kActivation, BiasRule::kOwn, {4, 4});
  }
}

double exactness(const models::LayerTrace& trace, Approximation approximation, BiasRule bias) {
  const at::Tensor sum = contribution_sum(trace, approximation, bias);
  return approximation_error(trace, approximation, bias, sum).value(ErrorMeasure::kL2Mean);
}

TEST(Sums, AreTheOutputWhereTheFormIsExact) {
  for (const auto architecture : kArchitectures)
    for (const int length : {1, 2, 7, 129})
      for (const BiasRule bias : {BiasRule::kOwn, BiasRule::kSeparate})
        for (const auto& [kind, approximation] :
             {std::pair{ActivationKind::kIdentity, Approximation::kActivation},
              {ActivationKind::kSilu, Approximation::kRatio},
              {ActivationKind::kRelu, Approximation::kRatio}}) {
          LayerSpec spec = make_spec(architecture, {0, length}, {kind, 1.0});
          spec.out_bias = true;
          const models::LayerTrace trace = testing::random_trace(spec);
          EXPECT_LE(exactness(trace, approximation, bias), 1e-12);
          EXPECT_LE(exactness(testing::to_dtype(trace, at::kFloat), approximation, bias), 1e-5);
        }
}

TEST(Errors, LeaveOutPositionsWithoutOutput) {
  for (const auto architecture : kArchitectures) {
    models::LayerTrace trace = testing::random_trace(make_spec(architecture, {0, 7}));
    trace.y[2] = 0;
    const Approximation approximation = Approximation::kActivation;
    const at::Tensor sum = contribution_sum(trace, approximation, BiasRule::kOwn);
    const ApproximationError error = approximation_error(trace, approximation, BiasRule::kOwn, sum);
    EXPECT_EQ(error.positions(), 7);
    EXPECT_EQ(error.without_output(), 1);
    double ratios = 0;
    for (const int64_t i : {0, 1, 3, 4, 5, 6})
      ratios += (trace.y[i] - sum[i]).norm().item<double>() / trace.y[i].norm().item<double>();
    EXPECT_NEAR(error.value(ErrorMeasure::kL2Mean), ratios / 6, 1e-12);

    // 0 that is approximated by 0 is exact.
    const ApproximationError exact = approximation_error(trace, approximation, BiasRule::kOwn, trace.y);
    EXPECT_EQ(exact.without_output(), 0);
    EXPECT_EQ(exact.value(ErrorMeasure::kL2Mean), 0);

    // NaN is no ratio that is left out.
    sum[2][1] = std::nan("");
    EXPECT_TRUE(std::isnan(
        approximation_error(trace, approximation, BiasRule::kOwn, sum).value(ErrorMeasure::kL2Mean)));
  }
}

/// Σ_j T_i(x_j), bias column included.
class ContributionSum : public Aggregator {
 public:
  explicit ContributionSum(const models::LayerTrace& trace) : sum_(at::zeros_like(trace.y)) {}
  bool projects() const override { return true; }
  void add(const ContributionTile& tile) override {
    for (int64_t n = 0; n < tile.size(); ++n) sum_.select(0, tile.pairs[n].i).add_(tile.T.select(0, n));
  }
  const at::Tensor& sum() const { return sum_; }

 private:
  at::Tensor sum_;
};

TEST(Sums, OfTilesAndOfTheRecurrenceAgree) {
  for (const auto architecture : kArchitectures)
    for (const Approximation approximation : testing::kApproximations)
      for (const BiasRule bias : {BiasRule::kOwn, BiasRule::kSeparate}) {
        LayerSpec spec = make_spec(architecture, {0, 4, 129});
        spec.out_bias = true;
        const models::LayerTrace trace = testing::random_trace(spec);
        ContributionSum sum(trace);
        produce_tiles(trace, approximation, bias, {&sum}, {32, 16});
        EXPECT_LE(testing::relative_difference(sum.sum(), contribution_sum(trace, approximation, bias)),
                  1e-13);
      }
}

/// Decays far below the smallest float, and steps so long that sums of them would overflow an exponential.
TEST(Tiles, StayFiniteUnderLongDecays) {
  for (const auto architecture : kArchitectures)
    for (const double longest_step : {1e-6, 300.0}) {
      LayerSpec spec = make_spec(architecture, {0, 129}, {ActivationKind::kIdentity, 1.0});
      spec.longest_step = longest_step;
      const models::LayerTrace trace = testing::to_dtype(testing::random_trace(spec), at::kFloat);
      FullContributions full(trace, BiasRule::kOwn);
      produce_tiles(trace, Approximation::kActivation, BiasRule::kOwn, {&full});
      EXPECT_TRUE(full.contributions().isfinite().all().item<bool>());
      EXPECT_LE(exactness(trace, Approximation::kActivation, BiasRule::kOwn), 1e-5);
    }
}

TEST(Tiles, DoNotDependOnTheNumberOfThreads) {
  const int threads = at::get_num_threads();
  for (const auto architecture : kArchitectures) {
    const models::LayerTrace trace = testing::random_trace(make_spec(architecture, {0, 129}));
    at::Tensor maps[2];
    for (const int n : {1, 2}) {
      at::set_num_threads(n);
      NormMap map(trace, BiasRule::kOwn, Norm::kL2);
      produce_tiles(trace, Approximation::kActivation, BiasRule::kOwn, {&map});
      maps[n - 1] = map.map();
    }
    EXPECT_TRUE(maps[0].equal(maps[1]));
  }
  at::set_num_threads(threads);
}

bool flushes_denormals() {
  volatile double smallest = std::numeric_limits<double>::min();
  return smallest / 2 == 0;
}

TEST(Tiles, LeaveTheTreatmentOfDenormalsAsItWas) {
  const models::LayerTrace trace = testing::random_trace(make_spec(models::Architecture::kMamba1, {0, 9}));
  for (const bool flush : {true, false}) {
    ASSERT_TRUE(at::globalContext().setFlushDenormal(flush));  // as every x86-64 processor can
    produce_tiles(trace, Approximation::kActivation, BiasRule::kOwn, {});
    contribution_sum(trace, Approximation::kActivation, BiasRule::kOwn);
    EXPECT_EQ(flushes_denormals(), flush);
  }
}

}  // namespace
}  // namespace exactmamba::decomp
