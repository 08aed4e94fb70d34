// What is computed of the flat gradients between their sum over ranks and the optimizer: norm and clipping.
// Scalars are double tensors () on the gradients' device, so that nobody waits for a GPU's.
#pragma once

#include "models/parameter_store.h"

namespace exactmamba::train {

/// ℓ2 norm over all parameters, summed in double, in an order that does not depend on the number of threads.
/// Not finite when a gradient is not.
at::Tensor gradient_norm(models::ParameterStore& store);

/// As torch.nn.utils.clip_grad_norm_: what the gradients are to be multiplied by, min(1, max_norm / (norm +
/// 1e-6)); 1 for max_norm = 0, which clips nothing.
at::Tensor clip_coefficient(const at::Tensor& norm, double max_norm);

}  // namespace exactmamba::train
