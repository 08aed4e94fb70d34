// The gradient of an embedding lookup: grad_weight[ids[t]] += grad_rows[t], in an order that does not depend
// on timing. On a CPU both are float or both double, on a GPU both float.
#pragma once

#include <ATen/core/Tensor.h>

namespace exactmamba::ops {

/// ids (T) int64 in [0, V), trusted; grad_rows (T, d); grad_weight (V, d) is ADDED to. @throws InputError
void add_embedding_gradient(const at::Tensor& ids, const at::Tensor& grad_rows, at::Tensor& grad_weight);

}  // namespace exactmamba::ops
