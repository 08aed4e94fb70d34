// Where a model lives and what it computes in. On the CPU everything has one dtype, float or double. On a GPU
// parameters, their gradients, states and the residual stream are float; activations and what matrix products
// read have the compute dtype.
#pragma once

#include <string>

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include "core/names.h"

namespace exactmamba::models {

struct Placement {
  at::ScalarType dtype;  // of parameters, gradients and the residual stream
  at::Device device;
  at::ScalarType compute_dtype;  // CPU: dtype; GPU: kFloat, kBFloat16 or kHalf

  /// On the CPU, all of one dtype.
  Placement(at::ScalarType all = at::kFloat)  // NOLINT: a dtype alone says it
      : Placement(all, at::kCPU, all) {}
  Placement(at::ScalarType parameters, at::Device where, at::ScalarType compute)
      : dtype(parameters), device(where), compute_dtype(compute) {}

  bool has_compute_copies() const { return compute_dtype != dtype; }
  /// @throws InputError on another combination than those above
  void check() const;
};

/// What a GPU computes in, by the names of options: tf32 is float32 with products that round their operands.
inline constexpr core::Names<4> kGpuComputeNames = {"float32", "tf32", "bfloat16", "float16"};

/// Parameters of `dtype` on `device`; `compute` is one of kGpuComputeNames, on a CPU "float32" for whatever
/// `dtype` is. Tells LibTorch whether products may be in tf32. `dtype_option` and `compute_option` are what
/// messages call the two. @throws InputError when the device does not compute in what is asked for
Placement placement_from_names(at::ScalarType dtype, at::Device device, const std::string& compute,
                               const std::string& dtype_option, const std::string& compute_option);

/// What computes there, one of kGpuComputeNames or "float64": "tf32" as placement_from_names last allowed it.
std::string compute_name(const Placement& placement);

}  // namespace exactmamba::models
