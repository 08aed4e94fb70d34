// Where a model lives and what it computes in. On the CPU everything has one dtype, float or double. On a GPU
// parameters, their gradients, states and the residual stream are float; activations and what matrix products
// read have the compute dtype.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

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

}  // namespace exactmamba::models
