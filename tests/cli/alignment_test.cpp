// The evaluate stage of a translation recipe with [evaluate.alignment].
#include <filesystem>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "core/files.h"
#include "core/json.h"
#include "tests/support/program.h"

namespace exactmamba::cli {
namespace {

namespace fs = std::filesystem;
using core::Json;
using testing::ProgramOutcome;
using testing::put_file;
using testing::run_program;

constexpr const char* kRecipe = R"(
[run]
output = "out"
[data]
task = "translation"
train = ["train.tsv"]
valid = ["train.tsv"]
context = 64
[model]
d_model = 16
n_layer = 2
d_state = 8
headdim = 8
[train]
steps = 2
batch_size = 1
[decompose]
max_rows = 1
[evaluate.alignment]
sentences = "test.{de,en}"
gold = "gold.talp"
gold_base = "1"
methods = ["l2", "rollout", "mamba_attention"]
)";

class Alignment : public ::testing::Test {
 protected:
  Alignment() {
    put_file(folder_ / "r.toml", kRecipe);
    put_file(folder_ / "train.tsv", "eins\tone\nzwei drei\ttwo three\n");
    put_file(folder_ / "test.de", "ein Haus\ndas Boot ist rot\nja\n");
    put_file(folder_ / "test.en", "a house\nthe boat is red\nyes\n");
    put_file(folder_ / "gold.talp", "1-1 2-2\n1-1 2p2 3-3 4-4\n1-1\n");
  }
  ProgramOutcome program(const std::vector<std::string>& arguments) const {
    return run_program(arguments, {.folder = folder_.path()});
  }
  Json json_of(std::vector<std::string> arguments) const {
    arguments.push_back("--json");
    const ProgramOutcome outcome = program(arguments);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return core::parse_json(outcome.out, "stdout");
  }
  fs::path evaluate_folder() const {
    for (const auto& entry : fs::directory_iterator(folder_ / "out/stages"))
      if (entry.path().filename().string().starts_with("evaluate")) return entry.path();
    return {};
  }
  testing::TemporaryFolder folder_;
};

TEST_F(Alignment, ReportsWhatTheFilesOfLinksAreWorth) {
  const Json report = json_of({"run", "r.toml"});
  const Json& row = report["rows"][0];
  const fs::path stage = evaluate_folder();
  for (const std::string map : {"layer0", "layer1", "layer_mean"}) {
    const fs::path links = stage / ("alignments/l2.activation." + map + ".pharaoh");
    const Json score = json_of({"score", "aer", links.string(), "--base", "0", "--gold", "gold.talp",
                                "--gold-base", "1", "--sentences", "test.{de,en}"});
    const Json& expected = map == "layer_mean"
                               ? row["values"]["aer.l2 · activation.layer_mean"]
                               : row["layers"]["alignment error rate"]["l2 · activation"][map == "layer1"];
    EXPECT_EQ(score["alignments"][0]["aer"], expected) << map;
  }
  EXPECT_TRUE(row["values"].contains("aer.rollout · activation.whole_model"));
  EXPECT_FALSE(row["values"].contains("aer.l2 · activation.best"));  // no development part
  EXPECT_CONTAINS(report["provenance"]["AER without a model"].get<std::string>(), "scaled_diagonal 0.0");
  EXPECT_CONTAINS(core::read_file(stage / "alignment.md"), "| mamba_attention | mean of layers |");
  EXPECT_TRUE(fs::exists(stage / "alignments/mamba_attention.layer1.pharaoh"));
}

TEST_F(Alignment, BothDirectionsAndADevelopmentPart) {
  json_of({"train", "r.toml"});
  fs::path checkpoint;
  for (const auto& entry : fs::recursive_directory_iterator(folder_ / "out/stages"))
    if (entry.path().filename() == "step-00000002") checkpoint = entry.path();
  const std::vector<std::string> more = {"--set", "evaluate.alignment.dev_pairs=1", "--set",
                                         "evaluate.alignment.reverse_model=" + checkpoint.string()};
  std::vector<std::string> arguments = {"evaluate", "r.toml"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  const Json alignment = json_of(arguments)[0]["result"]["alignment"];
  EXPECT_EQ(alignment["maps"]["l2 · activation"]["development_aer"].size(), 2u);
  EXPECT_TRUE(alignment["reverse_maps"]["l2 · activation"].contains("best"));
  EXPECT_TRUE(alignment["symmetrised"]["l2 · activation, best layers"].contains("grow_diagonal"));
  EXPECT_TRUE(fs::exists(evaluate_folder() / "reverse_alignments/l2.activation.layer0.pharaoh"));
}

TEST_F(Alignment, WhatDoesNotFitIsRefusedBeforeTraining) {
  const auto refusal = [this](const std::vector<std::string>& sets) {
    std::vector<std::string> arguments = {"run", "r.toml"};
    for (const std::string& set : sets) arguments.insert(arguments.end(), {"--set", set});
    const ProgramOutcome outcome = program(arguments);
    EXPECT_EQ(outcome.code, 1);
    EXPECT_FALSE(fs::exists(folder_ / "out"));
    return outcome.err;
  };
  EXPECT_CONTAINS(
      refusal({"evaluate.alignment.gold_base=\"0\""}),
      "gold.talp:1:5: '2-2' has source word 2, but sentence 1 in test.{de,en} has 2 words, counted "
      "from 0, as evaluate.alignment.gold_base says");
  EXPECT_CONTAINS(refusal({"evaluate.alignment.gold=\"\""}), "evaluate.alignment.gold, which is empty");
  EXPECT_CONTAINS(refusal({"evaluate.alignment.dev_pairs=3"}), "none is left to test");
  EXPECT_CONTAINS(refusal({"evaluate.alignment.dev_gold=\"x\""}), "evaluate.alignment.dev_sentences");
  EXPECT_CONTAINS(refusal({"data.task=\"text\"", "data.valid=[]"}), "evaluate.alignment");
}

}  // namespace
}  // namespace exactmamba::cli
