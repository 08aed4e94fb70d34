// What one trained and decomposed model is worth, as JSON: the parts `values`, `layers` and `maps` of a
// report's row (report.h).
//
// values  loss [nats/target], perplexity, perplexity_before (of the model that training started from, if
// there
//         was one), bits_per_byte (text, where the tokenizer knows what bytes a token stands for);
//         character_accuracy, string_accuracy and the same with free_ (copy task) [fractions];
//         error.APPROXIMATION.FIRST-LAST per layer range;
//         attribution.METHOD.{auc, ap, r_at_k, layer}: the layer with the highest AP (copy task);
//         attribution_whole_model.METHOD.{auc, ap, r_at_k}: maps of all layers together
// layers  "approximation error (MEASURE)": {approximation: […]};
//         "copy attribution AUC" and so on: {method: […]}
#pragma once

#include <functional>
#include <vector>

#include "core/json.h"
#include "data/dataset.h"
#include "decomp/decompose.h"
#include "eval/options.h"
#include "models/mamba_lm.h"

namespace exactmamba::eval {

/// The errors of a decomposition under every measure: {"bias", "dtype", "rows", "measures": {measure:
/// {approximation: [per layer]}}}
core::Json error_json(const decomp::ErrorTable& table, int64_t rows);

decomp::Row row_to_decompose(const data::Dataset& valid, int64_t index);

/// Loss and task measures: needs the model and the validation data only. @throws Interrupted between batches
/// (core/stop_signal.h)
core::Json model_measures(const models::MambaLM& model, const data::Dataset& valid,
                          const EvaluateOptions& options);

/// exp of the loss per target token, as model_measures() has it. @throws as that
double perplexity(const models::MambaLM& model, const data::Dataset& valid, const EvaluateOptions& options);

/// A report's row from its parts: the task's measures, the error table (error_json, shown under `measure`),
/// and the interaction maps of each decomposed row, asked for one row at a time.
struct EvaluationParts {
  core::Json measures, errors;
  std::function<std::vector<decomp::InteractionMap>(int64_t row)> maps;
};
core::Json report_row(const EvaluationParts& parts, const data::Dataset& valid,
                      const std::string& error_measure, const ReportOptions& options);

}  // namespace exactmamba::eval
