#include "train/validation.h"

#include <ATen/ops/eq.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>

#include "core/error.h"

namespace exactmamba::train {

core::Json validate(const models::MambaLM& model, const data::BatchesInOrder& batches,
                    core::Communicator& communicator) {
  at::Tensor sums = at::zeros({3}, at::kDouble);  // loss, right predictions, targets
  for (int64_t i = communicator.rank(); i < batches.size(); i += communicator.size()) {
    const data::Batch batch = batches[i];
    if (batch.target_count == 0) continue;
    const models::LossOutputs out = model.loss(batch);
    sums[0] += out.loss_sum.item<double>();
    sums[1] += out.predictions.cpu().eq(batch.targets).sum();  // never equal where the target is ignored
    sums[2] += batch.target_count;
  }
  communicator.all_reduce_sum(sums);
  const double targets = sums[2].item<double>();
  core::require(targets > 0, "the validation data has no target token: its loss is not defined");
  return {{"validation_loss", sums[0].item<double>() / targets},
          {"validation_accuracy", sums[1].item<double>() / targets}};
}

}  // namespace exactmamba::train
