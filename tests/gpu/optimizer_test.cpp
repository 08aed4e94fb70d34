// AdamW on the GPU against AdamW on the CPU in double, which its own tests compare with the formula.
#include "train/optimizer.h"

#include <ATen/ops/full.h>

#include "tests/gpu/place.h"

namespace exactmamba::gpu_tests {
namespace {

using models::Decay;
using models::ParameterStore;

std::vector<models::ParameterSpec> specs() {
  return {
      {"embedding", {129, 7}, Decay::kYes}, {"norm", {372}, Decay::kNo}, {"large", {40, 4097}, Decay::kYes}};
}

/// Every parameter and moment.
Results contents(const ParameterStore& store, const train::AdamW& optimizer) {
  Results results;
  for (const auto& [name, moment] : optimizer.moments()) results[name] = moment.cpu();
  for (const models::ParameterSpec& spec : store.specs())
    results[spec.name] = store.parameter(spec.name).cpu();
  return results;
}

/// Twelve updates with clipping, of which the seventh is not allowed.
Results trained(const models::Placement& placement, const std::vector<at::Tensor>& values,
                const std::vector<at::Tensor>& gradients) {
  ParameterStore store(specs(), placement);
  train::AdamW optimizer(store, {});
  for (size_t i = 0; i < values.size(); ++i) store.parameter(store.specs()[i].name).copy_(values[i]);
  store.refresh_compute_copies();
  const auto scalar = [&](double value, at::ScalarType dtype) {
    return at::full({}, value, at::TensorOptions().dtype(dtype).device(placement.device));
  };
  for (int step = 1; step <= 12; ++step) {
    for (size_t i = 0; i < gradients.size(); ++i)
      store.gradient(store.specs()[i].name).copy_(gradients[i] * (step % 3 - 0.5));
    EXPECT_EQ(optimizer.step(1e-2 / step, scalar(0.37, at::kDouble), scalar(step != 7, at::kBool)),
              step != 7);
  }
  EXPECT_EQ(optimizer.steps(), 11);
  for (const models::ParameterSpec& spec : store.specs())
    EXPECT_TRUE(store.compute(spec.name).equal(store.parameter(spec.name).to(placement.compute_dtype)));
  return contents(store, optimizer);
}

TEST(GpuAdamW, IsThatOfTheCpu) {
  std::vector<at::Tensor> values, gradients;
  for (const models::ParameterSpec& spec : specs()) {
    values.push_back(random_exact(spec.shape, at::kFloat));
    gradients.push_back(random_exact(spec.shape, at::kFloat));
  }
  const Results expected = trained(at::kDouble, values, gradients);
  for (const at::ScalarType compute : kDtypes) {
    const models::Placement place{at::kFloat, at::Device(at::kCUDA, 0), compute};
    const Results found = trained(place, values, gradients);
    // A dozen float operations in each of eleven updates; no value depends on others.
    expect_close(expected, found, 11 * 12 * 0x1p-24, "adamw");
    expect_identical(found, trained(place, values, gradients), "adamw again");
  }
}

}  // namespace
}  // namespace exactmamba::gpu_tests
