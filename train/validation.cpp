#include "train/validation.h"

#include <chrono>
#include <optional>

#include <ATen/ops/eq.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>

#include "core/error.h"
#include "core/log.h"
#include "core/stop_signal.h"

namespace exactmamba::train {
namespace {

/// Begins when the batches have taken a while: most validations are over before.
class Teller {
 public:
  Teller(int64_t batches, bool tells) : batches_(batches), tells_(tells) {}

  void operator()(int64_t done) {
    if (!tells_) return;
    if (!progress_ && std::chrono::steady_clock::now() - start_ > kPatience)
      progress_.emplace("validation", batches_, "batch", first_ = done);
    if (progress_) progress_->update(done, static_cast<double>(done - first_));
  }

 private:
  static constexpr std::chrono::seconds kPatience{3};
  int64_t batches_, first_ = 0;
  bool tells_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::optional<core::Progress> progress_;
};

}  // namespace

core::Json validate(const models::MambaLM& model, const data::BatchesInOrder& batches,
                    core::Communicator& communicator) {
  at::Tensor sums = at::zeros({4}, at::kDouble);  // loss, right predictions, targets; whether to stop
  Teller teller(batches.size(), communicator.rank() == 0);
  for (int64_t i = communicator.rank(); i < batches.size(); i += communicator.size()) {
    if (core::stop_requested() != 0) {
      sums[3] = 1;
      break;
    }
    teller(i);
    const data::Batch batch = batches[i];
    if (batch.target_count == 0) continue;
    const models::LossOutputs out = model.loss(batch);
    sums[0] += out.loss_sum.item<double>();
    sums[1] += out.predictions.cpu().eq(batch.targets).sum();  // never equal where the target is ignored
    sums[2] += batch.target_count;
  }
  if (sums[3].item<double>() == 0) teller(batches.size());
  communicator.all_reduce_sum(sums);
  if (sums[3].item<double>() > 0) throw core::Interrupted(core::stop_requested(), "stopped while validating");
  const double targets = sums[2].item<double>();
  core::require(targets > 0, "the validation data has no target token: its loss is not defined");
  return {{"validation_loss", sums[0].item<double>() / targets},
          {"validation_accuracy", sums[1].item<double>() / targets}};
}

}  // namespace exactmamba::train
