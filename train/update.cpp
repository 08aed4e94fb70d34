#include "train/update.h"

#include <cmath>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include "core/device.h"
#include "train/gradient_reducer.h"
#include "train/gradients.h"

namespace exactmamba::train {
namespace {

/// Targets and positions of the update, over all ranks.
UpdateResult count_tokens(const std::vector<data::Batch>& micro_batches, const at::Device& device,
                          core::Communicator& communicator) {
  at::Tensor counts = at::zeros({2}, at::kLong);
  for (const data::Batch& batch : micro_batches) {
    counts[0] += batch.target_count;
    counts[1] += batch.input_ids.numel();
  }
  counts = core::copy_to(device, counts);
  communicator.all_reduce_sum(counts);
  counts = counts.cpu();
  UpdateResult result;
  result.target_tokens = counts[0].item<int64_t>();
  result.tokens = counts[1].item<int64_t>();
  return result;
}

/// Sum of the losses over all ranks; gradients of `scale` times it are left in the store, summed over all
/// ranks.
at::Tensor accumulate_gradients(models::MambaLM& model, const std::vector<data::Batch>& micro_batches,
                                double scale, core::Communicator& communicator) {
  at::Tensor loss_sum =
      at::zeros({}, at::TensorOptions().dtype(at::kDouble).device(model.placement().device));
  bool fresh = true;
  GradientReducer reducer(model.parameters(), communicator);
  const auto reduce = [&reducer](int64_t layer) { reducer.ready(layer); };
  for (const data::Batch& batch : micro_batches) {
    if (batch.target_count == 0) continue;
    const bool last = &batch == &micro_batches.back();
    const auto visit = last ? reduce : models::MambaLM::GradientVisitor();
    loss_sum += model.forward_backward(batch, scale, visit, std::exchange(fresh, false)).loss_sum;
  }
  if (fresh) model.parameters().zero_gradients();
  reducer.finish();
  communicator.all_reduce_sum(loss_sum);
  return loss_sum;
}

/// The scale has no part in the loss itself.
Outcome outcome_of_skipped(double loss, const LossScale* loss_scale) {
  const bool overflow = loss_scale && loss_scale->can_fall() && std::isfinite(loss);
  return overflow ? Outcome::kOverflow : Outcome::kNotFinite;
}

}  // namespace

at::Device exchange_device(const models::MambaLM& model, const core::Communicator& communicator) {
  return communicator.size() > 1 ? model.placement().device : at::Device(at::kCPU);
}

UpdateResult run_update(models::MambaLM& model, AdamW& optimizer,
                        const std::vector<data::Batch>& micro_batches, double learning_rate,
                        double max_grad_norm, core::Communicator& communicator, LossScale* loss_scale) {
  UpdateResult result = count_tokens(micro_batches, exchange_device(model, communicator), communicator);
  if (result.target_tokens == 0) {
    result.outcome = Outcome::kWithoutTargets;
    return result;
  }
  if (loss_scale) result.loss_scale = loss_scale->value;
  const double scale = 1.0 / static_cast<double>(result.target_tokens);
  const at::Tensor loss =
                       accumulate_gradients(model, micro_batches, scale * result.loss_scale, communicator) *
                       scale,
                   norm = gradient_norm(model.parameters()) / result.loss_scale,
                   clip = clip_coefficient(norm, max_grad_norm),
                   finite = (loss + norm).isfinite();  // neither can be −∞, so infinities do not cancel
  const bool applied = optimizer.step(learning_rate, clip / result.loss_scale, finite);
  const at::Tensor numbers = at::stack({loss, norm, clip}).cpu();
  result.loss = numbers[0].item<double>();
  result.grad_norm = numbers[1].item<double>();
  if (applied)
    result.clip_coefficient = numbers[2].item<double>();
  else
    result.outcome = outcome_of_skipped(result.loss, loss_scale);
  if (loss_scale && result.outcome == Outcome::kNotFinite)
    loss_scale->finite_updates = 0;  // no scale would have helped
  else if (loss_scale)
    loss_scale->adapt(applied);
  return result;
}

}  // namespace exactmamba::train
