#include "eval/row_values.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "decomp/approximation_error.h"
#include "eval/alignment/alignment_values.h"
#include "eval/translation_scores.h"

namespace exactmamba::eval {

using core::Json;

namespace {

struct KnownColumn {
  const char *key, *title, *unit, *better;
  int digits;
  const char* help;
};
constexpr KnownColumn kKnownColumns[] = {
    {"character_accuracy", "Characters", "%", "higher", 1,
     "Characters of the copy predicted from the gold characters before them."},
    {"string_accuracy", "Strings", "%", "higher", 1,
     "Copies right to the end sign, each character predicted from the gold ones before it."},
    {"free_character_accuracy", "Characters, free", "%", "higher", 1,
     "Characters of copies that the model generates by itself."},
    {"free_string_accuracy", "Strings, free", "%", "higher", 1,
     "Copies that the model generates by itself without a mistake."},
    {"bits_per_byte", "Bits per byte", "", "lower", 3, "Validation loss in bits per byte of text."},
    {"perplexity_before", "Perplexity before", "", "lower", 3,
     "Perplexity of the model that training started from, on the same rows."},
    {"perplexity", "Perplexity", "", "lower", 3, "exp of the validation loss per target token."},
};

Json column(const std::string& key, const std::string& title, const std::string& unit,
            const std::string& better, int digits, const std::string& help) {
  return {{"key", key},       {"title", title},   {"unit", unit},
          {"better", better}, {"digits", digits}, {"help", help}};
}

/// "0-15" → "layers 0–15", "1-1" → "layer 1"
std::string layers_text(const std::string& range) {
  const size_t dash = range.find('-');
  const std::string first = range.substr(0, dash), last = range.substr(dash + 1);
  return first == last ? "layer " + first : "layers " + first + "–" + last;
}

/// A measure of copy attribution, by its part of the key.
struct AttributionMeasure {
  const char *key, *title, *help;
};
constexpr AttributionMeasure kAttributionMeasures[] = {
    {"auc", "AUC",
     "Area under the ROC curve: how often a right pair scores above a wrong one; 0.5 is guessing, 1 perfect"},
    {"ap", "AP", "Average precision: the area under the precision–recall curve; 1 is perfect"},
    {"r_at_k", "R@K",
     "Recall at K: the share of the K right pairs that are among the K highest entries; 1 is perfect"},
};

Json attribution_column(const std::string& key, const std::string& method, const AttributionMeasure& measure,
                        const std::string& of_maps) {
  return column(key, fmt::format("{}, {}", measure.title, method), "", "higher", 3,
                fmt::format("{}. Right: a copied character and its source; wrong: it and the others. By {}.",
                            measure.help, of_maps));
}

/// error.APPROXIMATION.FIRST-LAST, attribution.METHOD.MEASURE, and those of translations; nothing for other
/// keys.
Json derived_column(const std::string& key) {
  Json of_translations = translation_column(key);
  if (!of_translations.is_null()) return of_translations;
  Json of_alignments = alignment_column(key);
  if (!of_alignments.is_null()) return of_alignments;
  const size_t first = key.find('.'), last = key.rfind('.');
  if (first == last) return {};
  const std::string kind = key.substr(0, first), what = key.substr(first + 1, last - first - 1),
                    detail = key.substr(last + 1);
  if (kind == "error") {
    const std::string layers = layers_text(detail);
    return column(key, fmt::format("Error, {} · {}", layers, what), "", "lower", 3,
                  fmt::format("Approximation error of '{}', mean over {}; 0 is exact.", what, layers));
  }
  if (kind == "attribution" && detail == "layer")
    return column(key, "Best layer, " + what, "", "", 0,
                  fmt::format("The layer with the highest AP by {}.", what));
  for (const AttributionMeasure& measure : kAttributionMeasures) {
    if (detail != measure.key) continue;
    if (kind == "attribution")
      return attribution_column(key, what, measure, what + " of the best layer (by AP)");
    if (kind == "attribution_whole_model")
      return attribution_column(key, what + ", all layers", measure, what + " of all layers together");
  }
  return {};
}

// ---- keys ----

using Keys = std::vector<std::string>;

void append(Keys& keys, const Keys& more) { keys.insert(keys.end(), more.begin(), more.end()); }

bool is_measured(const std::string& key, const MeasuredRun& run) {
  if (key == "bits_per_byte") return run.task == "text";
  if (!key.ends_with("_accuracy")) return true;
  return run.task == "copy" && (run.evaluate.free_running || !key.starts_with("free_"));
}

Keys error_keys(const std::string& approximation, int64_t n_layer) {
  Keys keys;
  for (const auto& [first, end] : decomp::layer_ranges(n_layer))
    keys.push_back(error_key(approximation, first, end));
  return keys;
}

/// So that a recipe can name columns before its checkpoint is there: model.n_layer has the same limit.
constexpr int64_t kDeepest = 1024;

Keys error_keys_of_any_depth(const std::string& approximation) {
  Keys keys;
  std::set<std::string> known;
  for (int64_t n_layer = 1; n_layer <= kDeepest; ++n_layer) {
    for (const std::string& key : error_keys(approximation, n_layer))
      if (known.insert(key).second) keys.push_back(key);
  }
  return keys;
}

Keys attribution_keys(const std::string& map) {
  Keys keys;
  for (const AttributionMeasure& measure : kAttributionMeasures)
    keys.push_back(fmt::format("attribution.{}.{}", map, measure.key));
  keys.push_back(fmt::format("attribution.{}.layer", map));
  if (!map.starts_with("alti_logit ")) return keys;
  for (const AttributionMeasure& measure : kAttributionMeasures)
    keys.push_back(fmt::format("attribution_whole_model.{}.{}", map, measure.key));
  return keys;
}

}  // namespace

std::string error_key(const std::string& approximation, int64_t first, int64_t end) {
  return fmt::format("error.{}.{}-{}", approximation, first, end - 1);
}

std::vector<std::string> value_keys(const MeasuredRun& run) {
  Keys keys;
  for (const KnownColumn& known : kKnownColumns)
    if (is_measured(known.key, run)) keys.emplace_back(known.key);
  for (const std::string& approximation : run.decompose.approximations)
    append(keys,
           run.n_layer > 0 ? error_keys(approximation, run.n_layer) : error_keys_of_any_depth(approximation));
  if (run.task == "copy") {
    for (const std::string& map : decomp::map_titles(run.decompose)) append(keys, attribution_keys(map));
  }
  if (run.task == "translation") {
    append(keys, translation_keys(run.evaluate));
    append(keys, alignment_keys(run.evaluate.alignment, run.decompose.approximations));
  }
  return keys;
}

Json report_columns(const Json& rows, const std::vector<std::string>& more) {
  Keys keys;
  const auto add = [&keys](const std::string& key) {
    if (std::find(keys.begin(), keys.end(), key) == keys.end()) keys.push_back(key);
  };
  for (const Json& row : rows) {
    for (const auto& [key, value] : row["values"].items()) add(key);
  }
  for (const std::string& key : more) add(key);
  Json columns = Json::array();
  for (const KnownColumn& known : kKnownColumns) {
    if (std::find(keys.begin(), keys.end(), known.key) != keys.end()) {
      columns.push_back(column(known.key, known.title, known.unit, known.better, known.digits, known.help));
    }
  }
  for (const std::string& key : keys) {
    Json derived = derived_column(key);
    if (!derived.is_null()) columns.push_back(std::move(derived));
  }
  return columns;
}

std::vector<std::string> keys_of_name(const std::string& name, const std::vector<std::string>& keys) {
  std::vector<std::string> found;
  for (const std::string& key : keys)
    if (key == name || key.starts_with(name + ".")) found.push_back(key);
  return found;
}

}  // namespace exactmamba::eval
