#include "models/ops/products.h"

#include <ATen/ops/addmm.h>

namespace exactmamba::ops {

void add_product(at::Tensor& sum, const at::Tensor& a, const at::Tensor& b) {
  if (a.scalar_type() == sum.scalar_type())
    at::addmm_out(sum, sum, a, b);
  else
    at::addmm_out(sum, sum, a, b, sum.scalar_type());
}

}  // namespace exactmamba::ops
