#include "models/publish.h"

#include <gtest/gtest.h>

#include "core/files.h"
#include "tests/support/files.h"

namespace exactmamba::models {
namespace {

ModelCard small_card() {
  ModelCard card;
  card.title = "copy-identity";
  card.config.vocab_size = card.config.vocab_rows = 104;
  card.config.d_model = 32;
  card.config.n_layer = 3;
  card.config.d_state = 8;
  card.config.dt_rank = 2;
  card.config.activation.kind = ActivationKind::kIdentity;
  card.recipe = "[train]\nsteps = 10";
  card.data = {"copy task, 26 letters"};
  card.error_table = {{"layer", "error"}, {"0", "1e-7"}, {"1 | 2", "2e-7"}};
  card.licence = "apache-2.0";
  return card;
}

std::string written(const ModelCard& card) {
  const testing::TemporaryFolder folder;
  write_model_card(folder.path(), card);
  return core::read_file(folder / "README.md");
}

TEST(Publish, TheCardSaysWhatTheModelIsAndWhereItComesFrom) {
  const std::string text = written(small_card());
  EXPECT_TRUE(text.starts_with("---\nlicense: \"apache-2.0\"\nlibrary_name: transformers\n")) << text;
  EXPECT_CONTAINS(text, "# copy-identity");
  EXPECT_CONTAINS(text, "3 layers, d_model 32, d_state 8, 28608 parameters");  // as transformers counts them
  EXPECT_CONTAINS(text, "`identity`");
  EXPECT_CONTAINS(text, "```toml\n[train]\nsteps = 10\n```");
  EXPECT_CONTAINS(text, "- copy task, 26 letters");
  EXPECT_CONTAINS(text, "| layer | error |\n| --- | --- |\n| 0 | 1e-7 |\n| 1 \\| 2 | 2e-7 |\n");
  EXPECT_CONTAINS(text, "## Licence\n\napache-2.0\n");
}

TEST(Publish, LoadingFollowsTheFormatAndTheActivation) {
  ModelCard card = small_card();
  EXPECT_CONTAINS(written(card), "import hf_exactmamba");
  card.config.activation.kind = ActivationKind::kSilu;
  EXPECT_EQ(written(card).find("hf_exactmamba"), std::string::npos);
  card.format = FolderFormat::kStateSpaces;
  EXPECT_CONTAINS(written(card), "MambaLMHeadModel.from_pretrained");
}

TEST(Publish, TextOfTheRecipeCannotCloseItsBlock) {
  ModelCard card = small_card();
  card.recipe = "note = '```'\n";
  EXPECT_CONTAINS(written(card), "````toml\nnote = '```'\n````\n");
}

TEST(Publish, WhatIsUnknownIsSaidToBe) {
  ModelCard card = small_card();
  card.recipe.clear();
  card.data.clear();
  card.error_table.clear();
  card.licence.clear();
  const std::string text = written(card);
  EXPECT_CONTAINS(text, "license: \"unknown\"");
  EXPECT_CONTAINS(text, "## Recipe\n\nNot stated.");
  EXPECT_CONTAINS(text, "## Data\n\nNot stated.");
  EXPECT_CONTAINS(text, "Not measured.");
}

}  // namespace
}  // namespace exactmamba::models
