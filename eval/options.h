// The recipe's tables [evaluate] and [report].
#pragma once

#include <cstdint>
#include <string>

#include "core/schema.h"

namespace exactmamba::eval {

struct EvaluateOptions {
  int64_t batch_size = 16;   // rows at a time
  int64_t max_rows = 0;      // of the validation data; 0: all
  bool free_running = true;  // copy task: also generate the copies
};
void bind(core::Schema& schema, EvaluateOptions& options);

struct ReportOptions {
  std::string title;            // empty: the run's name
  int64_t map_rows = 2;         // texts whose maps the page shows
  int64_t max_map_tokens = 96;  // longer maps are cut to their first positions
};
void bind(core::Schema& schema, ReportOptions& options);

}  // namespace exactmamba::eval
