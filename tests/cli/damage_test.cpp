// Damage to a finished run: one line that names the file and what to delete, and after that the program
// completes the run again.
#include <filesystem>

#include <gtest/gtest.h>

#include "tests/cli/recipe_folder.h"
#include "tests/cli/tiny_recipe.h"
#include "tests/support/program.h"

namespace exactmamba::cli {
namespace {

namespace fs = std::filesystem;
using testing::ProgramOutcome;

void cut(const fs::path& file) { fs::resize_file(file, fs::file_size(file) / 2); }
void flip_a_bit(const fs::path& file) {
  std::string bytes = testing::content_of(file);
  bytes[bytes.size() * 3 / 4] = static_cast<char>(bytes[bytes.size() * 3 / 4] ^ 2);
  testing::put_file(file, bytes);
}

class DamageTest : public ::testing::Test, protected RecipeFolder {
 protected:
  DamageTest() : RecipeFolder(kTinyRecipe) {
    EXPECT_EQ(program({"run", "r.toml"}).code, 0);
    report_ = testing::content_of(folder_ / "out/report.json");
  }

  fs::path inside(const fs::path& path) const { return folder_.path() / path; }

  /// The one line of a command that is refused.
  std::string refusal(const std::vector<std::string>& arguments) const {
    const ProgramOutcome outcome = program(arguments);
    EXPECT_TRUE(outcome.code == 1 || outcome.code == 3) << outcome.code;
    EXPECT_EQ(outcome.out, "");
    const size_t line = outcome.err.find("exactmamba: error: ");
    EXPECT_NE(line, std::string::npos) << outcome.err;
    EXPECT_EQ(outcome.err.find('\n', line), outcome.err.size() - 1) << outcome.err;
    return outcome.err.substr(line);
  }

  void expect_the_same_report_again() const {
    const ProgramOutcome outcome = program({"run", "r.toml"});
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_EQ(testing::content_of(folder_ / "out/report.json"), report_);
  }

  /// Repeats the stages that read the weights: without their record, or stage by stage it would be reused.
  void forget(const std::string& kind) const { fs::remove_all(inside(stage(kind))); }

  std::string report_;
};

TEST_F(DamageTest, OfAStagesRecord) {
  for (const std::string kind : {"train", "decompose", "evaluate"}) {
    const fs::path file = stage(kind) / "stage.json";
    for (const auto& damage : {cut, flip_a_bit}) {
      damage(inside(file));
      for (const std::string command : {"run", "report"}) {
        const std::string line = refusal({command, "r.toml"});
        EXPECT_CONTAINS(line, "error: " + file.string());
        EXPECT_CONTAINS(line, "; delete this file to complete the stage again\n");
      }
      fs::remove(inside(file));
      expect_the_same_report_again();
    }
  }
}

TEST_F(DamageTest, OfTheFinalCheckpoint) {
  const fs::path train = stage("train"), last = train / "checkpoints/step-00000006";
  const std::string advice = "; delete " + (train / "stage.json").string() + " to run this stage again\n";
  const std::vector<std::function<void()>> damages = {
      [&] { fs::remove_all(inside(last)); },  // an older one stays
      [&] { fs::remove_all(inside(train / "checkpoints")); },
      [&] { cut(inside(last / "model.safetensors")); },
      [&] { flip_a_bit(inside(last / "model.safetensors")); },
      [&] { cut(inside(last / "config.json")); },
  };
  for (const auto& damage : damages) {
    forget("decompose");
    damage();
    EXPECT_CONTAINS(refusal({"run", "r.toml"}), last.string());
    for (const std::string command : {"run", "decompose"})
      EXPECT_CONTAINS(refusal({command, "r.toml"}), advice);
    fs::remove(inside(train / "stage.json"));
    expect_the_same_report_again();
  }
}

/// Which is not the last: without the training's record nothing would make it again.
TEST_F(DamageTest, OfTheBestCheckpoint) {
  const std::vector<std::string> best = {"train.result=best", "train.lr=1e-30", "train.eval_every=2",
                                         "run.output=best"};
  const ProgramOutcome whole = program({"run", "r.toml", "--json"}, best);
  ASSERT_EQ(whole.code, 0) << whole.err;
  const std::string report = testing::content_of(folder_ / "best/report.json");
  const std::string checkpoint =
      core::Json::parse(program({"train", "r.toml", "--json"}, best).out)[0]["result"]["checkpoint"];
  ASSERT_EQ(fs::path(checkpoint).filename(), "step-00000000");
  const fs::path train = fs::path(checkpoint).parent_path().parent_path();
  flip_a_bit(inside(fs::path(checkpoint) / "model.safetensors"));
  const std::vector<std::string> decompose = {"run", "r.toml", "--set", "decompose.max_rows=1"};
  const ProgramOutcome damaged = program(decompose, best);
  EXPECT_CONTAINS(damaged.err, "; delete " + train.string() + " to run this stage again\n");
  fs::remove(inside(train / "stage.json"));  // all the same: the damaged weights must not become the result
  const ProgramOutcome again = program({"run", "r.toml"}, best);
  EXPECT_EQ(again.code, 1);
  EXPECT_CONTAINS(again.err, "; delete " + train.string() + " to train again\n");
  fs::remove_all(inside(train));
  EXPECT_EQ(program({"run", "r.toml"}, best).code, 0);
  EXPECT_EQ(testing::content_of(folder_ / "best/report.json"), report);
}

TEST_F(DamageTest, OfARecordOfWhatAModelIsMadeOf) {
  const fs::path file = stage("train") / "stage.json";
  core::Json record = core::read_json(inside(file));
  record["inputs"]["training data"] = 3;
  core::write_json(inside(file), record);
  EXPECT_CONTAINS(refusal({"inspect", "out"}), file.string() + ": not the record of a stage: ");
}

TEST_F(DamageTest, OfCheckpointsThatNobodyNeedsAnyMore) {
  fs::remove_all(inside(stage("train") / "checkpoints"));
  expect_the_same_report_again();
}

TEST_F(DamageTest, OfTheCurves) {
  const fs::path train = stage("train"), metrics = train / "metrics.jsonl";
  const std::string whole = R"({"kind": "train", "step": 1, "loss": 2})";
  for (
      const std::string second :
      {R"({"kind": tr)", R"({"step": 2})", R"({"kind": 1, "step": 2})", R"({"kind": "train", "loss": 2})",
       R"({"kind": "evaluation", "step": 2, "approximation_error": {}})",
       R"({"kind": "evaluation", "step": 2, "alpha": 1, "approximation_error": {"l2_mean": {"silu": 1}}})",
       R"({"kind": "evaluation", "step": 2, "alpha": 1, "approximation_error": {"l2_mean": {"silu": []}}})"}) {
    testing::put_file(inside(metrics), whole + "\n" + second + "\n");
    const std::string line = refusal({"report", "r.toml"});
    EXPECT_CONTAINS(line, "error: " + metrics.string() + ":2:");
    EXPECT_CONTAINS(line, "; mend it, or delete it for a report without these curves\n");
  }
  fs::remove(inside(metrics));
  const ProgramOutcome without = program({"report", "r.toml"});
  EXPECT_EQ(without.code, 0) << without.err;
  EXPECT_CONTAINS(without.err, "warning: " + metrics.string() + ": no such file; '");
  fs::remove_all(inside(train));
  expect_the_same_report_again();
}

TEST_F(DamageTest, OfTheRunsRecord) {
  for (const std::string text : {"", "{", "[]", "{\"recipe_hash\": 3"}) {
    testing::put_file(folder_ / "out/run.json", text);
    const std::string line = refusal({"run", "r.toml"});
    EXPECT_CONTAINS(line, "error: out/run.json");
    EXPECT_CONTAINS(line, "give --overwrite");
  }
  EXPECT_EQ(program({"run", "r.toml", "--overwrite"}).code, 0);
  expect_the_same_report_again();
}

}  // namespace
}  // namespace exactmamba::cli
