#include "train/validation.h"

#include <chrono>
#include <optional>

#include <ATen/ops/eq.h>
#include <ATen/ops/full.h>
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
    if (progress_)
      progress_->update(done, static_cast<double>(done - first_));
    else if (std::chrono::steady_clock::now() - start_ > kQuiet)
      progress_.emplace("validation", batches_, "batch", first_ = done);
  }

 private:
  static constexpr std::chrono::seconds kQuiet{3};
  int64_t batches_, first_ = 0;
  bool tells_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::optional<core::Progress> progress_;
};

/// On any rank.
bool is_stop_asked(core::Communicator& communicator) {
  if (communicator.size() == 1) return core::stop_requested() != 0;
  at::Tensor asked = at::full({}, core::stop_requested() != 0, at::kDouble);
  communicator.all_reduce_sum(asked);
  return asked.item<double>() > 0;
}

}  // namespace

core::Json validate(const models::MambaLM& model, const data::BatchesInOrder& batches,
                    core::Communicator& communicator) {
  at::Tensor sums = at::zeros({3}, at::kDouble);  // loss, right predictions, targets
  Teller teller(batches.size(), communicator.rank() == 0);
  for (int64_t first = 0; first < batches.size(); first += communicator.size()) {
    if (is_stop_asked(communicator)) throw core::Interrupted(core::agreed_stop(), "stopped while validating");
    teller(first);
    const int64_t own = first + communicator.rank();
    if (own >= batches.size()) continue;
    const data::Batch batch = batches[own];
    if (batch.target_count == 0) continue;
    const models::LossOutputs out = model.loss(batch);
    sums[0] += out.loss_sum.item<double>();
    sums[1] += out.predictions.cpu().eq(batch.targets).sum();  // never equal where the target is ignored
    sums[2] += batch.target_count;
  }
  teller(batches.size());
  communicator.all_reduce_sum(sums);
  const double targets = sums[2].item<double>();
  core::require(targets > 0, "the validation data has no target token: its loss is not defined");
  return {{"validation_loss", sums[0].item<double>() / targets},
          {"validation_accuracy", sums[1].item<double>() / targets}};
}

}  // namespace exactmamba::train
