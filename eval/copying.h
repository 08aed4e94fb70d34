// The measures of the copy task (design: maths §3): accuracy with the gold prefix and free-running, and
// whether contributions point to the character that is copied.
#pragma once

#include <vector>

#include "data/copy_task.h"
#include "decomp/interaction_map.h"
#include "eval/ranking.h"
#include "models/mamba_lm.h"

namespace exactmamba::eval {

struct CopyAccuracy {
  int64_t characters = 0, characters_right = 0;  // characters of the copy, the end sign not counted
  int64_t strings = 0, strings_right = 0;        // every character and the end sign
  double character() const {
    return characters ? static_cast<double>(characters_right) / static_cast<double>(characters) : 0;
  }
  double string() const {
    return strings ? static_cast<double>(strings_right) / static_cast<double>(strings) : 0;
  }
};

// Both throw Interrupted when a stop was asked for (core/stop_signal.h), unless `stoppable` is false.
/// Each character predicted from the gold characters before it. `max_rows` = 0: all rows of the task.
CopyAccuracy teacher_forced_accuracy(const models::MambaLM& model, const data::CopyTask& task,
                                     int64_t batch_size, int64_t max_rows = 0, bool stoppable = true);
/// Each character predicted from the model's own characters before it (greedy).
CopyAccuracy free_running_accuracy(const models::MambaLM& model, const data::CopyTask& task,
                                   int64_t batch_size, int64_t max_rows = 0);

/// The entries of `map` that attribution is judged by: rows that emit a character × columns of the source's
/// characters. Gold is the diagonal.
RankingMeasures copy_attribution(const decomp::InteractionMap& map, const data::CopyExample& example);

}  // namespace exactmamba::eval
