#include "models/placement.h"

#include <ATen/Context.h>

#include "core/dtype.h"
#include "core/error.h"

namespace exactmamba::models {

void Placement::check() const {
  core::require(dtype == at::kFloat || dtype == at::kDouble, "parameters are float32 or float64, not {}",
                core::dtype_text(dtype));
  if (device.is_cpu()) {
    core::require(compute_dtype == dtype, "a CPU computes in the parameters' dtype, {}, not in {}",
                  core::dtype_text(dtype), core::dtype_text(compute_dtype));
    return;
  }
  core::require(device.is_cuda(), "a model lives on a CPU or a CUDA device, not on {}", device.str());
  core::require(dtype == at::kFloat, "parameters on a GPU are float32, not {}; use a CPU for it",
                core::dtype_text(dtype));
  core::require(compute_dtype == at::kFloat || compute_dtype == at::kBFloat16 || compute_dtype == at::kHalf,
                "a GPU computes in float32, bfloat16 or float16, not in {}", core::dtype_text(compute_dtype));
}

Placement placement_from_names(at::ScalarType dtype, at::Device device, const std::string& compute,
                               const std::string& dtype_option, const std::string& compute_option) {
  if (device.is_cpu()) {
    core::require(compute == "float32", "{} is {}, but a CPU computes in {} = {}; leave it out, or use a GPU",
                  compute_option, compute, dtype_option, core::dtype_text(dtype));
    return dtype;
  }
  constexpr at::ScalarType kDtypes[] = {at::kFloat, at::kFloat, at::kBFloat16, at::kHalf};
  const Placement placement(dtype, device,
                            kDtypes[core::enum_from_name<size_t>(kGpuComputeNames, compute, compute_option)]);
  placement.check();
  at::globalContext().setAllowTF32CuBLAS(compute == "tf32");
  return placement;
}

std::string compute_name(const Placement& placement) {
  const bool rounds = placement.device.is_cuda() && placement.compute_dtype == at::kFloat &&
                      at::globalContext().allowTF32CuBLAS();
  return rounds ? "tf32" : core::dtype_text(placement.compute_dtype);
}

}  // namespace exactmamba::models
