#include "models/placement.h"

#include <gtest/gtest.h>

#include "core/error.h"

namespace exactmamba::models {
namespace {

Placement placement_of(at::ScalarType dtype, at::Device device, const std::string& compute) {
  return placement_from_names(dtype, device, compute, "--dtype", "--compute-dtype");
}

TEST(Placement, IsNamedAsItWasAskedFor) {
  const at::Device gpu(at::kCUDA, 0);
  for (const char* name : kGpuComputeNames)
    EXPECT_EQ(compute_name(placement_of(at::kFloat, gpu, name)), name);
  placement_of(at::kFloat, gpu, "tf32");
  EXPECT_EQ(compute_name(placement_of(at::kFloat, at::kCPU, "float32")), "float32");
  EXPECT_EQ(compute_name(placement_of(at::kDouble, at::kCPU, "float32")), "float64");
}

TEST(Placement, RefusesWhatTheDeviceDoesNotComputeIn) {
  EXPECT_THROW(placement_of(at::kFloat, at::kCPU, "bfloat16"), core::InputError);
  EXPECT_THROW(placement_of(at::kDouble, at::Device(at::kCUDA, 0), "float32"), core::InputError);
  EXPECT_THROW(placement_of(at::kFloat, at::Device(at::kCUDA, 0), "float8"), core::InputError);
}

}  // namespace
}  // namespace exactmamba::models
