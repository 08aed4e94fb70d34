#include "models/linear.h"

#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/sum.h>

#include "models/ops/products.h"

namespace exactmamba::models {
namespace {

at::Tensor with_shape_of(const at::Tensor& rows, const at::Tensor& like) {
  std::vector<int64_t> shape = like.sizes().vec();
  shape.back() = rows.size(1);
  return rows.view(shape);
}

}  // namespace

at::Tensor as_rows(const at::Tensor& x) { return x.view({-1, x.size(-1)}); }

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                  const at::Tensor& to) {
  const at::Tensor rows = as_rows(x);
  at::Tensor y = to.defined() ? as_rows(to) : at::empty({rows.size(0), weight.size(0)}, x.options());
  if (bias.defined())
    at::addmm_out(y, bias, rows, weight.t());
  else
    ops::multiply(y, rows, weight.t());
  return with_shape_of(y, x);
}

at::Tensor linear_input_gradient(const at::Tensor& grad_y, const at::Tensor& weight) {
  const at::Tensor rows = as_rows(grad_y);
  at::Tensor grad_x = at::empty({rows.size(0), weight.size(1)}, grad_y.options());
  ops::multiply(grad_x, rows, weight);
  return with_shape_of(grad_x, grad_y);
}

void add_linear_gradients(const at::Tensor& grad_y, const at::Tensor& x, at::Tensor grad_weight,
                          at::Tensor grad_bias) {
  const at::Tensor rows = as_rows(grad_y);
  ops::add_product(grad_weight, rows.t(), as_rows(x));
  if (grad_bias.defined()) grad_bias.add_(rows.sum(0, /*keepdim=*/false, grad_bias.scalar_type()));
}

}  // namespace exactmamba::models
