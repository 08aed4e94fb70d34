// Sampling against the intervals of small distributions, and drawn tokens against the model's probabilities.
#include "models/sampling.h"

#include <cmath>
#include <limits>
#include <map>

#include <ATen/ops/softmax.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "models/generation.h"
#include "tests/support/golden_model.h"

namespace exactmamba::models {
namespace {

using Tokens = std::vector<int64_t>;

/// The probability of each token, from where the tokens of a fine grid of `u` change.
std::map<int64_t, double> shares(const std::vector<double>& probabilities, const Sampling& sampling) {
  std::vector<double> logits;
  for (const double p : probabilities) logits.push_back(std::log(p) - 3);  // a constant changes nothing
  constexpr int kGrid = 4096;
  std::map<int64_t, double> found;
  for (int i = 0; i < kGrid; ++i) found[sample_token(logits, sampling, (i + 0.5) / kGrid)] += 1.0 / kGrid;
  return found;
}

void expect_shares(const std::map<int64_t, double>& found, const std::map<int64_t, double>& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (const auto& [token, share] : expected) EXPECT_NEAR(found.at(token), share, 3e-4) << token;
}

const std::vector<double> kProbabilities = {0.1, 0.4, 0.05, 0.4, 0.05};

TEST(Sampling, GivesTheDistributionItself) {
  expect_shares(shares(kProbabilities, {}), {{0, 0.1}, {1, 0.4}, {2, 0.05}, {3, 0.4}, {4, 0.05}});
}

TEST(Sampling, TemperatureIsAPowerOfTheProbabilities) {
  double squares = 0;
  for (const double p : kProbabilities) squares += p * p;
  expect_shares(shares(kProbabilities, {.temperature = 0.5}), {{0, 0.01 / squares},
                                                               {1, 0.16 / squares},
                                                               {2, 0.0025 / squares},
                                                               {3, 0.16 / squares},
                                                               {4, 0.0025 / squares}});
}

TEST(Sampling, CutsToTheLikeliestAndOfEqualsTheLowest) {
  expect_shares(shares(kProbabilities, {.top_k = 2}), {{1, 0.5}, {3, 0.5}});
  expect_shares(shares(kProbabilities, {.top_k = 4}),
                {{0, 0.1 / 0.95}, {1, 0.4 / 0.95}, {2, 0.05 / 0.95}, {3, 0.4 / 0.95}});
  expect_shares(shares(kProbabilities, {.top_k = 1}), {{1, 1.0}});
  expect_shares(shares(kProbabilities, {.top_k = 9}), shares(kProbabilities, {}));
}

TEST(Sampling, CutsToTheSmallestSetOfTheProbabilityAskedFor) {
  expect_shares(shares(kProbabilities, {.top_p = 0.3}), {{1, 1.0}});
  expect_shares(shares(kProbabilities, {.top_p = 0.41}), {{1, 0.5}, {3, 0.5}});
  expect_shares(shares(kProbabilities, {.top_p = 0.85}), {{0, 1.0 / 9}, {1, 4.0 / 9}, {3, 4.0 / 9}});
  // Of the three likeliest: 4/9, 4/9, 1/9.
  expect_shares(shares(kProbabilities, {.top_k = 3, .top_p = 0.88}), {{1, 0.5}, {3, 0.5}});
}

TEST(Sampling, LogitsFarBelowNeverCome) {
  const std::vector<double> logits = {-1e6, 0.0, -1e6};
  for (const double u : {0.0, 0.5, std::nextafter(1.0, 0.0)}) EXPECT_EQ(sample_token(logits, {}, u), 1);
}

MambaLM model_of(const std::string& name) {
  MambaLM model = testing::golden_model("models/" + name, at::kFloat);
  model.set_vocab_size(101);
  return model;
}

TEST(Sampling, DrawsTokensAsOftenAsTheyAreLikely) {
  const MambaLM model = model_of("mamba2-hf");
  constexpr int64_t kDraws = 4000;
  const Tokens prompt = {5, 9, 3};
  const auto made = generate(model, std::vector<Tokens>(kDraws, prompt),
                             {.max_new_tokens = 1, .sampling = Sampling{.temperature = 2.0, .seed = 4}});
  std::vector<int64_t> counts(101);
  for (const Tokens& tokens : made) ++counts.at(tokens.at(0));
  const at::Tensor logits = model.logits(at::tensor(prompt, at::kLong).unsqueeze(0), {})[0][-1];
  const at::Tensor p = logits.narrow(0, 0, 101).to(at::kDouble).div(2.0).softmax(0);
  double chi_square = 0;  // tokens that are expected less than five times count as one
  double rare = 0, rare_count = 0;
  int64_t cells = 0;
  for (int64_t id = 0; id < 101; ++id) {
    const double expected = kDraws * p[id].item<double>();
    if (expected < 5) {
      rare += expected;
      rare_count += static_cast<double>(counts[id]);
      continue;
    }
    chi_square += std::pow(static_cast<double>(counts[id]) - expected, 2) / expected;
    ++cells;
  }
  if (rare > 0) chi_square += std::pow(rare_count - rare, 2) / rare;
  EXPECT_LT(chi_square, static_cast<double>(cells) + 4 * std::sqrt(2.0 * static_cast<double>(cells)));
}

/// Prompts of unequal length that stop at different times, together, alone, and in two batches.
TEST(Sampling, DoesNotDependOnBatching) {
  for (const char* name : {"mamba1-hf", "mamba2-hf"}) {
    const MambaLM model = model_of(name);
    const std::vector<Tokens> prompts = {{1}, {5, 9, 3, 7, 8}, {1}, {99, 98}, {2, 4, 6, 8, 10, 12}};
    const auto sampled = [&](const std::vector<Tokens>& some, uint64_t first) {
      return generate(
          model, some,
          {.max_new_tokens = 40,
           .stop_token = 11,
           .sampling = Sampling{.temperature = 5.0, .top_p = 0.98, .seed = 9, .first_sample = first}});
    };
    const std::vector<Tokens> together = sampled(prompts, 0);
    EXPECT_NE(together[0], together[2]);  // the same prompt, another number
    EXPECT_EQ(sampled(prompts, 0), together);
    EXPECT_NE(sampled(prompts, 5), together);
    std::vector<size_t> lengths;
    for (size_t i = 0; i < prompts.size(); ++i) {
      EXPECT_EQ(sampled({prompts[i]}, i).at(0), together[i]) << i;
      lengths.push_back(together[i].size());
    }
    EXPECT_LT(*std::min_element(lengths.begin(), lengths.end()), 40u);  // some stopped
    EXPECT_EQ(sampled({prompts.begin() + 2, prompts.end()}, 2),
              std::vector<Tokens>(together.begin() + 2, together.end()));
  }
}

TEST(Sampling, RefusesWhatIsNoDistribution) {
  MambaLM model = model_of("mamba1-hf");
  for (const Sampling& wrong :
       {Sampling{.temperature = 0}, Sampling{.temperature = -1}, Sampling{.temperature = std::nan("")},
        Sampling{.top_k = -1}, Sampling{.top_p = 0}, Sampling{.top_p = 1.5}})
    EXPECT_THROW(generate(model, {{1}}, {.sampling = wrong}), core::InputError);
  GenerationOptions half_states{.sampling = Sampling{}};
  half_states.bfloat16_states = true;
  EXPECT_THROW(generate(model, {{1}}, half_states), core::InputError);
  model.parameters().parameter("backbone.norm_f.weight")[0] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THROW(generate(model, {{1}}, {.sampling = Sampling{}}), core::NumericalError);
}

}  // namespace
}  // namespace exactmamba::models
