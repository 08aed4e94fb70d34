// The values that a report's row may have, by key, and the columns that show them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/json.h"
#include "decomp/options.h"
#include "eval/options.h"

namespace exactmamba::eval {

/// What decides which values a run has.
struct MeasuredRun {
  std::string task;     // data.task
  int64_t n_layer = 0;  // 0: of a checkpoint, not known yet
  const decomp::DecomposeOptions& decompose;
  const EvaluateOptions& evaluate;
};

/// Keys of the values that the run's row may have. Of a depth that is not known: those of every depth.
std::vector<std::string> value_keys(const MeasuredRun& run);

/// "error.activation.0-15", of the layers [first, end).
std::string error_key(const std::string& approximation, int64_t first, int64_t end);

/// The columns of `rows`, as report_row() makes them: what any of them has, or `more` names, in a fixed
/// order.
core::Json report_columns(const core::Json& rows, const std::vector<std::string>& more = {});

/// Of `keys` those that `name` stands for: itself, or all below it ("error", "bleu").
std::vector<std::string> keys_of_name(const std::string& name, const std::vector<std::string>& keys);

}  // namespace exactmamba::eval
