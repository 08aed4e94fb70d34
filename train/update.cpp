#include "train/update.h"

#include <cmath>

#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include "train/gradient_reducer.h"
#include "train/gradients.h"

namespace exactmamba::train {
namespace {

/// Targets and positions of the update, over all ranks.
UpdateResult count_tokens(const std::vector<data::Batch>& micro_batches, core::Communicator& communicator) {
  at::Tensor counts = at::zeros({2}, at::kLong);
  for (const data::Batch& batch : micro_batches) {
    counts[0] += batch.target_count;
    counts[1] += batch.input_ids.numel();
  }
  communicator.all_reduce_sum(counts);
  UpdateResult result;
  result.target_tokens = counts[0].item<int64_t>();
  result.tokens = counts[1].item<int64_t>();
  return result;
}

/// Mean loss over all ranks; gradients are left in the store, summed over all ranks.
double accumulate_gradients(models::MambaLM& model, const std::vector<data::Batch>& micro_batches,
                            int64_t target_tokens, core::Communicator& communicator) {
  const double scale = 1.0 / static_cast<double>(target_tokens);
  double loss_sum = 0;
  model.parameters().zero_gradients();
  GradientReducer reducer(model.parameters(), communicator);
  const auto reduce = [&reducer](int64_t layer) { reducer.ready(layer); };
  for (const data::Batch& batch : micro_batches) {
    if (batch.target_count == 0) continue;
    const bool last = &batch == &micro_batches.back();
    loss_sum +=
        model.forward_backward(batch, scale, last ? reduce : models::MambaLM::GradientVisitor()).loss_sum;
  }
  reducer.finish();
  at::Tensor total = at::full({}, loss_sum, at::kDouble);
  communicator.all_reduce_sum(total);
  return total.item<double>() * scale;
}

}  // namespace

UpdateResult run_update(models::MambaLM& model, AdamW& optimizer,
                        const std::vector<data::Batch>& micro_batches, double learning_rate,
                        double max_grad_norm, core::Communicator& communicator) {
  UpdateResult result = count_tokens(micro_batches, communicator);
  if (result.target_tokens == 0) {
    result.outcome = Outcome::kWithoutTargets;
    return result;
  }
  result.loss = accumulate_gradients(model, micro_batches, result.target_tokens, communicator);
  result.grad_norm = gradient_norm(model.parameters());
  if (!std::isfinite(result.loss) || !std::isfinite(result.grad_norm)) {
    result.outcome = Outcome::kNotFinite;
    return result;
  }
  result.clip_coefficient = clip_gradients(model.parameters(), result.grad_norm, max_grad_norm);
  optimizer.step(learning_rate);
  return result;
}

}  // namespace exactmamba::train
