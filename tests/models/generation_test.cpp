// Greedy generation against transformers' tokens.
#include "models/generation.h"

#include <limits>

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/json.h"
#include "tests/support/golden_model.h"

namespace exactmamba::models {
namespace {

using Tokens = std::vector<int64_t>;

struct Golden {
  std::vector<Tokens> prompts, expected;
};

Golden golden_generation(const std::string& model) {
  Golden golden;
  const core::Json file = core::read_json(testing::golden("models/" + model + "/generation.json"));
  for (const core::Json& c : file["cases"]) {
    golden.prompts.push_back(c["prompt"].get<Tokens>());
    golden.expected.push_back(c["new_tokens"].get<Tokens>());
  }
  return golden;
}

class GoldenGeneration : public ::testing::TestWithParam<std::string> {
 protected:
  Golden golden_ = golden_generation(GetParam());
  MambaLM load(at::ScalarType dtype) const {
    MambaLM model = testing::golden_model("models/" + GetParam(), dtype);
    model.set_vocab_size(101);
    return model;
  }
};

TEST_P(GoldenGeneration, PromptsOfUnequalLengthTogether) {
  for (const at::ScalarType dtype : {at::kDouble, at::kFloat}) {
    EXPECT_EQ(generate(load(dtype), golden_.prompts, {20, -1}), golden_.expected);
  }
}

TEST_P(GoldenGeneration, PromptsOfOneLengthTogether) {
  const MambaLM model = load(at::kDouble);
  std::vector<Tokens> prompts, alone;
  for (Tokens prompt : golden_.prompts) {
    prompt.resize(3, 7);
    prompts.push_back(prompt);
    alone.push_back(generate(model, {prompt}, {20, -1}).at(0));
  }
  EXPECT_EQ(generate(model, prompts, {20, -1}), alone);
}

TEST_P(GoldenGeneration, StopTokenEndsASequenceAndIsPartOfIt) {
  const int64_t stop = golden_.expected[0][3];
  const std::vector<Tokens> made = generate(load(at::kDouble), golden_.prompts, {20, stop});
  for (size_t i = 0; i < made.size(); ++i) {
    const Tokens& all = golden_.expected[i];
    const auto end = std::find(all.begin(), all.end(), stop);
    EXPECT_EQ(made[i], Tokens(all.begin(), end == all.end() ? end : end + 1)) << i;
  }
}

TEST_P(GoldenGeneration, TokensAreStreamed) {
  std::vector<Tokens> streamed(golden_.prompts.size());
  generate(load(at::kDouble), golden_.prompts, {20, golden_.expected[1][5]},
           [&](size_t prompt, int64_t token) { streamed[prompt].push_back(token); });
  EXPECT_EQ(streamed, generate(load(at::kDouble), golden_.prompts, {20, golden_.expected[1][5]}));
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenGeneration,
                         ::testing::Values("mamba1-hf", "mamba2-hf", "mamba2-g2-hf"));

TEST(Generation, NeverEmitsPadRows) {
  MambaLM model = testing::golden_model("models/mamba1-hf", at::kFloat);
  const Tokens prompt = {7, 8, 9};
  const int64_t best = generate(model, {prompt}, {1, -1})[0][0];
  model.set_vocab_size(best);  // the best row is now padding
  const Tokens others = generate(model, {prompt}, {30, -1})[0];
  for (const int64_t token : others) EXPECT_LT(token, best);
}

TEST(Generation, NothingAskedForGivesNothing) {
  const MambaLM model = testing::golden_model("models/mamba1-hf", at::kFloat);
  EXPECT_EQ(generate(model, {{1, 2}, {3}}, {0, -1}), std::vector<Tokens>(2));
  EXPECT_TRUE(generate(model, {}, {}).empty());
}

TEST(Generation, RefusesEmptyPromptsAndBrokenModels) {
  MambaLM model = testing::golden_model("models/mamba2-hf", at::kFloat);
  EXPECT_THROW(generate(model, {{1}, {}}, {}), core::InputError);
  EXPECT_THROW(generate(model, {{1, 1000}}, {}), core::InputError);
  EXPECT_THROW(generate(model, {{1}}, {-1, -1}), core::InputError);
  model.parameters().parameter("backbone.norm_f.weight")[0] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THROW(generate(model, {{1}}, {}), core::NumericalError);
}

}  // namespace
}  // namespace exactmamba::models
