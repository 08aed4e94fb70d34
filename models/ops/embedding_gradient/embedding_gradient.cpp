#include "models/ops/embedding_gradient/embedding_gradient.h"

#include <ATen/ops/index_add.h>

#include "models/ops/checks.h"
#include "models/ops/embedding_gradient/embedding_gradient_cuda.h"

namespace exactmamba::ops {

void add_embedding_gradient(const at::Tensor& ids, const at::Tensor& grad_rows, at::Tensor& grad_weight) {
  const OperatorChecks checks("embedding_gradient", "grad_rows", grad_rows);
  checks.dimensions("grad_rows", grad_rows, 2, "(T, d)");
  checks.dimensions("grad_weight", grad_weight, 2, "(V, d)");
  checks.dense("grad_rows", grad_rows, grad_rows.sizes());
  checks.wide("grad_weight", grad_weight, {grad_weight.size(0), grad_rows.size(1)});
  core::require(ids.scalar_type() == at::kLong && ids.dim() == 1 && ids.size(0) == grad_rows.size(0),
                "embedding_gradient: ids has {} entries, but grad_rows has {} rows", ids.numel(),
                grad_rows.size(0));
  if (grad_rows.is_cuda()) return add_embedding_gradient_cuda(ids, grad_rows, grad_weight);
  grad_weight.index_add_(0, ids, grad_rows);
}

}  // namespace exactmamba::ops
