// Translations in batches against one beam search for each source.
#include "eval/translation.h"

#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "core/error.h"
#include "models/beam_search.h"
#include "models/generation.h"
#include "tests/support/random_model.h"

namespace exactmamba::eval {
namespace {

const std::vector<std::string> kSources = {
    "Guten Tag.",     "a", "", "Ein längerer Satz, der nicht endet", "b b", " \t", "zwei drei", "c",
    "vier fünf sechs"};

class Translations : public ::testing::Test {
 protected:
  static models::MambaLM make_model() {
    models::ModelConfig config;
    config.architecture = models::Architecture::kMamba2;
    config.vocab_size = 258;
    config.vocab_rows = 264;
    config.d_model = 16;
    config.n_layer = 2;
    config.d_state = 8;
    config.headdim = 8;
    return testing::random_model(config, at::kFloat, 0.2, 5);
  }
  int64_t longest(const std::string& source) const {
    return static_cast<int64_t>(
        std::ceil(options_.max_ratio * static_cast<double>(tokenizer_.encode(source).size())));
  }
  std::vector<models::Hypothesis> alone(const std::string& source) const {
    return models::beam_search(
        model_, {tokenizer_.prompt(source)}, {longest(source)},
        {options_.beam, options_.n_best, options_.length_penalty, tokenizer_.end()})[0];
  }

  data::TranslationTokenizer tokenizer_ = data::TranslationTokenizer::open("byte", "<SEP>", "<EOS>");
  models::MambaLM model_ = make_model();
  TranslateOptions options_{
      .beam = 3, .n_best = 1, .length_penalty = 0.8, .max_ratio = 1.5, .batch_tokens = 40};
};

TEST_F(Translations, AreThoseOfEachSourceInOrder) {
  std::vector<int64_t> told;
  const auto found =
      translate(model_, tokenizer_, kSources, options_, [&](int64_t done) { told.push_back(done); });
  ASSERT_EQ(found.size(), kSources.size());
  for (size_t i = 0; i < found.size(); ++i) {
    const bool blank = kSources[i].find_first_not_of(" \t") == std::string::npos;
    EXPECT_EQ(found[i], blank ? "" : tokenizer_.decode(alone(kSources[i])[0].tokens)) << kSources[i];
    EXPECT_EQ(found[i].find('\n'), std::string::npos);
  }
  EXPECT_GT(told.size(), 1u);
  EXPECT_TRUE(std::is_sorted(told.begin(), told.end()));
  EXPECT_EQ(told.back(), 7);  // those that are not empty
  options_.batch_tokens = 1;
  EXPECT_EQ(translate(model_, tokenizer_, kSources, options_), found);
}

TEST_F(Translations, NBestHaveTheirScores) {
  options_.n_best = 3;
  const auto found = n_best_translations(model_, tokenizer_, kSources, options_);
  for (size_t i = 0; i < found.size(); ++i) {
    const bool empty = found[i][0].text.empty() && found[i][0].score == 0;
    ASSERT_EQ(found[i].size(), empty ? 1u : 3u);
    if (empty) continue;
    const auto expected = alone(kSources[i]);
    for (size_t k = 0; k < 3; ++k) {
      EXPECT_EQ(found[i][k].text, tokenizer_.decode(expected[k].tokens));
      EXPECT_NEAR(found[i][k].score, expected[k].score, 1e-5);
    }
  }
}

TEST_F(Translations, ABeamOfOneIsGreedy) {
  options_.beam = 1;
  const auto found = translate(model_, tokenizer_, kSources, options_);
  for (const size_t i : {0, 1, 3, 8}) {
    const auto made =
        models::generate(model_, {tokenizer_.prompt(kSources[i])},
                         {.max_new_tokens = longest(kSources[i]), .stop_token = tokenizer_.end()});
    EXPECT_EQ(found[i], tokenizer_.decode(made[0])) << kSources[i];
    EXPECT_EQ(found[i], tokenizer_.decode(alone(kSources[i])[0].tokens)) << kSources[i];
  }
}

TEST_F(Translations, RefuseWhatDoesNotBelongTogether) {
  options_.n_best = 4;
  EXPECT_THROW(translate(model_, tokenizer_, {"a"}, options_), core::InputError);
  EXPECT_THROW(translate(model_, tokenizer_, {"a"}, {.max_ratio = 0}), core::InputError);
  EXPECT_THROW(translate(model_, tokenizer_, {"a"}, {.batch_tokens = 0}), core::InputError);
  model_.set_vocab_size(257);
  EXPECT_THROW(translate(model_, tokenizer_, {"a"}, {}), core::InputError);
}

}  // namespace
}  // namespace exactmamba::eval
