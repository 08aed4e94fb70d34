// What happens to the flat gradients between their sum over ranks and the optimizer: norm, clipping.
#pragma once

#include "models/parameter_store.h"

namespace exactmamba::train {

/// ℓ2 norm over all parameters, summed in double and in an order that does not depend on the number of
/// threads. Not finite when a gradient is not.
double gradient_norm(models::ParameterStore& store);

/// As torch.nn.utils.clip_grad_norm_: gradients ← c · gradients, c = min(1, max_norm / (norm + 1e-6));
/// max_norm = 0 clips nothing. Returns c.
double clip_gradients(models::ParameterStore& store, double norm, double max_norm);

}  // namespace exactmamba::train
