#include "train/training_log.h"

#include <utility>

#include <fmt/format.h>

#include "core/number.h"

namespace exactmamba::train {

namespace {

constexpr const char* kEvaluation = "evaluation";  // kind of a line

}  // namespace

TrainingLog::TrainingLog(const std::filesystem::path& run, const TrainOptions& options,
                         const TrainState& state, bool resumed)
    : metrics_(run / "metrics.jsonl", resumed ? state.step : -1, state.evaluation_pending ? kEvaluation : ""),
      progress_("train", options.steps, "tok", state.step),
      steps_(options.steps),
      log_every_(options.log_every),
      start_(std::chrono::steady_clock::now()),
      seconds_before_(state.elapsed_seconds),
      tokens_before_(state.tokens),
      window_seconds_(state.elapsed_seconds),
      window_tokens_(state.tokens) {}

double TrainingLog::elapsed_seconds() const {
  return seconds_before_ + std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

void TrainingLog::update(const TrainState& state, const UpdateResult& result, double learning_rate,
                         double alpha) {
  const bool due = state.step % log_every_ == 0 || state.step == steps_;
  if (result.outcome != Outcome::kApplied)
    write_skipped(state, result);
  else if (due)
    write_train(state, result, learning_rate, alpha);
  progress_.update(state.step, static_cast<double>(state.tokens - tokens_before_),
                   fmt::format("loss {:.4f}  grad norm {:.3f}  lr {:.2e}  alpha {:.3f}  {} targets",
                               core::shown(result.loss), core::shown(result.grad_norm), learning_rate, alpha,
                               result.target_tokens));
}

void TrainingLog::write_skipped(const TrainState& state, const UpdateResult& result) {
  if (result.outcome == Outcome::kWithoutTargets) {
    metrics_.write({{"kind", "skipped"}, {"step", state.step}, {"reason", "no target"}});
    return;
  }
  if (result.outcome == Outcome::kOverflow) {
    metrics_.write({{"kind", "skipped"},
                    {"step", state.step},
                    {"reason", "overflow"},
                    {"loss", result.loss},
                    {"loss_scale", result.loss_scale}});
    return;
  }
  metrics_.write({{"kind", "skipped"},
                  {"step", state.step},
                  {"reason", "not finite"},
                  {"loss", result.loss},
                  {"grad_norm", result.grad_norm}});
  core::log_warning(fmt::format("update {} skipped: loss {}, gradient norm {} ({} in a row)", state.step,
                                core::shown(result.loss), core::shown(result.grad_norm),
                                state.bad_updates_in_row));
}

void TrainingLog::write_train(const TrainState& state, const UpdateResult& result, double learning_rate,
                              double alpha) {
  core::Json line = {{"kind", "train"},
                     {"step", state.step},
                     {"loss", result.loss},
                     {"grad_norm", result.grad_norm},
                     {"lr", learning_rate},
                     {"alpha", alpha},
                     {"tokens_per_second", tokens_per_second(state)},
                     {"target_tokens", result.target_tokens},
                     {"total_tokens", state.tokens},
                     {"elapsed_seconds", elapsed_seconds()}};
  if (state.loss_scale) line["loss_scale"] = result.loss_scale;
  metrics_.write(line);
}

void TrainingLog::evaluation(const TrainState& state, const core::Json& measures, double alpha) {
  core::Json line = {
      {"kind", kEvaluation}, {"step", state.step}, {"alpha", alpha}, {"elapsed_seconds", elapsed_seconds()}};
  line.update(measures);
  metrics_.write(line);
}

/// Since the last training line.
double TrainingLog::tokens_per_second(const TrainState& state) {
  const double now = elapsed_seconds();
  const double seconds = now - std::exchange(window_seconds_, now);
  const int64_t tokens = state.tokens - std::exchange(window_tokens_, state.tokens);
  return seconds > 0 ? static_cast<double>(tokens) / seconds : 0.0;
}

}  // namespace exactmamba::train
