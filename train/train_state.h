// Where a training is, beyond weights and moments: the content of a checkpoint's trainer.json.
#pragma once

#include <optional>
#include <string>

#include "core/json.h"
#include "train/loss_scale.h"

namespace exactmamba::train {

/// The checkpoint with the best value of the chosen measure so far.
struct Best {
  int64_t step = 0;
  double value = 0;
};

struct TrainState {
  int64_t step = 0;             // updates done, skipped ones included: position of schedule and annealing
  int64_t loader_position = 0;  // batches taken
  int64_t optimizer_steps = 0;  // updates applied
  int64_t tokens = 0, target_tokens = 0;
  int64_t updates_without_targets = 0;
  int64_t bad_updates = 0;  // loss or gradient not finite; overflows of a scaled loss do not count
  int64_t bad_updates_in_row = 0;
  double elapsed_seconds = 0;  // of training, over all runs
  std::optional<Best> best;
  bool evaluation_pending = false;      // a stop came before the evaluation of `step` was done
  int64_t evaluations_since_best = 0;   // that count: with annealing, those at alpha = 1
  std::optional<LossScale> loss_scale;  // of a training in float16
  std::string options_hash;             // of everything that affects the weights
  int64_t ranks = 1;                    // processes: each takes a slice of every batch
};

core::Json to_json(const TrainState& state);
/// @throws InputError naming `where` for a newer format_version, a missing key or a wrong type
TrainState train_state_from_json(const core::Json& json, const std::string& where);

}  // namespace exactmamba::train
