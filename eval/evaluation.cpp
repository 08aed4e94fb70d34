#include "eval/evaluation.h"

#include <cmath>
#include <map>
#include <numbers>

#include <ATen/core/Tensor.h>
#include <fmt/format.h>

#include "core/error.h"
#include "core/number.h"
#include "core/stop_signal.h"
#include "data/loader.h"
#include "data/packed_text.h"
#include "decomp/approximation_error.h"
#include "eval/alignment/alignment_values.h"
#include "eval/copying.h"
#include "eval/optional_json.h"
#include "eval/row_values.h"
#include "eval/translation_scores.h"

namespace exactmamba::eval {

using core::Json;
using decomp::InteractionMap;

namespace {

const data::CopyTask* as_copy_task(const data::Dataset& valid) {
  return dynamic_cast<const data::CopyTask*>(&valid);
}

/// Bytes of text that the targets stand for, ends of documents not counted; 0 for data that is no text.
int64_t target_bytes(const data::Dataset& valid, const data::Batch& batch) {
  const auto* text = dynamic_cast<const data::PackedText*>(&valid);
  if (text == nullptr) return 0;
  const at::Tensor targets = batch.targets.contiguous();
  const int64_t* ids = targets.const_data_ptr<int64_t>();
  int64_t bytes = 0;
  for (int64_t i = 0; i < targets.numel(); ++i)
    if (ids[i] >= 0) bytes += text->text_bytes(ids[i]);
  return bytes;
}

/// Sums over the rows that are evaluated.
struct ValidationLoss {
  double nats = 0;
  int64_t targets = 0, bytes = 0;

  double mean() const { return nats / static_cast<double>(targets); }
};

ValidationLoss validation_loss(const models::MambaLM& model, const data::Dataset& valid,
                               const EvaluateOptions& options) {
  ValidationLoss sums;
  const data::BatchesInOrder batches(valid, options.batch_size, options.max_rows);
  for (int64_t i = 0; i < batches.size(); ++i) {
    core::stop_if_asked("evaluating");
    const data::Batch batch = batches[i];
    const models::LossOutputs outputs = model.loss(batch);
    sums.nats += outputs.loss_sum.item<double>();
    sums.targets += batch.target_count;
    sums.bytes += target_bytes(valid, batch);
  }
  core::require(sums.targets > 0, "the validation data '{}' has no target tokens", valid.name());
  core::require<core::NumericalError>(std::isfinite(sums.mean()),
                                      "the validation loss is {}: the model's logits are not finite",
                                      core::shown(sums.mean()));
  return sums;
}

void add_loss(Json& values, const models::MambaLM& model, const data::Dataset& valid,
              const EvaluateOptions& options) {
  const ValidationLoss loss = validation_loss(model, valid, options);
  values["loss"] = loss.mean();
  values["perplexity"] = std::exp(loss.mean());
  if (loss.bytes > 0)
    values["bits_per_byte"] = loss.nats / std::numbers::ln2 / static_cast<double>(loss.bytes);
}

void add_copying(Json& values, const models::MambaLM& model, const data::CopyTask& task,
                 const EvaluateOptions& options) {
  const CopyAccuracy forced = teacher_forced_accuracy(model, task, options.batch_size, options.max_rows);
  values["character_accuracy"] = forced.character();
  values["string_accuracy"] = forced.string();
  if (!options.free_running) return;
  const CopyAccuracy free = free_running_accuracy(model, task, options.batch_size, options.max_rows);
  values["free_character_accuracy"] = free.character();
  values["free_string_accuracy"] = free.string();
}

// ---- approximation error ----

void add_errors(Json& row, const Json& errors, const std::string& measure) {
  const Json& table = errors.at("measures").at(measure);
  row["layers"][fmt::format("approximation error ({})", measure)] = table;
  for (const auto& [approximation, per_layer] : table.items()) {
    for (const auto& [first, last] : decomp::layer_ranges(static_cast<int64_t>(per_layer.size()))) {
      double sum = 0;
      for (int64_t layer = first; layer < last; ++layer)
        sum += per_layer[static_cast<size_t>(layer)].get<double>();
      row["values"][error_key(approximation, first, last)] = sum / static_cast<double>(last - first);
    }
  }
}

size_t layer_count(const Json& errors) { return errors.at("measures").front().front().size(); }

// ---- copy attribution ----

/// [method][layer], kWholeModel among the layers
using Attribution = std::map<std::string, std::map<int64_t, RankingMeans>>;

void add_maps(Attribution& attribution, const std::vector<InteractionMap>& maps, const data::CopyTask& task,
              int64_t row) {
  const std::vector<data::CopyExample> examples = task.examples(task.row(row));
  for (const InteractionMap& map : maps) {
    RankingMeans& means = attribution[map.title()][map.layer];
    for (const data::CopyExample& example : examples) means.add(copy_attribution(map, example));
  }
}

void add_measures(Json& values, const std::string& prefix, const RankingMeasures& measures) {
  values[prefix + "auc"] = optional_json(measures.auc);
  values[prefix + "ap"] = optional_json(measures.ap);
  values[prefix + "r_at_k"] = optional_json(measures.recall_at_k);
}

/// One number per layer of the model, null for layers whose maps were not kept.
using LayerNumbers = std::vector<Json>;

void add_layer_attribution(Json& row, const std::string& method,
                           const std::map<int64_t, RankingMeans>& layers, size_t n_layer) {
  LayerNumbers auc(n_layer), ap(n_layer), recall(n_layer);
  RankingMeasures best;
  int64_t best_layer = -1;
  for (const auto& [layer, means] : layers) {
    const RankingMeasures measures = means.means();
    const auto index = static_cast<size_t>(layer);
    auc.at(index) = optional_json(measures.auc);
    ap.at(index) = optional_json(measures.ap);
    recall.at(index) = optional_json(measures.recall_at_k);
    if (best_layer >= 0 && measures.ap.value_or(0) <= best.ap.value_or(0)) continue;
    best = measures;
    best_layer = layer;
  }
  row["layers"]["copy attribution AUC"][method] = auc;
  row["layers"]["copy attribution AP"][method] = ap;
  row["layers"]["copy attribution R@K"][method] = recall;
  add_measures(row["values"], "attribution." + method + ".", best);
  row["values"]["attribution." + method + ".layer"] = best_layer;
}

void add_attribution(Json& row, Attribution attribution, size_t n_layer) {
  for (auto& [method, layers] : attribution) {
    const auto whole = layers.extract(decomp::kWholeModel);
    if (!whole.empty())
      add_measures(row["values"], "attribution_whole_model." + method + ".", whole.mapped().means());
    if (!layers.empty()) add_layer_attribution(row, method, layers, n_layer);
  }
}

// ---- heat maps ----

Json map_json(const InteractionMap& map, const data::Dataset& valid, int64_t max_tokens) {
  const auto length = std::min<int64_t>(static_cast<int64_t>(map.row.tokens.size()), max_tokens);
  const bool has_bias = map.values.size(1) > map.values.size(0);
  Json labels = Json::array();
  for (int64_t i = 0; i < length; ++i)
    labels.push_back(valid.token_text(map.row.tokens[static_cast<size_t>(i)]));
  Json columns = labels;
  if (has_bias) columns.push_back("bias");
  const at::Tensor values = map.values.to(at::kDouble).contiguous();
  Json lines = Json::array();
  for (int64_t i = 0; i < length; ++i) {
    const double* line = values.data_ptr<double>() + i * values.size(1);
    Json numbers = Json::array();
    for (int64_t j = 0; j < length; ++j) numbers.push_back(map_number(line[j]));
    if (has_bias) numbers.push_back(map_number(line[values.size(1) - 1]));
    lines.push_back(std::move(numbers));
  }
  const std::string layer =
      map.layer == decomp::kWholeModel ? "all layers" : fmt::format("layer {}", map.layer);
  const char* cut = length < static_cast<int64_t>(map.row.tokens.size()) ? ", first positions" : "";
  return {{"title", fmt::format("{}, {}, text {}{}", layer, map.title(), map.row.index, cut)},
          {"method", map.method},
          {"text", map.row.index},
          {"layer", map.layer},
          {"rows", labels},
          {"columns", columns},
          {"values", lines}};
}

}  // namespace

Json error_json(const decomp::ErrorTable& table, int64_t rows) {
  Json json = {{"bias", table.bias}, {"dtype", table.dtype}, {"rows", rows}, {"measures", Json::object()}};
  for (const decomp::ErrorMeasure measure : decomp::kErrorMeasures) {
    Json& by_approximation = json["measures"][decomp::error_measure_name(measure)] = Json::object();
    for (size_t a = 0; a < table.approximations.size(); ++a) {
      Json per_layer = Json::array();
      for (const decomp::ApproximationError& error : table.errors[a])
        per_layer.push_back(error.value(measure));
      by_approximation[table.approximations[a]] = per_layer;
    }
  }
  for (size_t a = 0; a < table.approximations.size(); ++a) {
    Json without_output = Json::array();
    for (const decomp::ApproximationError& error : table.errors[a])
      without_output.push_back(error.without_output());
    if (without_output != Json::array_t(without_output.size(), 0))
      json["positions_without_output"][table.approximations[a]] = without_output;
  }
  return json;
}

decomp::Row row_to_decompose(const data::Dataset& valid, int64_t index) {
  const data::Batch batch = data::collate({valid.row(index)}, 0);
  return {.input_ids = batch.input_ids[0], .cu_seqlens = batch.cu_seqlens, .targets = {}, .index = index};
}

Json model_measures(const models::MambaLM& model, const data::Dataset& valid,
                    const EvaluateOptions& options) {
  Json values = Json::object();
  if (const data::CopyTask* task = as_copy_task(valid)) add_copying(values, model, *task, options);
  add_loss(values, model, valid, options);
  return values;
}

double perplexity(const models::MambaLM& model, const data::Dataset& valid, const EvaluateOptions& options) {
  return std::exp(validation_loss(model, valid, options).mean());
}

Json report_row(const EvaluationParts& parts, const data::Dataset& valid, const std::string& error_measure,
                const ReportOptions& options) {
  Json row = {{"values", parts.measures}, {"layers", Json::object()}, {"maps", Json::array()}};
  add_errors(row, parts.errors, error_measure);
  if (const auto alignment = parts.measures.find(kAlignmentKey); alignment != parts.measures.end()) {
    row["values"].erase(kAlignmentKey);
    add_alignment(row, *alignment, options.map_rows);
  }
  mark_missing_comet(row["values"]);
  const data::CopyTask* task = as_copy_task(valid);
  const auto decomposed = parts.errors.at("rows").get<int64_t>();
  Attribution attribution;
  for (int64_t index = 0; index < (task ? decomposed : std::min(decomposed, options.map_rows)); ++index) {
    const std::vector<InteractionMap> maps = parts.maps(index);
    if (task) add_maps(attribution, maps, *task, index);
    for (const InteractionMap& map : maps)
      if (index < options.map_rows) row["maps"].push_back(map_json(map, valid, options.max_map_tokens));
  }
  add_attribution(row, std::move(attribution), layer_count(parts.errors));
  return row;
}

}  // namespace exactmamba::eval
