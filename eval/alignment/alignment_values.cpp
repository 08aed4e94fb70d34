#include "eval/alignment/alignment_values.h"

#include <fmt/format.h>

#include "decomp/options.h"
#include "eval/alignment/model_links.h"

namespace exactmamba::eval {

using core::Json;

namespace {

constexpr const char* kKind = "aer.";

struct KnownValue {
  const char *key, *score, *measure;  // `score` is an AlignmentScore, of which it is `measure`, or a number
  const char *title, *better, *help;
  int digits;
};
constexpr KnownValue kKnownValues[] = {
    {"best", "best", "aer", "AER, {}", "lower",
     "Alignment error rate by {} of the best layer, chosen by the development part, of the other pairs; 0 is "
     "perfect.",
     3},
    {"best_precision", "best", "precision", "AER's precision, {}", "higher",
     "The share of that layer's links, by {}, that gold has as sure or possible.", 3},
    {"best_recall", "best", "recall", "AER's recall, {}", "higher",
     "The share of gold's sure links that this layer has, by {}.", 3},
    {"best_links", "best", "links", "AER's links, {}", "", "How many links this layer gives, by {}.", 0},
    {"best_layer", "best_layer", "", "AER's layer, {}", "",
     "The layer by whose {} the development part has the lowest AER.", 0},
    {"layer_mean", "layer_mean", "aer", "AER, {}, mean of layers", "lower",
     "Alignment error rate by the mean of all layers' {}.", 3},
    {"whole_model", "whole_model", "aer", "AER, {}, all layers", "lower",
     "Alignment error rate by {} of all layers together.", 3},
    {"whole_model_precision", "whole_model", "precision", "AER's precision, {}, all layers", "higher",
     "The share of the links, by {} of all layers together, that gold has as sure or possible.", 3},
    {"whole_model_recall", "whole_model", "recall", "AER's recall, {}, all layers", "higher",
     "The share of gold's sure links that are found by {} of all layers together.", 3},
    {"whole_model_links", "whole_model", "links", "AER's links, {}, all layers", "",
     "How many links there are by {} of all layers together.", 0},
};

std::string value_key(const std::string& map, const std::string& value) {
  return fmt::format("{}{}.{}", kKind, map, value);
}

Json aers_of(const Json& scores) {
  Json aers = Json::array();
  for (const Json& score : scores) aers.push_back(score["aer"]);
  return aers;
}

/// Whether there is such a score of maps that are titled `map`.
bool has_score(const std::string& map, const std::string& score, bool development) {
  const std::string method = map.substr(0, map.find(' '));
  if (score == "layer_mean") return has_layer_mean(method);
  return score == "whole_model" ? has_whole_model(method) : development;
}

}  // namespace

std::vector<std::string> alignment_keys(const AlignmentOptions& options,
                                        const std::vector<std::string>& approximations) {
  if (options.sentences.empty()) return {};
  decomp::DecomposeOptions maps;
  maps.methods = options.methods;
  maps.approximations = approximations;
  const bool development = options.dev_pairs > 0 || !options.dev_sentences.empty();
  std::vector<std::string> keys;
  for (const std::string& map : decomp::map_titles(maps)) {
    for (const KnownValue& value : kKnownValues)
      if (has_score(map, value.score, development)) keys.push_back(value_key(map, value.key));
  }
  return keys;
}

void add_alignment(Json& row, const Json& alignment, int64_t map_pairs) {
  for (const Json& map : alignment.value("heat_maps", Json::array()))
    if (map["text"] < map_pairs) row["alignments"].push_back(map);
  Json& layers = row["layers"]["alignment error rate"] = Json::object();
  size_t depth = 0;
  for (const auto& [map, scores] : alignment["maps"].items()) {
    if (scores.contains("layers")) {
      layers[map] = aers_of(scores["layers"]);
      depth = scores["layers"].size();
    }
    for (const KnownValue& value : kKnownValues) {
      if (!scores.contains(value.score)) continue;
      const Json& score = scores[value.score];
      row["values"][value_key(map, value.key)] = score.is_object() ? score[value.measure] : score;
    }
  }
  for (const char* name : {"random", "scaled_diagonal"})
    layers[fmt::format("no model: {}", name)] = Json::array_t(depth, alignment["sanity"][name]["aer"]);
}

Json alignment_column(const std::string& key) {
  if (!key.starts_with(kKind)) return {};
  const size_t begin = std::string_view(kKind).size(), dot = key.rfind('.');
  for (const KnownValue& value : kKnownValues) {
    if (dot < begin || key.substr(dot + 1) != value.key) continue;
    const std::string map = key.substr(begin, dot - begin);
    return {{"key", key},
            {"title", fmt::format(fmt::runtime(value.title), map)},
            {"unit", ""},
            {"better", value.better},
            {"digits", value.digits},
            {"help", fmt::format(fmt::runtime(value.help), map)}};
  }
  return {};
}

std::string sanity_text(const Json& alignment) {
  std::string text;
  for (const auto& [name, score] : alignment["sanity"].items())
    if (!score["aer"].is_null())
      text += fmt::format("{}{} {:.3f}", text.empty() ? "" : ", ", name, score["aer"].get<double>());
  return text;
}

}  // namespace exactmamba::eval
