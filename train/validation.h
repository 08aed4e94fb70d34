// The built-in measures of an evaluation.
#pragma once

#include "core/distributed/communicator.h"
#include "core/json.h"
#include "data/loader.h"
#include "models/mamba_lm.h"

namespace exactmamba::train {

/// "validation_loss" [nats per target] and "validation_accuracy" [fraction of targets that are the model's
/// first choice], over all targets. Each rank takes every size-th batch; every rank gets the same numbers.
/// A line of progress where it takes long.
/// @throws InputError without any target; Interrupted, on all ranks, when a stop was asked for on any
core::Json validate(const models::MambaLM& model, const data::BatchesInOrder& batches,
                    core::Communicator& communicator);

}  // namespace exactmamba::train
