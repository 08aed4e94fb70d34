// AdamW, norm and clipping against the formulas written out in double (golden/training, 2 and 4).
#include "train/optimizer.h"

#include <cmath>
#include <map>

#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "core/distributed/communicator.h"
#include "core/error.h"
#include "core/random.h"
#include "tests/support/files.h"
#include "tests/support/tensors.h"
#include "train/gradients.h"

namespace exactmamba::train {
namespace {

using models::Decay;
using models::ParameterStore;

std::vector<models::ParameterSpec> specs() {
  return {{"embedding", {129, 7}, Decay::kYes}, {"A_log", {1}, Decay::kNo},
          {"in_proj", {2, 151}, Decay::kYes},   {"norm", {372}, Decay::kNo},
          {"out_proj", {1, 1}, Decay::kYes},    {"large", {40, 4097}, Decay::kYes}};
}

void fill(at::Tensor tensor, const std::string& stream, int64_t step, double scale) {
  core::RandomStream(3, stream, step).fill_normal(tensor, 0.0, scale);
}

void fill_gradients(ParameterStore& store, int64_t step, double scale) {
  for (const auto& spec : store.specs())
    fill(store.gradient(spec.name), "gradient." + spec.name, step, scale);
}

std::vector<double> values_of(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.to(at::kDouble).contiguous();
  return {flat.const_data_ptr<double>(), flat.const_data_ptr<double>() + flat.numel()};
}

/// One parameter's AdamW, element by element, in double.
struct Reference {
  std::vector<double> p, m, v;

  void step(const std::vector<double>& g, int64_t s, double lr, const AdamWOptions& o, double weight_decay) {
    m.resize(p.size());
    v.resize(p.size());
    for (size_t i = 0; i < p.size(); ++i) {
      p[i] -= lr * weight_decay * p[i];
      m[i] = o.beta1 * m[i] + (1 - o.beta1) * g[i];
      v[i] = o.beta2 * v[i] + (1 - o.beta2) * g[i] * g[i];
      const double m_hat = m[i] / (1 - std::pow(o.beta1, s)), v_hat = v[i] / (1 - std::pow(o.beta2, s));
      p[i] -= lr * m_hat / (std::sqrt(v_hat) + o.eps);
    }
  }
};

double largest_difference(const at::Tensor& tensor, const std::vector<double>& reference) {
  const std::vector<double> values = values_of(tensor);
  double largest = 0;
  for (size_t i = 0; i < values.size(); ++i) largest = std::max(largest, std::abs(values[i] - reference[i]));
  return largest;
}

bool step(AdamW& optimizer, double learning_rate) {
  return optimizer.step(learning_rate, at::ones({}, at::kDouble), at::ones({}, at::kBool));
}

double norm_of(ParameterStore& store) { return gradient_norm(store).item<double>(); }

class AdamWTest : public ::testing::TestWithParam<std::pair<at::ScalarType, double>> {};

TEST_P(AdamWTest, AgreesWithTheFormula) {
  const auto [dtype, tolerance] = GetParam();
  const AdamWOptions options = {0.9, 0.95, 1e-8, 0.1};
  ParameterStore store(specs(), dtype);
  std::map<std::string, Reference> reference;
  for (const auto& spec : store.specs()) {
    fill(store.parameter(spec.name), spec.name, 0, 1.0);
    reference[spec.name].p = values_of(store.parameter(spec.name));
  }
  AdamW optimizer(store, options);
  for (int64_t s = 1; s <= 12; ++s) {
    fill_gradients(store, s, 0.3);
    const double lr = 1e-2 / static_cast<double>(s);
    for (const auto& spec : store.specs())
      reference[spec.name].step(values_of(store.gradient(spec.name)), s, lr, options,
                                spec.decay == Decay::kYes ? options.weight_decay : 0.0);
    EXPECT_TRUE(step(optimizer, lr));
  }
  EXPECT_EQ(optimizer.steps(), 12);
  for (const auto& spec : store.specs())
    EXPECT_LE(largest_difference(store.parameter(spec.name), reference[spec.name].p), tolerance) << spec.name;
}

INSTANTIATE_TEST_SUITE_P(Dtypes, AdamWTest,
                         ::testing::Values(std::pair{at::kDouble, 1e-14}, std::pair{at::kFloat, 2e-6}));

TEST(AdamW, ContinuesBitByBitFromStoredMoments) {
  const testing::TemporaryFolder folder;
  ParameterStore straight(specs(), at::kFloat), resumed(specs(), at::kFloat);
  AdamW first(straight, {});
  for (int64_t s = 1; s <= 5; ++s) {
    fill_gradients(straight, s, 1.0);
    step(first, 1e-3);
  }
  core::write_safetensors(folder / "moments.safetensors", first.moments());
  AdamW second(resumed, {});
  second.restore(core::SafetensorsFile(folder / "moments.safetensors"), first.steps());
  for (Decay group : {Decay::kYes, Decay::kNo}) resumed.flat(group).copy_(straight.flat(group));
  for (auto* pair : {&straight, &resumed}) fill_gradients(*pair, 6, 1.0);
  step(first, 1e-3);
  step(second, 1e-3);
  EXPECT_EQ(straight.checksum(), resumed.checksum());
}

TEST(AdamW, MultipliesTheGradientsByTheFactor) {
  ParameterStore clipped(specs(), at::kFloat), plain(specs(), at::kFloat);
  AdamW of_clipped(clipped, {}), of_plain(plain, {});
  for (auto* store : {&clipped, &plain}) fill_gradients(*store, 1, 1.0);
  for (const Decay group : {Decay::kYes, Decay::kNo}) plain.flat_gradient(group).mul_(0.3);
  of_clipped.step(1e-3, at::full({}, 0.3, at::kDouble), at::ones({}, at::kBool));
  step(of_plain, 1e-3);
  EXPECT_EQ(clipped.checksum(), plain.checksum());
}

TEST(AdamW, ChangesNothingWhereTheStepIsNotAllowed) {
  ParameterStore store(specs(), at::kFloat), untouched(specs(), at::kFloat);
  AdamW optimizer(store, {}), other(untouched, {});
  fill_gradients(store, 1, 1.0);
  EXPECT_FALSE(optimizer.step(1e-3, at::ones({}, at::kDouble), at::zeros({}, at::kBool)));
  EXPECT_EQ(optimizer.steps(), 0);
  EXPECT_EQ(store.checksum(), untouched.checksum());
  for (auto* both : {&store, &untouched}) fill_gradients(*both, 2, 1.0);
  step(optimizer, 1e-3);  // nor did the moments change
  step(other, 1e-3);
  EXPECT_EQ(store.checksum(), untouched.checksum());
}

TEST(AdamW, RefusesMomentsOfAnotherModel) {
  const testing::TemporaryFolder folder;
  ParameterStore small({{"w", {3}, Decay::kYes}}, at::kFloat), wide({{"w", {4}, Decay::kYes}}, at::kFloat);
  ParameterStore renamed({{"x", {3}, Decay::kYes}}, at::kFloat),
      precise({{"w", {3}, Decay::kYes}}, at::kDouble);
  core::write_safetensors(folder / "moments.safetensors", AdamW(small, {}).moments());
  const core::SafetensorsFile file(folder / "moments.safetensors");
  for (ParameterStore* other : {&wide, &renamed, &precise})
    EXPECT_THROW(AdamW(*other, {}).restore(file, 1), core::InputError);
}

TEST(GradientNorm, IsTheRootOfTheSumOfSquares) {
  for (at::ScalarType dtype : {at::kFloat, at::kDouble}) {
    ParameterStore store(specs(), dtype);
    fill_gradients(store, 1, 2.0);
    double sum = 0;
    for (const auto& spec : store.specs())
      for (double value : values_of(store.gradient(spec.name))) sum += value * value;
    EXPECT_NEAR(norm_of(store), std::sqrt(sum), 1e-13 * std::sqrt(sum));
  }
}

TEST(GradientNorm, DoesNotOverflowInSinglePrecision) {
  ParameterStore store({{"w", {16}, Decay::kYes}}, at::kFloat);
  store.gradient("w").fill_(1e25);
  EXPECT_NEAR(norm_of(store), 4e25, 1e19);
}

TEST(GradientNorm, SeesEveryValueThatIsNotFinite) {
  ParameterStore store(specs(), at::kFloat);
  for (const auto& spec : store.specs()) {
    for (double bad : {std::nan(""), HUGE_VAL, -HUGE_VAL}) {
      store.zero_gradients();
      store.gradient(spec.name).view({-1})[-1].fill_(bad);
      EXPECT_FALSE(std::isfinite(norm_of(store))) << spec.name;
    }
  }
}

TEST(ClipCoefficient, ScalesDownToTheNormAndLeavesSmallOnesAlone) {
  ParameterStore store({{"w", {4}, Decay::kYes}, {"b", {5}, Decay::kNo}}, at::kDouble);
  store.gradient("w").fill_(2.0);
  store.gradient("b").fill_(-2.0);
  EXPECT_DOUBLE_EQ(norm_of(store), 6.0);
  const auto coefficient = [norm = gradient_norm(store)](double most) {
    return clip_coefficient(norm, most).item<double>();
  };
  EXPECT_EQ(coefficient(7.0), 1.0);
  EXPECT_EQ(coefficient(0.0), 1.0);
  EXPECT_EQ(coefficient(1.5), 1.5 / (6.0 + 1e-6));
}

}  // namespace
}  // namespace exactmamba::train
