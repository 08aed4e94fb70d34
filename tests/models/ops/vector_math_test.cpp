#include "models/ops/vector_math.h"

#include <cmath>
#include <limits>
#include <type_traits>
#include <vector>

#include <gtest/gtest.h>

#include "models/ops/packed_activation.h"

namespace exactmamba::ops {
namespace {

/// |ours − exact| in units of the last place of T at `exact`, denormal numbers included.
template <class T>
double ulps(T ours, long double exact) {
  if (std::isinf(static_cast<T>(exact))) return ours == static_cast<T>(exact) ? 0 : 1e9;
  const T rounded = std::abs(static_cast<T>(exact));
  const T unit = std::nextafter(rounded, std::numeric_limits<T>::infinity()) - rounded;
  return static_cast<double>(std::abs(static_cast<long double>(ours) - exact) / unit);
}

/// The largest error over [from, to] stays within `bound` ulps, in steps that do not repeat binary fractions.
template <class T, class Ours, class Exact>
void expect_ulps(double bound, T from, T to, Ours ours, Exact exact) {
  const int64_t kSteps = 400'003;
  double worst = 0;
  T worst_at = from;
  for (int64_t i = 0; i <= kSteps; ++i) {
    const T x = from + (to - from) * static_cast<T>(i) / static_cast<T>(kSteps);
    const double error = ulps(ours(broadcast(x))[i % kLanes<T>], exact(static_cast<long double>(x)));
    if (!(error <= worst)) worst = error, worst_at = x;
  }
  EXPECT_LE(worst, bound) << "between " << from << " and " << to << ", at " << worst_at;
}

template <class T>
class VectorMath : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(VectorMath, Scalars);

TYPED_TEST(VectorMath, ExpIsRightToOneUlp) {
  const auto ours = [](auto x) { return exp(x); };
  const auto exact = [](long double x) { return std::exp(x); };
  const TypeParam lowest = PackTraits<TypeParam>::kExpLowest, highest = PackTraits<TypeParam>::kExpHighest;
  expect_ulps<TypeParam>(1, lowest - 5, highest + 5, ours, exact);
  expect_ulps<TypeParam>(1, -1, 1, ours, exact);
  expect_ulps<TypeParam>(1, TypeParam(-1e-4), TypeParam(1e-4), ours, exact);
}

/// The bounds of sigmoid and softplus rest on it.
TYPED_TEST(VectorMath, ExpIsRightToThreeQuartersOfEpsilon) {
  double worst = 0;
  for (int64_t i = -400'003; i <= 400'003; ++i) {
    const TypeParam x = static_cast<TypeParam>(i) / TypeParam(100'001);
    const long double exact = std::exp(static_cast<long double>(x));
    const double error = static_cast<double>(std::abs(exp(broadcast(x))[0] / exact - 1));
    if (!(error <= worst)) worst = error;
  }
  EXPECT_LE(worst, 0.75 * std::numeric_limits<TypeParam>::epsilon());
}

TYPED_TEST(VectorMath, Log1pUnitIsRightToTwoUlps) {
  const auto ours = [](auto x) { return log1p_unit(x); };
  const auto exact = [](long double x) { return std::log1p(x); };
  expect_ulps<TypeParam>(2, 0, 1, ours, exact);
  expect_ulps<TypeParam>(2, 0, TypeParam(1e-4), ours, exact);
  const TypeParam smallest = std::numeric_limits<TypeParam>::min();
  expect_ulps<TypeParam>(2, 0, 4 * smallest, ours, exact);
}

TYPED_TEST(VectorMath, ExpAtTheExtremes) {
  using Limits = std::numeric_limits<TypeParam>;
  const auto e = [](TypeParam x) { return exp(broadcast(x))[0]; };
  EXPECT_EQ(e(0), TypeParam(1));
  EXPECT_EQ(e(-TypeParam(0)), TypeParam(1));
  EXPECT_EQ(e(Limits::infinity()), Limits::infinity());
  EXPECT_EQ(e(-Limits::infinity()), TypeParam(0));
  EXPECT_EQ(e(Limits::max()), Limits::infinity());
  EXPECT_EQ(e(Limits::lowest()), TypeParam(0));
  EXPECT_EQ(e(Limits::denorm_min()), TypeParam(1));
  EXPECT_TRUE(std::isnan(e(Limits::quiet_NaN())));
}

/// Results from the smallest normal number on.
template <class T>
constexpr T kSigmoidLowest = std::is_same_v<T, float> ? T(-87) : T(-708);

TYPED_TEST(VectorMath, SoftplusAndItsSlopeAreRightToThreeUlps) {
  const auto ours = [](auto x) { return softplus(x); };
  const auto exact = [](long double x) { return x > 20 ? x : std::log1p(std::exp(x)); };
  expect_ulps<TypeParam>(3, PackTraits<TypeParam>::kExpLowest, 30, ours, exact);
  expect_ulps<TypeParam>(3, -6, 6, ours, exact);
  expect_ulps<TypeParam>(3, TypeParam(-0.01), TypeParam(0.01), ours, exact);
  EXPECT_TRUE(std::isnan(softplus(broadcast(std::numeric_limits<TypeParam>::quiet_NaN()))[0]));
  const auto slope = [](auto x) { return softplus_slope(x); };
  const auto exact_slope = [](long double x) { return x > 20 ? 1.0L : 1 / (1 + std::exp(-x)); };
  expect_ulps<TypeParam>(3, kSigmoidLowest<TypeParam>, 30, slope, exact_slope);
}

TYPED_TEST(VectorMath, SigmoidIsRightToThreeUlps) {
  const auto ours = [](auto x) { return sigmoid(x); };
  const auto exact = [](long double x) { return 1 / (1 + std::exp(-x)); };
  expect_ulps<TypeParam>(3, kSigmoidLowest<TypeParam>, 50, ours, exact);
  expect_ulps<TypeParam>(3, -6, 6, ours, exact);
  EXPECT_EQ(sigmoid(broadcast(std::numeric_limits<TypeParam>::lowest()))[0], TypeParam(0));
  EXPECT_EQ(sigmoid(broadcast(std::numeric_limits<TypeParam>::max()))[0], TypeParam(1));
}

TYPED_TEST(VectorMath, RowsOfAnyLengthTouchNothingBeyond) {
  for (int64_t size = 0; size <= 2 * kLanes<TypeParam> + 1; ++size) {
    std::vector<TypeParam> row(size + 1, TypeParam(7));
    for_each_pack<TypeParam>(size, [&](int64_t i, int64_t n) { store(&row[i], load(&row[i], n) + 1, n); });
    for (int64_t i = 0; i < size; ++i) EXPECT_EQ(row[i], TypeParam(8));
    EXPECT_EQ(row[size], TypeParam(7));
  }
}

TYPED_TEST(VectorMath, PackedActivationEqualsTheScalarOne) {
  using models::ActivationKind;
  for (const auto kind : {ActivationKind::kSilu, ActivationKind::kRelu, ActivationKind::kIdentity})
    for (const double alpha : {0.0, 0.3, 1.0}) {
      const models::ConvActivation scalar{kind, alpha};
      const PackedActivation<TypeParam> packed(scalar);
      for (const TypeParam a :
           {TypeParam(-3.5), TypeParam(-0.1), TypeParam(0), TypeParam(0.7), TypeParam(9)}) {
        const TypeParam tolerance = 8 * std::numeric_limits<TypeParam>::epsilon();
        EXPECT_NEAR(packed.gate(broadcast(a))[0], scalar.gate(a), tolerance);
        EXPECT_NEAR(packed.derivative(broadcast(a))[0], scalar.derivative(a), tolerance * 4);
      }
    }
}

}  // namespace
}  // namespace exactmamba::ops
