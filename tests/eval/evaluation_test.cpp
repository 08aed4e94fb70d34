// What evaluation says of models whose every probability is known: one without any knowledge, and bigram
// tables written into embedding and head.
#include "eval/evaluation.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include <ATen/TensorOperators.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/json.h"
#include "data/byte_tokenizer.h"
#include "data/copy_task.h"
#include "data/packed_text.h"
#include "data/tokenizers/bpe_tokenizer.h"
#include "eval/row_values.h"
#include "tests/support/files.h"

namespace exactmamba::eval {
namespace {

using core::Json;
using decomp::ApproximationError;
using decomp::ErrorTable;
using decomp::InteractionMap;

/// All parameters zero: every logit is 0.
models::MambaLM know_nothing(int64_t vocab_size, int64_t vocab_rows) {
  models::ModelConfig config;
  config.architecture = models::Architecture::kMamba1;
  config.vocab_size = vocab_size;
  config.vocab_rows = vocab_rows;
  config.d_model = vocab_rows;
  config.n_layer = 1;
  config.d_state = 4;
  config.dt_rank = 1;
  config.tie_embeddings = false;
  return {config, at::kDouble};
}

/// After token k, the logit of next[k] is `logit`, every other one 0: the blocks add nothing to one-hot
/// embeddings.
models::MambaLM bigram_model(const std::vector<int64_t>& next, double logit) {
  const auto V = static_cast<int64_t>(next.size());
  models::MambaLM model = know_nothing(V, V);
  models::ParameterStore& parameters = model.parameters();
  parameters.parameter("backbone.embeddings.weight").copy_(at::eye(V));
  parameters.parameter("backbone.norm_f.weight").fill_(1);
  at::Tensor head = parameters.parameter("lm_head.weight");
  const double norm = std::sqrt(1.0 / static_cast<double>(V) + model.config().norm_eps);
  for (int64_t k = 0; k < V; ++k) head[next[static_cast<size_t>(k)]][k] = logit * norm;
  return model;
}

/// Nats that such a model pays for the token it expects, and for any other.
double nats_expected(double logit, size_t V) {
  return std::log(std::exp(logit) + static_cast<double>(V - 1)) - logit;
}
double nats_other(double logit, size_t V) { return nats_expected(logit, V) + logit; }

class GivenRows final : public data::Dataset {
 public:
  explicit GivenRows(std::vector<data::Row> rows) : rows_(std::move(rows)) {}
  std::string name() const override { return "given rows"; }
  int64_t size() const override { return static_cast<int64_t>(rows_.size()); }
  data::Row row(int64_t index) const override { return rows_.at(static_cast<size_t>(index)); }
  int64_t vocab_size() const override { return 5; }
  std::string token_text(int64_t id) const override { return std::to_string(id); }
  std::string fingerprint() const override { return name(); }

 private:
  std::vector<data::Row> rows_;
};

data::CopyTask copy_task() {
  return {{.alphabet = 4, .min_length = 2, .max_length = 5, .context = 16, .held_out = 11},
          5,
          data::CopyPart::kHeldOut,
          data::RowLayout::kOneExample};
}

TEST(ModelMeasures, AModelWithoutKnowledgePaysTheLogarithmOfTheVocabulary) {
  const GivenRows rows({{{0, 1, 2}, {1, 2, 3}, {0}}, {{4, 4, 4}, {4, 4, 4}, {0}}});
  const Json values = model_measures(know_nothing(5, 7), rows, {.batch_size = 1});
  EXPECT_NEAR(values["loss"].get<double>(), std::log(7), 1e-12);  // pad rows take part in the softmax
  EXPECT_NEAR(values["perplexity"].get<double>(), 7, 1e-11);
  EXPECT_FALSE(values.contains("bits_per_byte"));
  EXPECT_FALSE(values.contains("character_accuracy"));
}

TEST(ModelMeasures, MaskedPositionsDoNotCount) {
  constexpr double kLogit = 2.5;
  const models::MambaLM model = bigram_model({1, 2, 3, 4, 0}, kLogit);
  // Right, masked, wrong; masked, right, right.
  const GivenRows rows({{{0, 1, 2}, {1, -100, 0}, {0}}, {{0, 3, 4}, {-100, 4, 0}, {0}}});
  const double expected = (3 * nats_expected(kLogit, 5) + nats_other(kLogit, 5)) / 4;
  for (const int64_t batch_size : {1, 2}) {
    const Json values = model_measures(model, rows, {.batch_size = batch_size});
    EXPECT_NEAR(values["loss"].get<double>(), expected, 1e-12);
    EXPECT_NEAR(values["perplexity"].get<double>(), std::exp(expected), 1e-11);
  }
  const Json first = model_measures(model, rows, {.batch_size = 2, .max_rows = 1});
  EXPECT_NEAR(first["loss"].get<double>(), (nats_expected(kLogit, 5) + nats_other(kLogit, 5)) / 2, 1e-12);
}

TEST(ModelMeasures, RefusesDataWithoutTargets) {
  const GivenRows rows({{{0, 1}, {-100, -100}, {0}}});
  EXPECT_CONTAINS(testing::error_of<core::InputError>([&] { model_measures(know_nothing(5, 5), rows, {}); }),
                  "'given rows' has no target tokens");
}

/// Ends of documents cost nats, but are no bytes.
TEST(ModelMeasures, BitsAreOfBytesOnly) {
  const testing::TemporaryFolder folder;
  testing::put_file(folder / "a.jsonl", "{\"text\":\"abcd\"}\n{\"text\":\"xy\"}\n");
  const data::PackedText text({{folder / "a.jsonl"}}, std::make_shared<data::ByteTokenizer>(), 16);
  const Json values = model_measures(know_nothing(257, 257), text, {});
  // Targets: b c d E, y E; the bytes among them: b c d y.
  EXPECT_NEAR(values["loss"].get<double>(), std::log(257), 1e-12);
  EXPECT_NEAR(values["bits_per_byte"].get<double>(), 6 * std::log2(257) / 4, 1e-12);
}

/// A token of a BPE tokenizer is as many bytes as it stands for, also below id 256.
TEST(ModelMeasures, BitsAreOfTheBytesOfTokens) {
  const testing::TemporaryFolder folder;
  const std::string words = "The cat sat on the mat, and the café was closed.";
  testing::put_file(folder / "a.jsonl", core::json_text(Json{{"text", words}}) + "\n");
  const auto tokenizer = data::BpeTokenizer::load(testing::golden("tokenizers/tiny_nfc"));
  const std::vector<int64_t> ids = tokenizer->encode(words);
  const data::PackedText text({{folder / "a.jsonl"}}, tokenizer, static_cast<int64_t>(ids.size()) + 1);
  const int64_t vocabulary = tokenizer->vocab_size();
  const Json values = model_measures(know_nothing(vocabulary, vocabulary), text, {});
  // Every token but the first is a target, and the end of the document, which is no text.
  const size_t bytes = words.size() - tokenizer->decode({ids.front()}).size();
  EXPECT_NEAR(values["bits_per_byte"].get<double>(),
              static_cast<double>(ids.size()) * std::log2(vocabulary) / static_cast<double>(bytes), 1e-12);
}

/// '|' → a, and every letter the next one, d the end sign: what it copies can be read off the strings.
TEST(ModelMeasures, CopyAccuracyOfABigramModel) {
  const data::CopyTask task = copy_task();
  const std::vector<int64_t> next = {0, 0, 4, 0, 5, 6, 7, 3};  // * $ | . a b c d
  double characters = 0, right = 0, free_right = 0, strings = 0, free_strings = 0;
  for (const std::string& s : task.held_out()) {
    std::string forced = "a", free = "a";
    for (const char c : s) forced += c == 'd' ? '.' : static_cast<char>(c + 1);
    while (free.back() != '.' && free.size() <= s.size())
      free += free.back() == 'd' ? '.' : static_cast<char>(free.back() + 1);
    for (size_t m = 0; m < s.size(); ++m) {
      right += forced[m] == s[m];
      free_right += m < free.size() && free[m] == s[m];
    }
    characters += static_cast<double>(s.size());
    strings += forced == s + ".";
    free_strings += free == s + ".";
  }
  const Json values = model_measures(bigram_model(next, 3), task, {.batch_size = 4});
  ASSERT_GT(right, 0);
  EXPECT_DOUBLE_EQ(values["character_accuracy"].get<double>(), right / characters);
  EXPECT_DOUBLE_EQ(values["string_accuracy"].get<double>(), strings / 11);
  EXPECT_DOUBLE_EQ(values["free_character_accuracy"].get<double>(), free_right / characters);
  EXPECT_DOUBLE_EQ(values["free_string_accuracy"].get<double>(), free_strings / 11);
  EXPECT_FALSE(
      model_measures(bigram_model(next, 3), task, {.free_running = false}).contains("free_string_accuracy"));
}

// ---- errors ----

/// Of two positions; every measure is a different multiple of `value`.
ApproximationError error_of_layer(double value) {
  return ApproximationError::from_sums({{"positions", 2},
                                        {"ratio_positions", 2},
                                        {"noskip_positions", 2},
                                        {"l2_ratios", 2 * value},
                                        {"l1_ratios", 4 * value},
                                        {"noskip_ratios", 6 * value},
                                        {"l2_differences", 8 * value},
                                        {"l2_outputs", 2}});
}

/// Layer l has the error (l + 1)/10.
Json errors_of(int64_t layers) {
  ErrorTable table{.approximations = {"activation"}, .errors = {{}}, .bias = "own", .dtype = "float64"};
  for (int64_t layer = 0; layer < layers; ++layer)
    table.errors[0].push_back(error_of_layer(0.1 * static_cast<double>(layer + 1)));
  return error_json(table, 3);
}

TEST(ErrorJson, HasEveryMeasureLayerByLayer) {
  const Json errors = errors_of(2);
  EXPECT_EQ(errors["rows"], 3);
  EXPECT_EQ(errors["bias"], "own");
  const std::vector<std::pair<std::string, double>> factors = {
      {"l2_mean", 1}, {"l1_mean", 2}, {"l2_mean_noskip", 3}, {"l2_ratio_of_sums", 4}};
  for (const auto& [measure, factor] : factors) {
    const Json& layers = errors["measures"][measure]["activation"];
    ASSERT_EQ(layers.size(), 2u);
    EXPECT_DOUBLE_EQ(layers[0].get<double>(), factor * 0.1) << measure;
    EXPECT_DOUBLE_EQ(layers[1].get<double>(), factor * 0.2) << measure;
  }
}

ReportOptions showing(int64_t rows) {
  ReportOptions options;
  options.map_rows = rows;
  return options;
}

const auto no_maps = [](int64_t) { return std::vector<InteractionMap>(); };

TEST(ReportRow, AveragesErrorsOverLayerRanges) {
  const GivenRows rows({{{0}, {1}, {0}}});
  const auto values = [&](int64_t layers, const std::string& measure) {
    return report_row({.measures = Json::object(), .errors = errors_of(layers), .maps = no_maps}, rows,
                      measure, showing(0))["values"];
  };
  const Json shallow = values(4, "l2_mean");  // thirds of 4 layers
  EXPECT_DOUBLE_EQ(shallow["error.activation.0-0"].get<double>(), 0.1);
  EXPECT_DOUBLE_EQ(shallow["error.activation.1-1"].get<double>(), 0.2);
  EXPECT_DOUBLE_EQ(shallow["error.activation.2-3"].get<double>(), 0.35);
  const Json deep = values(20, "l1_mean");  // twice l2_mean; 16 layers and the rest
  EXPECT_EQ(deep.size(), 2u);
  EXPECT_NEAR(deep["error.activation.0-15"].get<double>(), 2 * 0.85, 1e-12);
  EXPECT_NEAR(deep["error.activation.16-19"].get<double>(), 2 * 1.85, 1e-12);
}

// ---- maps ----

/// 1 where a character of the copy meets its source (the gold of attribution), else 0; or the reverse.
InteractionMap copy_map(const data::CopyTask& task, int64_t row, int64_t layer, bool right) {
  const data::Row content = task.row(row);
  const auto L = static_cast<int64_t>(content.input_ids.size());
  InteractionMap map;
  map.values = at::zeros({L, L}, at::kDouble);
  for (const data::CopyExample& example : task.examples(content))
    for (size_t m = 0; m < example.outputs.size(); ++m)
      map.values[example.outputs[m]][example.sources[m]] = 1;
  if (!right) map.values = 1 - map.values;
  map.method = "alti_logit";
  map.approximation = "activation";
  map.layer = layer;
  map.row = {.index = row, .tokens = content.input_ids, .cu_seqlens = {0, L}, .model_checksum = ""};
  return map;
}

TEST(ReportRow, ScoresLayersAndTheWholeModelApart) {
  const data::CopyTask task = copy_task();
  const auto maps = [&task](int64_t row) {
    return std::vector{copy_map(task, row, 1, false), copy_map(task, row, decomp::kWholeModel, true)};
  };
  const Json row = report_row({.measures = Json::object(), .errors = errors_of(2), .maps = maps}, task,
                              "l2_mean", showing(2));
  const std::string method = "alti_logit · activation";
  for (const std::string measure : {"auc", "ap", "r_at_k"})
    EXPECT_EQ(row["values"]["attribution_whole_model." + method + "." + measure], 1.0) << measure;
  EXPECT_EQ(row["values"]["attribution." + method + ".auc"], 0.0);
  EXPECT_EQ(row["values"]["attribution." + method + ".layer"], 1);
  EXPECT_EQ(row["layers"]["copy attribution AUC"][method], Json({nullptr, 0.0}));
  ASSERT_EQ(row["maps"].size(), 4u);  // of two of the three rows
  EXPECT_EQ(row["maps"][3]["title"], "all layers, alti_logit · activation, text 1");

  const Json columns = report_columns(Json::array({row}));
  const auto of_whole = std::find_if(columns.begin(), columns.end(), [&](const Json& column) {
    return column["key"] == "attribution_whole_model." + method + ".ap";
  });
  ASSERT_NE(of_whole, columns.end());
  EXPECT_EQ((*of_whole)["title"], "AP, alti_logit · activation, all layers");
  EXPECT_CONTAINS((*of_whole)["help"].get<std::string>(), "Average precision");

  const std::string known = "error.activation.0-0", none = "error.ratio.0-0";
  const Json more = report_columns(Json::array({row}), {known, none, none});
  EXPECT_EQ(more.size(), columns.size() + 1);  // each once, in the same order
  EXPECT_EQ(more.back()["key"], none);
}

TEST(ValueKeys, AreThoseThatRowsHave) {
  const data::CopyTask task = copy_task();
  const auto maps = [&task](int64_t row) {
    return std::vector{copy_map(task, row, 1, false), copy_map(task, row, decomp::kWholeModel, true)};
  };
  const Json values = report_row({.measures = Json::object(), .errors = errors_of(2), .maps = maps}, task,
                                 "l2_mean", showing(2))["values"];
  decomp::DecomposeOptions decompose;
  decompose.methods = {"alti_logit", "mamba_attention"};
  const EvaluateOptions evaluate;
  const std::vector<std::string> keys = value_keys({"copy", 2, decompose, evaluate});
  for (const auto& [key, value] : values.items()) EXPECT_EQ(keys_of_name(key, keys).size(), 1u) << key;
  EXPECT_EQ(keys_of_name("error", keys).size(), 2u);
  EXPECT_EQ(keys_of_name("attribution.mamba_attention", keys).size(), 4u);
  EXPECT_EQ(keys_of_name("attribution_whole_model.mamba_attention", keys).size(), 0u);
  EXPECT_EQ(keys_of_name("err", keys).size(), 0u);
  const std::vector<std::string> of_any_depth = value_keys({"text", 0, decompose, evaluate});
  EXPECT_EQ(keys_of_name("error.activation.32-47", of_any_depth).size(), 1u);
  EXPECT_EQ(keys_of_name("string_accuracy", of_any_depth).size(), 0u);
}

/// A text has no gold pairs: only the rows that the page shows are asked for.
TEST(ReportRow, AsksForNoMoreRowsThanItNeeds) {
  const GivenRows rows({{{0, 1}, {1, 2}, {0}}});
  std::vector<int64_t> asked;
  const auto maps = [&asked](int64_t row) {
    asked.push_back(row);
    return std::vector<InteractionMap>();
  };
  report_row({.measures = Json::object(), .errors = errors_of(2), .maps = maps}, rows, "l2_mean", showing(1));
  EXPECT_EQ(asked, std::vector<int64_t>{0});
}

}  // namespace
}  // namespace exactmamba::eval
