// The recipe's tables [evaluate] and [report].
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/schema.h"

namespace exactmamba::eval {

/// Word alignments of a translation model against gold.
struct AlignmentOptions {
  std::string sentences;  // empty: no alignments
  std::string gold, gold_format = "talp", gold_base;
  bool gold_target_first = false;
  int64_t dev_pairs = 0;
  std::string dev_sentences, dev_gold;
  std::vector<std::string> methods = {
      "l2", "alti", "rollout", "alti_logit", "mamba_attention", "mamba_attention_rollout"};
  std::string rows = "awo";
  std::string reverse_model;
  std::vector<std::string> symmetrise = {"intersection", "union", "grow_diagonal", "grow_diagonal_final"};
};

struct EvaluateOptions {
  int64_t batch_size = 16;   // rows at a time
  int64_t max_rows = 0;      // of the validation data; 0: all
  bool free_running = true;  // copy task: also generate the copies
  bool bleu = true;          // translation, these and the rest
  std::vector<std::string> test = {};
  int64_t beam = 5;  // TranslateOptions
  double length_penalty = 1, max_ratio = 2.5;
  std::string comet_model = {};  // empty: no COMET
  AlignmentOptions alignment = {};
};
void bind(core::Schema& schema, EvaluateOptions& options);

struct ReportOptions {
  std::string title;                 // empty: the run's name
  std::vector<std::string> columns;  // names of value keys (row_values.h); empty: all
  int64_t map_rows = 2;              // texts whose maps the page shows
  int64_t max_map_tokens = 96;       // longer maps are cut to their first positions
};
void bind(core::Schema& schema, ReportOptions& options);

/// What is published of the runs of a recipe.
struct PublishedOptions {
  std::string source;
  std::vector<std::string> columns, runs;  // value keys and labels
  std::vector<std::string> values;         // [run][column], as printed there; "": none

  /// Of the run `label`, by column. An empty object when it is none of `runs`.
  core::Json of_run(const std::string& label) const;
};
void bind(core::Schema& schema, PublishedOptions& options);

}  // namespace exactmamba::eval
