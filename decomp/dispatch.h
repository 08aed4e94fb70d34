// Calls f with a value of the tensor's element type.
#pragma once

#include <ATen/core/Tensor.h>

#include "core/error.h"

namespace exactmamba::decomp {

/// @throws InputError for anything but float and double.
template <class F>
void dispatch_dtype(const at::Tensor& tensor, const F& f) {
  const at::ScalarType dtype = tensor.scalar_type();
  core::require(dtype == at::kFloat || dtype == at::kDouble,
                "decomposition runs in float32 or float64, not {}; convert the model", c10::toString(dtype));
  if (dtype == at::kDouble)
    f(double{});
  else
    f(float{});
}

}  // namespace exactmamba::decomp
