// What `run` makes of test sets of translation: files, scores and the table.
#include <filesystem>
#include <set>

#include <gtest/gtest.h>

#include "core/files.h"
#include "core/json.h"
#include "tests/cli/recipe_folder.h"
#include "tests/support/tensors.h"

namespace exactmamba::cli {
namespace {

namespace fs = std::filesystem;
using core::Json;
using testing::put_file;

constexpr const char* kTwoTranslators = R"(
[run]
output = "out"
[data]
task = "translation"
train = ["train.{de,en}"]
valid = ["valid.tsv"]
context = 40
[model]
d_model = 16
d_state = 8
headdim = 8
[train]
steps = 2
batch_size = 2
dtype = "float64"
[decompose]
max_rows = 1
[evaluate]
test = ["set.a.{de,en}"]
max_rows = 1
[sweep]
model.conv_activation = ["silu", "identity"]
)";

class TranslationReport : public ::testing::Test, protected RecipeFolder {
 protected:
  TranslationReport() : RecipeFolder(kTwoTranslators) {
    put_file(folder_ / "train.de", "eins\nzwei\ndrei\nvier fünf\nsechs\n");
    put_file(folder_ / "train.en", "one\ntwo\nthree\nfour five\nsix\n");
    put_file(folder_ / "valid.tsv", "zwei\tanother two\nsieben\tseven\n");
    put_file(folder_ / "set.a.de", "acht\nneun\nzehn\n");
    put_file(folder_ / "set.a.en", "eight\nnine\nten\n");
  }
};

TEST_F(TranslationReport, StoresWhatItScores) {
  const Json report = Json::parse(succeed({"run", "r.toml", "--json"}));
  ASSERT_EQ(report["rows"].size(), 2u);
  std::multiset<double> reported, scored;
  for (const Json& row : report["rows"]) {
    EXPECT_TRUE(row["values"].contains("bleu.validation"));
    EXPECT_TRUE(row["half_widths"].contains("bleu.set.a"));
    reported.insert(row["values"]["chrf.set.a"].get<double>());
  }
  EXPECT_FALSE(report["rows"][0]["values"].contains("bleu_difference.set.a"));
  EXPECT_TRUE(report["rows"][1]["values"].contains("bleu_difference.set.a"));
  EXPECT_CONTAINS(core::read_file(folder_ / "out/report.md"), "| BLEU, set.a ");
  for (const std::string& stage : stages("translate")) {
    const fs::path set = folder_ / "out/stages" / stage;
    if (!fs::exists(set / "set.a.txt")) {
      EXPECT_EQ(core::read_file(set / "validation.reference.txt"), "another two\n");
      continue;
    }
    EXPECT_EQ(core::read_file(set / "set.a.reference.txt"), "eight\nnine\nten\n");
    const Json score =
        Json::parse(succeed({"score", "chrf", (set / "set.a.txt").string(), "--reference",
                             (set / "set.a.reference.txt").string(), "--json", "--width", "12"}));
    scored.insert(score["score"].get<double>());
  }
  ASSERT_EQ(scored.size(), 2u);
  for (auto a = reported.begin(), b = scored.begin(); a != reported.end(); ++a, ++b)
    EXPECT_NEAR(*a, *b, 1e-9);
}

TEST_F(TranslationReport, AnotherTestSetIsMeasuredAnew) {
  succeed({"run", "r.toml"});
  put_file(folder_ / "set.a.en", "eight\nnine\nTEN\n");
  succeed({"run", "r.toml"});
  EXPECT_EQ(stages("train").size(), 2u);
  EXPECT_EQ(stages("evaluate").size(), 2u);
  EXPECT_EQ(stages("translate").size(), 6u);  // data.valid's are those of before
  const std::string with_test = "test = [\"set.a.{de,en}\"]";
  std::string recipe = core::read_file(folder_ / "r.toml");
  put_file(folder_ / "r.toml", recipe.replace(recipe.find(with_test), with_test.size(), "bleu = false"));
  succeed({"run", "r.toml"});
  EXPECT_EQ(core::read_file(folder_ / "out/report.md").find("BLEU"), std::string::npos);
}

TEST_F(TranslationReport, TestSetsAreLookedAtFirst) {
  const auto refused = [&](const std::string& test) {
    const auto outcome = program({"run", "r.toml", "--set", "evaluate.test=" + test});
    EXPECT_EQ(outcome.code == 0, false);
    EXPECT_FALSE(fs::exists(folder_ / "out"));
    return outcome.err;
  };
  EXPECT_CONTAINS(refused("[\"nowhere.{de,en}\"]"), "nowhere.de");
  EXPECT_CONTAINS(refused("[\"set.a.{de,en}\", \"set.a.{en,de}\"]"),
                  "set.a.{en,de}: another test set is called set.a as well");
}

TEST_F(TranslationReport, ValidateLooksForBothFilesOfAPair) {
  EXPECT_CONTAINS(program({"validate", "r.toml", "--set", "data.exclude=[\"x.{de,en}\"]"}).err,
                  "data.exclude: x.de: no such file\nexactmamba: error: --set data.exclude=[\"x.{de,en}\"]: "
                  "data.exclude: x.en: no such file\n");
  fs::remove(folder_ / "train.en");
  const auto outcome = program({"validate", "r.toml"});
  EXPECT_EQ(outcome.code, 3);
  EXPECT_CONTAINS(outcome.err, "data.train: train.en: no such file");
}

TEST_F(TranslationReport, ValidateSaysAllThatIsWrongWithFiles) {
  put_file(folder_ / "train.en", "one\n");
  put_file(folder_ / "set.a.de", "");
  put_file(folder_ / "set.a.en", "");
  const auto outcome =
      program({"validate", "r.toml", "--set", "data.valid=[\"$NOWHERE/a.tsv\", \"no.tsv\"]", "--set",
               "evaluate.alignment.sentences=valid.tsv", "--set", "evaluate.alignment.gold=gold.talp",
               "--set", "evaluate.alignment.gold_base='1'"});
  EXPECT_EQ(outcome.code, 3) << outcome.err;
  for (const char* line : {"r.toml:6:9: data.train: train.de has ",
                           "data.valid: '$NOWHERE/a.tsv': the environment variable NOWHERE",
                           "data.valid: no.tsv: no such file\n",
                           "evaluate.test: set.a.{de,en}: there is no pair of sentences in it\n",
                           "evaluate.alignment.gold: gold.talp: no such file\n"})
    EXPECT_CONTAINS(outcome.err, line);
  EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 5) << outcome.err;
  put_file(folder_ / "gold.talp", "1-1\n");
  EXPECT_CONTAINS(
      program({"validate", "r.toml", "--set", "evaluate.alignment.sentences=valid.tsv", "--set",
               "evaluate.alignment.gold=gold.talp", "--set", "evaluate.alignment.gold_base='1'"})
          .err,
      "evaluate.alignment.gold: gold.talp: 1 lines for 2 sentence pairs in valid.tsv; a line for each");
}

TEST_F(TranslationReport, CometIsThatOfScoreComet) {
  const std::string model = testing::golden("comet/softmax").string();
  const auto run_with = [this](const std::string& comet) {
    return Json::parse(succeed({"run", "r.toml", "--json", "--set", "evaluate.comet_model=" + comet}));
  };
  const Json without = Json::parse(succeed({"run", "r.toml", "--json"}));
  EXPECT_TRUE(without["rows"][0]["values"].at("comet.set.a").is_null());
  EXPECT_CONTAINS(core::read_file(folder_ / "out/report.md"), "| COMET, set.a ");
  const std::set<std::string> translations = stages("translate");

  const Json report = run_with(model);
  EXPECT_EQ(report["provenance"]["COMET"], "softmax, float32");
  EXPECT_EQ(stages("translate"), translations);
  EXPECT_EQ(stages("comet").size(), 2u);
  std::multiset<double> reported, scored;
  for (const Json& row : report["rows"]) {
    reported.insert(row["values"]["comet.set.a"].get<double>());
    EXPECT_TRUE(row["half_widths"].contains("comet.set.a"));
    EXPECT_FALSE(row["values"].contains("comet.validation"));
  }
  for (const std::string& stage : translations) {
    const std::string lines = (folder_ / "out/stages" / stage / "set.a.txt").string();
    if (!fs::exists(lines)) continue;
    const Json score = Json::parse(succeed({"score", "comet", lines, "--source", "set.a.de", "--reference",
                                            "set.a.en", "--model", model, "--json"}));
    scored.insert(100 * score["score"].get<double>());
  }
  ASSERT_EQ(scored.size(), 2u);
  // Either may be computed on a GPU, and is × 100 of a score within 2e-6 of the exact one (comet_test).
  for (auto a = reported.begin(), b = scored.begin(); a != reported.end(); ++a, ++b)
    EXPECT_NEAR(*a, *b, 100 * 2 * 2e-6);

  fs::copy(model, folder_ / "elsewhere", fs::copy_options::recursive);
  run_with("elsewhere");
  EXPECT_EQ(stages("comet").size(), 2u);  // the same model
  run_with(testing::golden("comet/sparsemax").string());
  EXPECT_EQ(stages("comet").size(), 4u);

  EXPECT_TRUE(report["rows"][1]["values"].contains("comet_difference.set.a"));
  const std::string activations = R"(model.conv_activation = ["silu", "identity"])";
  std::string recipe = core::read_file(folder_ / "r.toml");
  put_file(folder_ / "r.toml", recipe.replace(recipe.find(activations), activations.size(),
                                              "evaluate.comet_model = [\"elsewhere\", \"" +
                                                  testing::golden("comet/sparsemax").string() + "\"]"));
  const Json two_models = Json::parse(succeed({"run", "r.toml", "--json"}));
  EXPECT_FALSE(two_models["rows"][1]["values"].contains("comet_difference.set.a"));
  EXPECT_EQ(two_models["provenance"]["COMET"],
            "elsewhere, float32, sparsemax, float32; rows by different models are not compared");
}

TEST_F(TranslationReport, CometIsLookedForFirst) {
  const auto refused = [this](const std::string& model, const std::string& set = "train.steps=2") {
    const auto outcome = program({"run", "r.toml", "--set", "evaluate.comet_model=" + model, "--set", set});
    EXPECT_NE(outcome.code, 0);
    EXPECT_FALSE(fs::exists(folder_ / "out"));
    return outcome.err;
  };
  const std::string missing = refused("nowhere");
  EXPECT_CONTAINS(missing, "no COMET model in nowhere: missing nowhere/hparams.yaml");
  EXPECT_CONTAINS(missing, "huggingface.co/Unbabel/wmt22-comet-da");
  EXPECT_CONTAINS(refused("nowhere", "evaluate.test=[]"), "evaluate.comet_model");
  fs::copy(testing::golden("comet/sparsemax"), folder_ / "broken", fs::copy_options::recursive);
  fs::resize_file(folder_ / "broken/checkpoints/model.ckpt", 100000);
  EXPECT_CONTAINS(refused("broken"), "broken/checkpoints/model.ckpt: damaged zip file");
  testing::put_file(folder_ / "broken/hparams.yaml", "class_identifier: [\n");
  EXPECT_CONTAINS(refused("broken"), "broken/hparams.yaml:");
}

}  // namespace
}  // namespace exactmamba::cli
