// The evaluate stage of a translation recipe with [evaluate.alignment].
#include <filesystem>
#include <map>
#include <set>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "core/files.h"
#include "core/json.h"
#include "tests/cli/recipe_folder.h"

namespace exactmamba::cli {
namespace {

namespace fs = std::filesystem;
using core::Json;
using testing::ProgramOutcome;
using testing::put_file;

constexpr const char* kAligningRecipe = R"(
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

class Alignment : public ::testing::Test, protected RecipeFolder {
 protected:
  Alignment() : RecipeFolder(kAligningRecipe) {
    put_file(folder_ / "train.tsv", "eins\tone\nzwei drei\ttwo three\n");
    put_file(folder_ / "test.de", "ein Haus\ndas Boot ist rot\nja\n");
    put_file(folder_ / "test.en", "a house\nthe boat is red\nyes\n");
    put_file(folder_ / "gold.talp", "1-1 2-2\n1-1 2p2 3-3 4-4\n1-1\n");
  }

  /// Parts of translations that are not finished.
  std::vector<fs::path> kept_parts() const {
    std::vector<fs::path> parts;
    for (const auto& entry : fs::directory_iterator(folder_ / "out/stages"))
      if (const fs::path folder = entry.path() / "parts"; fs::exists(folder))
        for (const auto& part : fs::directory_iterator(folder))
          if (part.path().extension() == ".txt") parts.push_back(part.path());
    return parts;
  }
};

TEST_F(Alignment, ReportsWhatTheFilesOfLinksAreWorth) {
  const Json report = json_of({"run", "r.toml"});
  const Json& row = report["rows"][0];
  const fs::path kept = stage("align");
  for (const std::string map : {"layer0", "layer1", "layer_mean"}) {
    const fs::path links = kept / ("l2.activation." + map + ".pharaoh");
    const Json score = json_of({"score", "aer", links.string(), "--base", "0", "--gold", "gold.talp",
                                "--gold-base", "1", "--sentences", "test.{de,en}"});
    const Json& expected = map == "layer_mean"
                               ? row["values"]["aer.l2 · activation.layer_mean"]
                               : row["layers"]["alignment error rate"]["l2 · activation"][map == "layer1"];
    EXPECT_EQ(score["alignments"][0]["aer"], expected) << map;
  }
  EXPECT_TRUE(row["values"].contains("aer.rollout · activation.whole_model"));
  const Json whole = json_of({"score", "aer", (kept / "rollout.activation.whole_model.pharaoh").string(),
                              "--base", "0", "--gold", "gold.talp", "--gold-base", "1"})["alignments"][0];
  for (const std::string measure : {"precision", "recall", "links"})
    EXPECT_EQ(row["values"]["aer.rollout · activation.whole_model_" + measure], whole[measure]);
  EXPECT_FALSE(row["values"].contains("aer.l2 · activation.best"));  // no development part
  EXPECT_CONTAINS(report["provenance"]["AER without a model"].get<std::string>(), "scaled_diagonal 0.0");
  EXPECT_CONTAINS(core::read_file(folder_ / stage("aer") / "alignment.md"),
                  "| mamba_attention | mean of layers |");
  EXPECT_TRUE(fs::exists(folder_ / kept / "mamba_attention.layer1.pharaoh"));
  ASSERT_EQ(row["alignments"].size(), 6u);  // of two pairs the three maps, as report.map_rows has it
  EXPECT_EQ(row["alignments"][5]["rows"], Json({"the", "boat", "is", "red"}));
}

TEST_F(Alignment, BothDirectionsAndADevelopmentPart) {
  json_of({"train", "r.toml"});
  fs::path checkpoint;
  for (const auto& entry : fs::recursive_directory_iterator(folder_ / "out/stages"))
    if (entry.path().filename() == "step-00000002") checkpoint = entry.path();
  const Json alignment = json_of({"evaluate", "r.toml"}, {"evaluate.alignment.dev_pairs=1",
                                                          "evaluate.alignment.reverse_model=" +
                                                              checkpoint.string()})[0]["result"]["alignment"];
  EXPECT_EQ(alignment["maps"]["l2 · activation"]["development_aer"].size(), 2u);
  EXPECT_TRUE(alignment["reverse_maps"]["l2 · activation"].contains("best"));
  EXPECT_TRUE(alignment["symmetrised"]["l2 · activation, best layers"].contains("grow_diagonal"));
  EXPECT_TRUE(fs::exists(folder_ / stage("align_reverse") / "l2.activation.layer0.pharaoh"));
}

TEST_F(Alignment, EveryColumnOfAReportCanBeChosen) {
  std::vector<std::string> sets = {"evaluate.alignment.dev_pairs=1", "evaluate.test=[\"test.{de,en}\"]"};
  const Json report = json_of({"run", "r.toml"}, sets);
  Json keys = Json::array();
  for (const Json& column : report["columns"]) keys.push_back(column["key"]);
  EXPECT_GT(keys.size(), 15u);
  EXPECT_CONTAINS(core::read_file(folder_ / "out/report.md"), "AER's recall, l2 · activation");
  sets.push_back("report.columns=" + keys.dump());
  EXPECT_EQ(json_of({"report", "r.toml"}, sets)["shown"], keys);
}

TEST_F(Alignment, AStoppedEvaluationGoesOnWithItsNextPart) {
  std::string many;
  for (int line = 0; line < 500; ++line) many += fmt::format("zeile {} von vielen\n", line);
  put_file(folder_ / "many.de", many);
  put_file(folder_ / "many.en", many);
  const Strings sets = {"evaluate.test=[\"many.{de,en}\"]"}, elsewhere = {sets[0], "run.output=undisturbed"};
  succeed({"train", "r.toml"}, sets);
  succeed({"train", "r.toml"}, elsewhere);
  const Json expected = json_of({"evaluate", "r.toml"}, elsewhere);

  const testing::TemporaryFolder streams;
  const pid_t child =
      testing::start_program({"evaluate", "r.toml", "--set", sets[0]}, {.folder = folder_.path()}, streams);
  wait_for(child,
           [this] { return stages("translate").size() == 2 && !kept_parts().empty(); });  // after data.valid
  ::kill(child, SIGINT);
  const ProgramOutcome stopped = testing::finish_program(child, streams);
  EXPECT_EQ(stopped.code, 130) << stopped.err;
  EXPECT_CONTAINS(stopped.err, "stopped while translating");
  std::map<fs::path, fs::file_time_type> finished;
  for (const auto& entry : fs::directory_iterator(folder_ / "out/stages"))
    if (const fs::path record = entry.path() / "stage.json"; fs::exists(record))
      finished[record] = fs::last_write_time(record);
  EXPECT_EQ(finished.size(), 3u);  // train, evaluate, one translate
  EXPECT_TRUE(stages("align").empty());
  const std::vector<fs::path> kept = kept_parts();
  ASSERT_EQ(kept.size(), 1u);
  EXPECT_EQ(kept[0].filename(), "00000000.txt");

  EXPECT_EQ(json_of({"evaluate", "r.toml"}, sets), expected);
  EXPECT_TRUE(kept_parts().empty());
  for (const auto& [record, time] : finished) EXPECT_EQ(fs::last_write_time(record), time) << record;
}

TEST_F(Alignment, WhatAnOptionDoesNotChangeIsNotDoneAgain) {
  const auto counts = [this] {
    std::map<std::string, size_t> found;
    for (const char* kind : {"train", "evaluate", "translate", "align", "aer"})
      found[kind] = stages(kind).size();
    return found;
  };
  std::map<std::string, size_t> expected = {
      {"train", 1}, {"evaluate", 1}, {"translate", 1}, {"align", 1}, {"aer", 1}};
  succeed({"run", "r.toml"});
  EXPECT_EQ(counts(), expected);
  succeed({"evaluate", "r.toml"}, {"evaluate.beam=2"});
  expected["translate"] = 2;
  EXPECT_EQ(counts(), expected);
  put_file(folder_ / "gold.talp", "1-1 2-2\n1-1 2-2 3-3 4-4\n1-1\n");
  succeed({"evaluate", "r.toml"}, {"evaluate.alignment.dev_pairs=1"});
  expected["aer"] = 2;
  EXPECT_EQ(counts(), expected);
  succeed({"evaluate", "r.toml"}, {"evaluate.alignment.rows=awi"});
  expected["align"] = 2;
  expected["aer"] = 3;
  EXPECT_EQ(counts(), expected);
}

TEST_F(Alignment, EveryOptionOfTheEvaluationIsReadByAPart) {
  succeed({"run", "r.toml"});
  std::set<std::string> read = {"evaluate.bleu", "evaluate.test"};  // say which parts there are
  for (const auto& entry : fs::directory_iterator(folder_ / "out/stages")) {
    const Json record = core::read_json(entry.path() / "stage.json");
    for (const auto& [key, value] : record["options"].items()) read.insert(key);
  }
  const Json options = json_of({"validate", "r.toml"})["options"];
  for (const auto& [key, option] : options.items()) {
    if (!key.starts_with("evaluate.") || key == "evaluate.batch_size" || !option["applies"]) continue;
    EXPECT_TRUE(read.contains(key)) << key;
  }
}

TEST_F(Alignment, RunsWithSeveralGoldsAllShowWhatNoModelReaches) {
  put_file(folder_ / "other.talp", "1-2\n1-4\n1-1\n");
  write_recipe(std::string(kAligningRecipe) +
               "[sweep]\nevaluate.alignment.gold = [\"gold.talp\", \"other.talp\"]\n");
  const std::string text = json_of({"run", "r.toml"})["provenance"]["AER without a model"];
  EXPECT_CONTAINS(text, "('gold.talp')");
  EXPECT_CONTAINS(text, "('other.talp')");
  EXPECT_EQ(stages("align").size(), 1u);
}

TEST_F(Alignment, AReverseModelHasTheTokensOfItsTokenizer) {
  succeed({"train", "r.toml"});
  fs::copy(folder_ / stage("train") / "checkpoints/step-00000002", folder_ / "back",
           fs::copy_options::recursive);
  Json config = core::read_json(folder_ / "back/config.json");
  for (Json& value : config)
    if (value == 258) value = 200;
  put_file(folder_ / "back/config.json", config.dump());
  const ProgramOutcome missing =
      program({"validate", "r.toml"}, {"evaluate.alignment.reverse_model=nowhere"});
  EXPECT_EQ(missing.code, 3);
  EXPECT_CONTAINS(missing.err, "nowhere");
  const ProgramOutcome refused = program({"evaluate", "r.toml"}, {"evaluate.alignment.reverse_model=back"});
  EXPECT_EQ(refused.code, 1);
  EXPECT_CONTAINS(refused.err, "reverse_model: back: its tokenizer has 258 tokens, but the model 200");
}

TEST_F(Alignment, WhatDoesNotFitIsRefusedBeforeTraining) {
  const auto refusal = [this](const std::vector<std::string>& sets) {
    const ProgramOutcome outcome = program({"run", "r.toml"}, sets);
    EXPECT_EQ(outcome.code, 1);
    EXPECT_FALSE(fs::exists(folder_ / "out"));
    return outcome.err;
  };
  EXPECT_CONTAINS(
      refusal({"evaluate.alignment.gold_base=\"0\""}),
      "gold.talp:1:5: '2-2' has source word 2, but sentence 1 in test.{de,en} has 2 words, counted "
      "from 0, as evaluate.alignment.gold_base says");
  EXPECT_CONTAINS(refusal({"evaluate.alignment.gold=\"\""}),
                  "error: --set evaluate.alignment.gold=\"\": alignments are scored against "
                  "evaluate.alignment.gold, which is empty [");
  EXPECT_CONTAINS(refusal({"evaluate.alignment.gold="}),
                  "error: --set evaluate.alignment.gold=: alignments are scored against "
                  "evaluate.alignment.gold, which is empty [");
  EXPECT_CONTAINS(refusal({"evaluate.alignment.methods=[]"}),
                  "error: --set evaluate.alignment.methods=[]: evaluate.alignment.methods is empty [");
  EXPECT_CONTAINS(
      refusal({"evaluate.alignment.dev_sentences=one.{de,en}"}),
      "error: --set evaluate.alignment.dev_sentences=one.{de,en}: evaluate.alignment.dev_sentences "
      "has no evaluate.alignment.dev_gold [");
  EXPECT_CONTAINS(refusal({"evaluate.alignment.dev_pairs=3"}),
                  "error: --set evaluate.alignment.dev_pairs=3: evaluate.alignment.dev_pairs: dev_pairs = 3, "
                  "but test.{de,en} has 3 sentence pairs: none is left to test [");
  put_file(folder_ / "one.de", "ein Haus\n");
  put_file(folder_ / "one.en", "a house\n");
  const std::string other = refusal({"evaluate.alignment.sentences=one.{de,en}"});
  EXPECT_CONTAINS(other,
                  "error: --set evaluate.alignment.sentences=one.{de,en}: evaluate.alignment.sentences: "
                  "gold.talp: 3 lines for 1 sentence pairs in one.{de,en}");
  EXPECT_CONTAINS(other, "[evaluate.alignment.gold = \"gold.talp\" (r.toml:");
  put_file(folder_ / "dev.talp", "1-1\n1-1\n");
  EXPECT_CONTAINS(
      refusal({"evaluate.alignment.dev_sentences=one.{de,en}", "evaluate.alignment.dev_gold=dev.talp"}),
      "error: --set evaluate.alignment.dev_gold=dev.talp: evaluate.alignment.dev_gold: dev.talp: 2 lines for "
      "1");
  EXPECT_CONTAINS(refusal({"evaluate.alignment.gold_base=0"}),
                  "takes a string, not an integer (0): one of \"0\", \"1\"; write --set "
                  "'evaluate.alignment.gold_base=\"0\"'\n");
  EXPECT_CONTAINS(refusal({"evaluate.alignment.dev_gold=\"x\""}), "evaluate.alignment.dev_sentences");
  EXPECT_CONTAINS(refusal({"data.task=\"text\"", "data.valid=[]"}), "evaluate.alignment");
}

TEST_F(Alignment, ValidateRefusesPairsThatRunWould) {
  const auto refusal = [this](const Strings& sets) {
    const ProgramOutcome outcome = program({"validate", "r.toml"}, sets);
    EXPECT_EQ(outcome.code, 1);
    EXPECT_EQ(program({"run", "r.toml"}, sets).code, 1);
    return outcome.err;
  };
  const std::string none = "there is no pair of sentences in train.tsv: left out are ";
  EXPECT_CONTAINS(refusal({"data.context=12"}),
                  "error: --set data.context=12: data.context: train.tsv:2: the pair has 20 tokens and does "
                  "not fit into data.context = 12; raise it, or, of training pairs");
  EXPECT_CONTAINS(refusal({"data.context=4", "data.on_long_pair=drop"}), none);
  EXPECT_CONTAINS(refusal({"data.min_characters=100000"}),
                  "error: --set data.min_characters=100000: data.min_characters: " + none);
  EXPECT_CONTAINS(refusal({"data.exclude=[\"train.tsv\"]"}), none);
  EXPECT_CONTAINS(refusal({"data.min_characters=10", "data.tokenizer=bpe", "data.vocab_size=300"}), none);
  put_file(folder_ / "bad.tsv", "a\nb\n");
  EXPECT_CONTAINS(refusal({"data.train=[\"bad.tsv\"]", "data.on_bad_record=skip"}),
                  "data.train: bad.tsv: there is no pair of sentences in it: left out are 2 bad, the first: "
                  "bad.tsv:1: ");
  put_file(folder_ / "long.tsv", std::string(90, 'a') + "\tb\n");
  EXPECT_CONTAINS(refusal({"data.valid=[\"long.tsv\"]", "data.on_long_pair=drop"}),
                  "data.valid: long.tsv:1: the pair has 93 tokens and does not fit");
  succeed({"validate", "r.toml"}, {"data.context=20", "data.min_characters=3"});
  succeed({"validate", "r.toml"}, {"data.context=12", "data.valid=[]", "data.on_long_pair=drop"});
}

TEST_F(Alignment, TwoTestSetsOfOneNameAreRefused) {
  fs::create_directory(folder_ / "x");
  for (const char* file : {"test.de", "test.en"}) fs::copy(folder_ / file, folder_ / "x" / file);
  for (const std::string command : {"validate", "run"}) {
    write_recipe(std::string("evaluate.test = [\"test.{de,en}\", \"x/test.{en,de}\"]\n") + kAligningRecipe);
    const ProgramOutcome outcome = program({command, "r.toml"});
    EXPECT_EQ(outcome.code, 1);
    EXPECT_CONTAINS(
        outcome.err,
        "error: r.toml:1:17: evaluate.test: x/test.{en,de}: another test set is called test as well, "
        "test.{de,en}; rename its files\n");
    EXPECT_FALSE(fs::exists(folder_ / "out"));
  }
}

TEST_F(Alignment, AColumnIsFoundByPartsOfItsName) {
  const ProgramOutcome outcome =
      program({"validate", "r.toml"}, {"evaluate.alignment.dev_pairs=1", "report.columns=[\"aer.l2.best\"]"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_CONTAINS(outcome.err, "there is no column 'aer.l2.best'; did you mean 'aer.l2 · activation.best'?");
}

}  // namespace
}  // namespace exactmamba::cli
