// Beam search against transformers' (every step scored anew over the whole sequence), against all sequences
// of a tiny vocabulary, and against a transcription of the algorithm that scores whole sequences.
#include "models/beam_search.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <ATen/ops/log_softmax.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/json.h"
#include "tests/support/golden_model.h"
#include "tests/support/random_model.h"

namespace exactmamba::models {
namespace {

using Tokens = std::vector<int64_t>;
using Hypotheses = std::vector<Hypothesis>;

Tokens operator+(Tokens tokens, int64_t token) {
  tokens.push_back(token);
  return tokens;
}

/// log p of every token of the true vocabulary behind `prompt` and `tokens`, from the whole sequence.
std::vector<double> next_log_probabilities(const MambaLM& model, Tokens prompt, const Tokens& tokens) {
  prompt.insert(prompt.end(), tokens.begin(), tokens.end());
  const at::Tensor logits = model.logits(at::tensor(prompt, at::kLong).unsqueeze(0), {});
  const at::Tensor last = logits[0][-1].narrow(0, 0, model.config().vocab_size).to(at::kDouble);
  const at::Tensor log_p = last.log_softmax(0).contiguous();
  return {log_p.data_ptr<double>(), log_p.data_ptr<double>() + log_p.numel()};
}

void expect_same(const Hypotheses& found, const Hypotheses& expected, double tolerance,
                 const std::string& what) {
  ASSERT_EQ(found.size(), expected.size()) << what;
  for (size_t i = 0; i < found.size(); ++i) {
    EXPECT_EQ(found[i].tokens, expected[i].tokens) << what << ", hypothesis " << i;
    EXPECT_NEAR(found[i].score, expected[i].score, tolerance) << what << ", hypothesis " << i;
  }
}

class GoldenBeams : public ::testing::TestWithParam<std::string> {};

/// transformers rounds logits and sums, up to 16 here, to float32: by 2^-21 each, for each of 12 tokens.
constexpr double kFloatSums = 12.0 * 2 / (1 << 21);

TEST_P(GoldenBeams, AreThoseOfTransformers) {
  const MambaLM model = testing::golden_model("models/" + GetParam(), at::kDouble);
  const core::Json file = core::read_json(testing::golden("models/beam_search/" + GetParam() + ".json"));
  for (const core::Json& c : file["cases"]) {
    const BeamOptions options{c["beam"], c["n_best"], c["length_penalty"], c["end_token"]};
    Hypotheses expected;
    for (const core::Json& h : c["hypotheses"]) expected.push_back({h["tokens"].get<Tokens>(), h["score"]});
    expect_same(
        beam_search(model, {c["prompt"].get<Tokens>()}, {c["max_new_tokens"].get<int64_t>()}, options)[0],
        expected, kFloatSums, c.dump());
  }
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenBeams, ::testing::Values("mamba1-hf", "mamba2-hf"));

ModelConfig config_of(Architecture architecture, int64_t vocab_size) {
  ModelConfig config;
  config.architecture = architecture;
  config.vocab_size = vocab_size;
  config.vocab_rows = padded_vocabulary(vocab_size, 8);
  config.d_model = 16;
  config.n_layer = 2;
  config.d_state = 8;
  config.dt_rank = 3;
  config.headdim = 8;
  return config;
}

constexpr Architecture kArchitectures[] = {Architecture::kMamba1, Architecture::kMamba2};

/// All sequences that end with the stop token or at `most` tokens.
void add_all_sequences(const MambaLM& model, const Tokens& prompt, const Tokens& tokens,
                       double log_probability, int64_t most, const BeamOptions& options, Hypotheses& all) {
  const std::vector<double> next = next_log_probabilities(model, prompt, tokens);
  for (int64_t token = 0; token < static_cast<int64_t>(next.size()); ++token) {
    const Tokens longer = tokens + token;
    const double sum = log_probability + next[token];
    const auto length = static_cast<int64_t>(longer.size());
    if (token != options.stop_token && length < most)
      add_all_sequences(model, prompt, longer, sum, most, options, all);
    else
      all.push_back({longer, sum / std::pow(static_cast<double>(length), options.length_penalty)});
  }
}

TEST(BeamSearch, WideEnoughItFindsTheBestOfAllSequences) {
  constexpr int64_t kVocabulary = 4, kMost = 4, kAll = 256;
  for (const Architecture architecture : kArchitectures) {
    const MambaLM model = testing::random_model(config_of(architecture, kVocabulary), at::kDouble, 0.3, 7);
    for (const double penalty : {0.0, 0.6, 1.0, -0.5}) {
      const BeamOptions options{kAll, 20, penalty, 2};
      const Tokens prompt = {1, 3, 0};
      Hypotheses all;
      add_all_sequences(model, prompt, {}, 0, kMost, options, all);
      std::sort(all.begin(), all.end(),
                [](const Hypothesis& a, const Hypothesis& b) { return a.score > b.score; });
      all.resize(20, {});
      expect_same(beam_search(model, {prompt}, {kMost}, options)[0], all, 1e-12,
                  "penalty " + std::to_string(penalty));
    }
  }
}

struct Part {
  Tokens tokens;
  double log_probability;
};

/// The algorithm of beam_search.h, written down plainly.
Hypotheses plain_beam_search(const MambaLM& model, const Tokens& prompt, int64_t most,
                             const BeamOptions& options) {
  const auto beam = static_cast<size_t>(options.beam);
  const auto better = [](const auto& a, const auto& b) { return a > b; };
  std::vector<Part> live = {{{}, 0}};
  Hypotheses ended;
  for (int64_t length = 1; !live.empty(); ++length) {
    const double divisor = std::pow(static_cast<double>(length), options.length_penalty);
    std::vector<Part> candidates;
    for (const Part& part : live) {
      const std::vector<double> next = next_log_probabilities(model, prompt, part.tokens);
      for (size_t token = 0; token < next.size(); ++token)
        candidates.push_back({part.tokens + static_cast<int64_t>(token), part.log_probability + next[token]});
    }
    std::sort(candidates.begin(), candidates.end(),
              [&](const Part& a, const Part& b) { return better(a.log_probability, b.log_probability); });
    candidates.resize(std::min(candidates.size(), 2 * beam));
    live.clear();
    for (size_t rank = 0; rank < candidates.size(); ++rank) {
      const Part& c = candidates[rank];
      const bool ends = c.tokens.back() == options.stop_token || length == most;
      if (ends && rank < beam) ended.push_back({c.tokens, c.log_probability / divisor});
      if (!ends && live.size() < beam) live.push_back(c);
    }
    std::stable_sort(ended.begin(), ended.end(),
                     [&](const Hypothesis& a, const Hypothesis& b) { return better(a.score, b.score); });
    if (ended.size() > beam) ended.resize(beam);
    if (ended.size() == beam && !live.empty() && live.front().log_probability / divisor <= ended.back().score)
      break;
  }
  ended.resize(std::min(ended.size(), static_cast<size_t>(options.n_best)));
  return ended;
}

TEST(BeamSearch, OfManyPromptsEachIsSearchedAsItIsAlone) {
  const std::vector<Tokens> prompts = {{5}, {1, 2, 3, 4, 5, 6, 7}, {60, 0, 3}, {9, 9}, {13, 21, 34, 55, 8}};
  const std::vector<int64_t> most = {7, 12, 1, 9, 12};
  for (const Architecture architecture : kArchitectures) {
    for (const at::ScalarType dtype : {at::kDouble, at::kFloat}) {
      const MambaLM model = testing::random_model(config_of(architecture, 61), dtype, 0.15, 11);
      for (const BeamOptions& options :
           {BeamOptions{5, 5, 1.0, 17}, BeamOptions{5, 1, 0.0, 40}, BeamOptions{1, 1, 1.0, 3},
            BeamOptions{70, 3, 1.4, 17}, BeamOptions{3, 2, 1.0, -1}}) {
        const std::vector<Hypotheses> found = beam_search(model, prompts, most, options);
        for (size_t i = 0; i < prompts.size(); ++i) {
          const std::string what = "beam " + std::to_string(options.beam) + ", prompt " + std::to_string(i);
          const double tolerance = dtype == at::kDouble ? 1e-12 : 1e-5;
          expect_same(found[i], plain_beam_search(model, prompts[i], most[i], options), tolerance, what);
          expect_same(beam_search(model, {prompts[i]}, {most[i]}, options)[0], found[i], tolerance,
                      what + " alone");
        }
      }
    }
  }
}

/// A vocabulary with fewer sequences than the beam is wide.
TEST(BeamSearch, TinyVocabulariesHaveFewerHypotheses) {
  const MambaLM model = testing::random_model(config_of(Architecture::kMamba2, 2), at::kDouble, 0.3, 3);
  EXPECT_EQ(beam_search(model, {{0}, {1, 1}}, {1, 3}, {5, 5, 1.0, 0})[0].size(), 2u);
  EXPECT_EQ(beam_search(model, {{0}, {1, 1}}, {1, 3}, {5, 5, 1.0, 0})[1].size(), 4u);  // x, 1x, 11x…
  EXPECT_TRUE(beam_search(model, {}, {}, {}).empty());
}

TEST(BeamSearch, RefusesWhatItCannotDo) {
  MambaLM model = testing::random_model(config_of(Architecture::kMamba1, 61), at::kFloat, 0.1, 3);
  EXPECT_THROW(beam_search(model, {{1}}, {5}, {.beam = 3, .n_best = 4}), core::InputError);
  EXPECT_THROW(beam_search(model, {{1}}, {5}, {.beam = 0, .n_best = 0}), core::InputError);
  EXPECT_THROW(beam_search(model, {{1}}, {0}, {}), core::InputError);
  EXPECT_THROW(beam_search(model, {{1}, {}}, {5, 5}, {}), core::InputError);
  EXPECT_THROW(beam_search(model, {{1}}, {5}, {.length_penalty = std::nan("")}), core::InputError);
  model.parameters().parameter("backbone.norm_f.weight")[0] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THROW(beam_search(model, {{1}}, {5}, {}), core::NumericalError);
}

}  // namespace
}  // namespace exactmamba::models
