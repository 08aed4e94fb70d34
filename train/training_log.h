// What a training says while it runs: a progress line on stderr and metrics.jsonl. Lines of metrics.jsonl
// (absent value: null):
//   {"kind": "train", "step", "loss" [nats/target], "grad_norm" (before clipping), "lr", "alpha",
//    "tokens_per_second", "target_tokens" [of the update], "total_tokens", "elapsed_seconds",
//    "loss_scale" [in float16 only]}                                             every log_every updates
//   {"kind": "skipped", "step", "reason": "no target"}                           every skipped update
//   {"kind": "skipped", "step", "reason": "not finite", "loss", "grad_norm"}
//   {"kind": "skipped", "step", "reason": "overflow", "loss", "loss_scale" (the gradient was not finite; the
//    next update has half of it)}
//   {"kind": "evaluation", "step", "alpha", "elapsed_seconds", measures…}
#pragma once

#include <chrono>
#include <filesystem>

#include "core/json.h"
#include "core/log.h"
#include "core/metrics_log.h"
#include "train/train_options.h"
#include "train/train_state.h"
#include "train/update.h"

namespace exactmamba::train {

class TrainingLog {
 public:
  /// Cuts metrics.jsonl to the lines up to `state.step`, or to nothing for a training that starts. @throws
  /// IoError
  TrainingLog(const std::filesystem::path& run, const TrainOptions& options, const TrainState& state,
              bool resumed);

  /// After every update; `state` counts it already.
  void update(const TrainState& state, const UpdateResult& result, double learning_rate, double alpha);
  void evaluation(const TrainState& state, const core::Json& measures, double alpha);
  /// Of training, over all runs.
  double elapsed_seconds() const;

 private:
  void write_skipped(const TrainState& state, const UpdateResult& result);
  void write_train(const TrainState& state, const UpdateResult& result, double learning_rate, double alpha);
  double tokens_per_second(const TrainState& state);

  core::MetricsLog metrics_;
  core::Progress progress_;
  int64_t steps_, log_every_;
  std::chrono::steady_clock::time_point start_;
  double seconds_before_;  // of earlier runs
  int64_t tokens_before_;  // of earlier runs
  double window_seconds_;  // elapsed at the last training line
  int64_t window_tokens_;  // tokens at the last training line
};

}  // namespace exactmamba::train
