#include "models/ops/products.h"

#include <ATen/ops/addmm.h>
#include <ATen/ops/mm.h>

#include "models/ops/products_cuda.h"

namespace exactmamba::ops {

void multiply(at::Tensor& to, const at::Tensor& a, const at::Tensor& b) {
  if (!a.is_cuda() || !multiply_many_rows_cuda(to, a, b)) at::mm_out(to, a, b);
}

void add_product(at::Tensor& sum, const at::Tensor& a, const at::Tensor& b) {
  if (a.scalar_type() == sum.scalar_type())
    at::addmm_out(sum, sum, a, b);
  else
    at::addmm_out(sum, sum, a, b, sum.scalar_type());
}

}  // namespace exactmamba::ops
