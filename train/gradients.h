// What happens to the flat gradients between backward and the optimizer: sum over ranks, norm, clipping.
#pragma once

#include "core/distributed/communicator.h"
#include "models/parameter_store.h"

namespace exactmamba::train {

/// Sums the gradients over all ranks, in place.
void reduce_gradients(models::ParameterStore& store, core::Communicator& communicator);

/// ℓ2 norm over all parameters, summed in double and in an order that does not depend on the number of
/// threads. Not finite when a gradient is not.
double gradient_norm(models::ParameterStore& store);

/// As torch.nn.utils.clip_grad_norm_: gradients ← c · gradients, c = min(1, max_norm / (norm + 1e-6));
/// max_norm = 0 clips nothing. Returns c.
double clip_gradients(models::ParameterStore& store, double norm, double max_norm);

}  // namespace exactmamba::train
