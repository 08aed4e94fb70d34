// One update of the weights from the micro-batches of this rank.
#pragma once

#include <vector>

#include "core/distributed/communicator.h"
#include "data/batch.h"
#include "models/mamba_lm.h"
#include "train/loss_scale.h"
#include "train/optimizer.h"

namespace exactmamba::train {

enum class Outcome {
  kApplied,
  kWithoutTargets,  // no micro-batch of any rank has a target: nothing to learn, weights untouched
  kNotFinite,       // loss or gradient is NaN or infinite: weights untouched
  kOverflow,        // only the gradient of the scaled loss, and the scale could fall: weights untouched
};

struct UpdateResult {
  Outcome outcome = Outcome::kApplied;
  double loss = 0;              // nats per target, over all ranks and micro-batches
  double grad_norm = 0;         // before clipping
  double clip_coefficient = 1;  // what the gradients were multiplied by
  double loss_scale = 1;        // that the gradients were computed with
  int64_t target_tokens = 0;    // over all ranks
  int64_t tokens = 0;           // positions fed, over all ranks
};

/// Where the ranks sum a few numbers that the host waits for. GPUs answer each other in 0.05 ms; Gloo's
/// threads, asleep since the update before, in 0.5 ms.
at::Device exchange_device(const models::MambaLM& model, const core::Communicator& communicator);

/// Forward and backward of every micro-batch with the loss divided by the number of targets of the whole
/// update (all ranks, all micro-batches), sum of gradients over ranks, finite check, clipping, AdamW. Every
/// rank calls it, with or without targets. On a GPU the host waits once, when all is under way. `loss_scale`
/// [nullable], the same on every rank, adapts to what happened.
UpdateResult run_update(models::MambaLM& model, AdamW& optimizer,
                        const std::vector<data::Batch>& micro_batches, double learning_rate,
                        double max_grad_norm, core::Communicator& communicator,
                        LossScale* loss_scale = nullptr);

}  // namespace exactmamba::train
