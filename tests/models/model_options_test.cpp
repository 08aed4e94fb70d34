#include "models/model_options.h"

#include <stdlib.h>

#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/support/files.h"
#include "tests/support/golden_model.h"
#include "tests/support/random_model.h"
#include "tests/support/tensors.h"

namespace exactmamba::models {
namespace {

ModelOptions loaded(const std::string& recipe) {
  ModelOptions options;
  core::Schema schema;
  bind(schema, options);
  schema.load(recipe, "recipe.toml", {});
  for (const core::Schema::Unused& unused : schema.unused()) throw core::InputError(unused.message);
  return options;
}

std::string refusal(const std::string& recipe) {
  try {
    loaded(recipe);
  } catch (const core::InputError& error) {
    return error.what();
  }
  return "";
}

TEST(ModelOptions, AreReadFromARecipe) {
  const ModelOptions options = loaded(R"([model]
architecture = "mamba1"
d_model = 48
n_layer = 3
d_state = 8
conv_activation = "identity"
init = "mimetic"
mimetic_layers = [0, 2]
mimetic_state = false
)");
  const ModelConfig config = config_from_options(options, 29);
  EXPECT_EQ(config.architecture, Architecture::kMamba1);
  EXPECT_EQ(config.d_inner(), 96);
  EXPECT_EQ(config.dt_rank, 3);  // ceil(48 / 16)
  EXPECT_EQ(config.vocab_size, 29);
  EXPECT_EQ(config.vocab_rows, 32);
  EXPECT_TRUE(config.activation.is_linear());
  EXPECT_EQ(options.mimetic_layers, (std::vector<int64_t>{0, 2}));
  EXPECT_FALSE(options.mimetic_state);
}

TEST(ModelOptions, VocabularyRowsArePaddedAsPublicModelsAre) {
  ModelOptions options;
  options.architecture = "mamba1";
  EXPECT_EQ(config_from_options(options, 50277).vocab_rows, 50280);
  options.architecture = "mamba2";
  EXPECT_EQ(config_from_options(options, 50277).vocab_rows, 50288);
  EXPECT_EQ(config_from_options(options, 256).vocab_rows, 256);
}

TEST(ModelOptions, ContradictionsNameBothKeys) {
  const std::string sizes = refusal("[model]\nfrom = \"somewhere\"\nd_model = 32\n");
  EXPECT_NE(sizes.find("model.d_model"), std::string::npos) << sizes;
  EXPECT_NE(sizes.find("model.from"), std::string::npos) << sizes;
  EXPECT_NE(refusal("[model]\nfrom = \"somewhere\"\ninit = \"mimetic\"\n").find("model.init"),
            std::string::npos);
  EXPECT_NE(refusal("[model]\nnames = \"map.toml\"\n").find("model.from"), std::string::npos);
  EXPECT_EQ(refusal("[model]\nfrom = \"somewhere\"\nconv_activation = \"relu\"\n"), "");
  EXPECT_NE(refusal("[model]\narchitecture = \"mamba4\"\n"), "");
  EXPECT_NE(refusal("[model]\nn_layer = 0\n"), "");
}

TEST(ModelOptions, WhatOneKindOfModelDoesNotUseIsRefusedThere) {
  const std::string other = "[model]\narchitecture = \"mamba1\"\n";
  for (const std::string key : {"headdim = 32", "ngroups = 1", "chunk_size = 64"}) {
    EXPECT_CONTAINS(refusal(other + key), "only with model.architecture = \"mamba2\"");
    EXPECT_EQ(refusal("[model]\n" + key), "");
  }
  EXPECT_CONTAINS(refusal("[model]\ndt_rank = 4"), "only with model.architecture = \"mamba1\"");
  EXPECT_EQ(refusal(other + "dt_rank = 4"), "");
  for (const std::string key :
       {"mimetic_layers = [0]", "mimetic_state = true", "mimetic_step_size = false",
        "mimetic_convolution = true", "mimetic_correlate_BC = true", "mimetic_faithful_fork = true"}) {
    EXPECT_CONTAINS(refusal("[model]\n" + key), "only with model.init = \"mimetic\"");
    EXPECT_CONTAINS(refusal("[model]\nfrom = \"x\"\n" + key), "only without model.from");
    EXPECT_EQ(refusal("[model]\ninit = \"mimetic\"\n" + key), "");
  }
  EXPECT_CONTAINS(refusal(other + "init = \"mimetic\"\nmimetic_faithful_fork = true"), "model.architecture");
  EXPECT_CONTAINS(refusal("[model]\ninit = \"mimetic\"\nmimetic_correlate_BC = false\n"
                          "mimetic_faithful_fork = true"),
                  "only with model.mimetic_correlate_BC = true");
}

TEST(ModelOptions, HeadsThatDoNotFitAreRefusedWithTheirPlace) {
  EXPECT_EQ(
      refusal("[model]\nd_model = 50\n"),
      "recipe.toml:2:11: model.headdim = 64 does not divide model.expand · model.d_model = 100 "
      "[model.headdim = 64 (default), model.d_model = 50 (recipe.toml:2:11), model.expand = 2 (default)]");
  EXPECT_EQ(refusal("[model]\nngroups = 3\n")
                .rfind("recipe.toml:2:11: model.ngroups = 3 does not divide the number of heads, 2 [", 0),
            0u);
  EXPECT_EQ(refusal("[model]\narchitecture = \"mamba1\"\nd_model = 50\n"), "");
}

TEST(ModelOptions, SizesThatDoNotFitAreRefused) {
  ModelOptions options;
  options.d_model = 50;  // d_inner 100, headdim 64
  EXPECT_THROW(config_from_options(options, 29), core::InputError);
}

TEST(MakeModel, IsInitialisedFromTheSeed) {
  ModelOptions options;
  options.init = "mimetic";
  const MambaLM model = make_model(options, 29, 3, at::kFloat);
  EXPECT_EQ(model.parameters().checksum(), make_model(options, 29, 3, at::kFloat).parameters().checksum());
  EXPECT_NE(model.parameters().checksum(), make_model(options, 29, 4, at::kFloat).parameters().checksum());
  EXPECT_NEAR(model.parameters().parameter("backbone.layers.0.mixer.dt_bias")[0].item<double>(), 0.5413,
              1e-6);
  options.init = "standard";
  EXPECT_NE(model.parameters().checksum(), make_model(options, 29, 3, at::kFloat).parameters().checksum());
}

ModelConfig tiny_config(bool tied) {
  ModelConfig config;
  config.architecture = Architecture::kMamba2;
  config.vocab_size = 29;
  config.vocab_rows = 32;
  config.d_model = 8;
  config.n_layer = 1;
  config.headdim = 4;
  config.tie_embeddings = tied;
  return config;
}

class MakeModelFrom : public ::testing::Test {
 protected:
  MakeModelFrom() { options_.from = testing::golden("models/mamba2-hf").string(); }
  ModelOptions options_;
};

TEST_F(MakeModelFrom, TakesSizesAndWeights) {
  const MambaLM model = make_model(options_, 101, 1, at::kFloat);
  EXPECT_EQ(model.config().d_model, 32);
  EXPECT_EQ(model.config().vocab_size, 101);
  EXPECT_EQ(model.config().vocab_rows, 112);
  EXPECT_EQ(model.parameters().checksum(),
            testing::golden_model("models/mamba2-hf", at::kFloat).parameters().checksum());
}

TEST_F(MakeModelFrom, FindsTheFolderThroughTheEnvironment) {
  ::setenv("EXACTMAMBA_TEST_MODELS", testing::golden("models").c_str(), 1);
  options_.from = "$EXACTMAMBA_TEST_MODELS/mamba2-hf";
  EXPECT_EQ(make_model(options_, 101, 1, at::kFloat).config().d_model, 32);
  options_.names = "${EXACTMAMBA_TEST_MODELS}/names.toml";
  EXPECT_EQ(options_.names_file(), testing::golden("models/names.toml"));
  ::unsetenv("EXACTMAMBA_TEST_MODELS");
  EXPECT_CONTAINS(testing::error_of<core::InputError>([&] { make_model(options_, 101, 1, at::kFloat); }),
                  "EXACTMAMBA_TEST_MODELS is not set");
}

TEST_F(MakeModelFrom, GivesASiluModelAnotherActivation) {
  options_.conv_activation = "relu";
  const MambaLM model = make_model(options_, 101, 1, at::kFloat);
  EXPECT_EQ(model.config().activation.kind, ActivationKind::kRelu);
  EXPECT_EQ(model.config().activation.alpha, 1.0);
}

TEST_F(MakeModelFrom, RefusesToReplaceAnotherActivation) {
  options_.from = testing::golden("decomposition/mamba2-g1-identity").string();
  EXPECT_THROW(make_model(options_, 101, 1, at::kFloat), core::InputError);
  options_.conv_activation = "identity";
  EXPECT_TRUE(make_model(options_, 101, 1, at::kFloat).config().activation.is_linear());
}

TEST_F(MakeModelFrom, AnnealsASiluModelOnly) {
  options_.conv_activation = "identity";
  EXPECT_EQ(make_model(options_, 101, 1, at::kFloat, true).config().activation.kind,
            ActivationKind::kIdentity);
  options_.from = testing::golden("decomposition/mamba2-g1-identity").string();
  const std::string message =
      testing::error_of<core::InputError>([&] { make_model(options_, 101, 1, at::kFloat, true); });
  EXPECT_CONTAINS(message, "train.annealing starts at silu");
  EXPECT_CONTAINS(message, "'identity'");
}

TEST(ContinuedActivation, NeverStartsInTheMiddleOfAnAnnealing) {
  ModelOptions options;
  options.from = "halfway";
  options.conv_activation = "identity";
  for (const bool annealed : {false, true}) {
    const std::string message = testing::error_of<core::InputError>([&] {
      continued_activation(options, {ActivationKind::kIdentity, 0.25}, annealed);
    });
    EXPECT_CONTAINS(message, "alpha = 0.25");
    EXPECT_CONTAINS(message, "'halfway'");
  }
}

TEST_F(MakeModelFrom, RefusesAVocabularyThatDoesNotFit) {
  const std::string message =
      testing::error_of<core::InputError>([&] { make_model(options_, 200, 1, at::kFloat); });
  EXPECT_CONTAINS(message, "has a vocabulary of 112 tokens, but the data has 200");
  EXPECT_CONTAINS(message, "model.append_tokens = true");
}

/// The folder is what other loaders read.
TEST_F(MakeModelFrom, AppendsTokensBehindItsOwnAsTheMeanOfTheOthers) {
  options_.append_tokens = true;
  for (const bool tied : {true, false}) {
    const testing::TemporaryFolder start, appended;
    MambaLM old = testing::random_model(tiny_config(tied), at::kFloat, 0.1, 3);
    save_model(old, start.path());
    options_.from = start.path().string();
    save_model(make_model(options_, 33, 1, at::kFloat), appended.path());
    const MambaLM model = load_model(appended.path());
    EXPECT_EQ(model.config().vocab_rows, 48);
    for (const ParameterSpec& spec : old.parameters().specs()) {
      const at::Tensor before = old.parameters().parameter(spec.name),
                       after = model.parameters().parameter(spec.name);
      const int64_t rows = before.size(0);
      EXPECT_TRUE(after.narrow(0, 0, rows).equal(before)) << spec.name;
      if (after.size(0) == rows) continue;
      EXPECT_EQ(after.size(0), 48) << spec.name;
      const at::Tensor mean = before.to(at::kDouble).sum(0) / static_cast<double>(rows);
      for (int64_t row = rows; row < 48; ++row)
        EXPECT_LE(testing::absolute_difference(after[row], mean), 1e-7) << spec.name;
    }
  }
}

TEST_F(MakeModelFrom, TakesRowsOfPaddingFirst) {
  options_.from = testing::golden("models/mamba2-ss").string();
  options_.append_tokens = true;
  const ModelConfig own = load_config(options_.from);
  ASSERT_GT(own.vocab_rows, own.vocab_size);
  const MambaLM model = make_model(options_, own.vocab_size + 1, 1, at::kFloat);
  EXPECT_EQ(model.config().vocab_size, own.vocab_size + 1);
  EXPECT_EQ(model.parameters().checksum(), load_model(options_.from).parameters().checksum());
}

}  // namespace
}  // namespace exactmamba::models
