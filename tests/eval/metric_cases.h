// The corpora of golden/metrics, and what every metric is asked there.
#pragma once

#include <functional>

#include <gtest/gtest.h>

#include "core/json.h"
#include "eval/bleu.h"
#include "eval/chrf.h"
#include "eval/ter.h"
#include "tests/support/golden_json.h"

namespace exactmamba::eval {

// A golden row's options.
inline BleuOptions bleu_options(const core::Json& json) {
  BleuOptions options;
  const std::string tokenizer = json.value("tokenize", "13a"), smoothing = json.value("smooth_method", "exp");
  options.tokenizer = core::enum_from_name<BleuTokenizer>(kBleuTokenizerNames, tokenizer, "test");
  options.smoothing = core::enum_from_name<Smoothing>(kSmoothingNames, smoothing, "test");
  if (json.contains("smooth_value")) options.smooth_value = json["smooth_value"].get<double>();
  options.lowercase = json.value("lowercase", false);
  options.effective_order = json.value("effective_order", false);
  options.max_order = json.value("max_ngram_order", size_t{4});
  return options;
}
inline ChrfOptions chrf_options(const core::Json& json) {
  ChrfOptions options;
  options.char_order = json.value("char_order", size_t{6});
  options.word_order = json.value("word_order", size_t{0});
  options.beta = json.value("beta", size_t{2});
  options.lowercase = json.value("lowercase", false);
  options.whitespace = json.value("whitespace", false);
  options.eps_smoothing = json.value("eps_smoothing", false);
  return options;
}
inline TerTokenizer ter_options(const core::Json& json) {
  return {.normalized = json.value("normalized", false),
          .no_punct = json.value("no_punct", false),
          .asian_support = json.value("asian_support", false),
          .case_sensitive = json.value("case_sensitive", false)};
}

/// `streams`: [stream][segment], null where a segment has no reference in that stream.
inline References references_of(const core::Json& streams) {
  References references(streams[0].size());
  for (const core::Json& stream : streams)
    for (size_t i = 0; i < stream.size(); ++i)
      if (!stream[i].is_null()) references[i].push_back(stream[i].get<std::string>());
  return references;
}

/// What a metric makes of a corpus is what the golden row says.
inline void expect_golden(const CorpusMetric& metric, const std::vector<double>& sums,
                          const References& references, const core::Json& row) {
  EXPECT_NEAR(metric.score(sums), row["score"].get<double>(), 1e-9);
  const std::string signature = signature_text(signature_of(metric, references));
  EXPECT_EQ(signature, row["signature"].get<std::string>());
  const std::string text = row["text"].get<std::string>();
  const size_t equals = text.find(" = ");
  EXPECT_EQ(score_line(metric, sums, signature, 2),
            text.substr(0, equals) + "|" + signature + text.substr(equals));
}

/// Calls `check` with each corpus of small.json and each of its rows under `kind`.
inline void each_small_case(
    const char* kind, const std::function<void(const std::vector<std::string>& hypotheses,
                                               const References& references, const core::Json& row)>& check) {
  const core::Json cases = testing::golden_json("metrics/small.json")["cases"];
  ASSERT_GE(cases.size(), 50u);
  for (const core::Json& corpus : cases) {
    for (const core::Json& row : corpus[kind]) {
      SCOPED_TRACE(corpus["name"].get<std::string>() + " " + row["options"].dump());
      check(corpus["hyps"].get<std::vector<std::string>>(), references_of(corpus["refs"]), row);
    }
  }
}

/// The sentences of wmt17_200.json one by one, and each system's corpus under `kind`.
inline void expect_wmt17(const CorpusMetric& metric, const char* kind, const char* sentences,
                         const CorpusMetric& sentence_metric) {
  const core::Json golden = testing::golden_json("metrics/wmt17_200.json");
  const References references = references_of(core::Json::array({golden["references"]}));
  for (const auto& [system, hypotheses] : golden["hypotheses"].items()) {
    SCOPED_TRACE(system);
    const auto lines = hypotheses.get<std::vector<std::string>>();
    expect_golden(metric, SegmentStatistics(metric, lines, references).sums(), references,
                  golden["corpus_scores"][system][kind]);
    EXPECT_EQ(signature_text(signature_of(sentence_metric, references)),
              golden["sentence_signatures"][sentences].get<std::string>());
    const SegmentStatistics segments(sentence_metric, lines, references);
    for (size_t i = 0; i < segments.size(); ++i)
      EXPECT_NEAR(sentence_metric.score(segments[i]),
                  golden["sentence_scores"][system][sentences][i].get<double>(), 1e-9)
          << i;
  }
}

}  // namespace exactmamba::eval
