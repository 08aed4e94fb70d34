// A whole run on a tiny copy task: stages, reuse by hash, stopping and continuing.
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <map>
#include <set>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <thread>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "core/json.h"
#include "core/metrics_log.h"
#include "core/safetensors.h"
#include "tests/cli/recipe_folder.h"
#include "tests/cli/tiny_recipe.h"
#include "tests/support/program.h"
#include "tests/support/tensors.h"
#include "tests/support/weights.h"

namespace exactmamba::cli {
namespace {

namespace fs = std::filesystem;
using core::Json;
using testing::ProgramOutcome;
using testing::put_file;
using testing::run_program;
using testing::TemporaryFolder;

class RunTest : public ::testing::Test, protected RecipeFolder {
 protected:
  RunTest() : RecipeFolder(kTinyRecipe) {}
  void write_recipe(const std::string& more = "") const { RecipeFolder::write_recipe(kTinyRecipe + more); }
  /// One step of one row of files; `data`: the keys of [data], from line 4 on.
  void write_one_step(const std::string& data, const std::string& more = "") const {
    RecipeFolder::write_recipe("run.output = \"out\"\ntrain.steps = 1\ntrain.batch_size = 1\n" + data +
                               "model.d_model = 16\nmodel.headdim = 8\nmodel.n_layer = 1\n" + more);
  }

  /// Whether the training has begun and has `file` in its folder.
  bool training_has(const std::string& file) const {
    return !stages("train").empty() && fs::exists(folder_ / stage("train") / file);
  }
};

TEST_F(RunTest, EndsInATableAndAReport) {
  write_recipe(
      "[sweep]\nmodel.conv_activation = [\"silu\", \"identity\"]\n[[extra]]\nlabel = \"other "
      "seed\"\nrun.seed = 5\n");
  const std::string table = succeed({"run", "r.toml"}, {"train.beta1=0.8"});
  for (const std::string part : {"silu", "identity", "other seed", "out/report.html"})
    EXPECT_CONTAINS(table, part);
  for (const std::string file : {"report.json", "report.md", "report.html", "recipe.toml"})
    EXPECT_TRUE(fs::is_regular_file(folder_ / "out" / file)) << file;
  EXPECT_EQ(testing::content_of(folder_ / "out/recipe.toml"), testing::content_of(folder_ / "r.toml"));
  EXPECT_EQ(core::read_json(folder_ / "out/run.json")["set"], Json({"train.beta1=0.8"}));
  const Json report = core::read_json(folder_ / "out/report.json");
  EXPECT_EQ(report["provenance"]["--set"], "train.beta1=0.8");
  ASSERT_EQ(report["rows"].size(), 3u);
  EXPECT_EQ(report["rows"][1]["settings"]["model.conv_activation"], "identity");
  EXPECT_LE(report["rows"][1]["values"]["error.activation.0-0"].get<double>(), 1e-5);  // identity is exact
  EXPECT_EQ(report["rows"][0]["curves"]["loss"]["x"].size(), 6u);
  EXPECT_EQ(stages("train").size(), 3u);
}

TEST_F(RunTest, ReusesStagesThatAnEditDoesNotAffect) {
  write_recipe();
  succeed({"run", "r.toml"});
  const auto trained = stages("train");
  const auto written = fs::last_write_time(folder_ / "out/stages" / *trained.begin() / "stage.json");

  const ProgramOutcome again = program({"run", "r.toml"}, {"report.title=Another title", "train.log_every=2",
                                                           "run.threads=1", "decompose.error=l1_mean"});
  EXPECT_EQ(again.code, 0) << again.err;
  EXPECT_EQ(stages("train"), trained);
  EXPECT_EQ(stages("decompose").size(), 1u);
  EXPECT_EQ(fs::last_write_time(folder_ / "out/stages" / *trained.begin() / "stage.json"), written);
  EXPECT_EQ(core::read_json(folder_ / "out/report.json")["title"], "Another title");

  succeed({"run", "r.toml"}, {"decompose.max_rows=2"});
  EXPECT_EQ(stages("train"), trained);
  EXPECT_EQ(stages("decompose").size(), 2u);

  succeed({"run", "r.toml"}, {"train.lr=0.002"});
  EXPECT_EQ(stages("train").size(), 2u);
}

TEST_F(RunTest, GoesStageByStage) {
  write_recipe();
  EXPECT_EQ(program({"report", "r.toml"}).code, 1);
  EXPECT_CONTAINS(succeed({"train", "r.toml"}), "checkpoints/step-");
  const std::string errors = succeed({"decompose", "r.toml"});
  for (const std::string part :
       {"r: approximation error l2_mean, bias own, float32, rows: 3\n",
        "\n  layer  activation\n      0      0.", "\n  maps in out/stages/decompose-"})
    EXPECT_CONTAINS(errors, part);
  const Json measures = Json::parse(succeed({"evaluate", "r.toml", "--json"}));
  EXPECT_TRUE(measures[0]["result"]["character_accuracy"].is_number());
  const std::string loss =
      fmt::format("\n  {:<26} {:.4g}\n", "loss", measures[0]["result"]["loss"].get<double>());
  EXPECT_CONTAINS(succeed({"evaluate", "r.toml"}), loss);
  EXPECT_CONTAINS(succeed({"report", "r.toml"}), "out/report.html");
  const std::string checkpoint = "out/stages/" + *stages("train").begin() + "/checkpoints/step-00000006";
  EXPECT_EQ(Json::parse(succeed({"evaluate", "r.toml", "--model", checkpoint, "--json"})),
            measures[0]["result"]);
  EXPECT_CONTAINS(succeed({"evaluate", "r.toml", "--model", checkpoint}), checkpoint + "\n");
  EXPECT_CONTAINS(succeed({"inspect", checkpoint}), "training");
  succeed({"convert", checkpoint, "--output", "published", "--licence", "cc-by-4.0"});
  const std::string card = testing::content_of(folder_ / "published/README.md");
  for (const std::string part : {"train.lr = 0.001", "- training data: the copy task, fingerprint ",
                                 "l2_mean", "cc-by-4.0", "Weights after update 6 of 6."})
    EXPECT_CONTAINS(card, part);
}

TEST_F(RunTest, TheCardOfAnEarlierCheckpointHasNoErrorsOfTheLast) {
  write_recipe();
  succeed({"run", "r.toml"}, {"train.keep_checkpoints=3"});
  const std::string earlier = "out/stages/" + *stages("train").begin() + "/checkpoints/step-00000004";
  succeed({"convert", earlier, "--output", "published"});
  const std::string card = testing::content_of(folder_ / "published/README.md");
  EXPECT_CONTAINS(card, "Not measured.");
  EXPECT_CONTAINS(card, "Weights after update 4 of 6.");
  EXPECT_EQ(card.find("l2_mean"), std::string::npos);
}

TEST_F(RunTest, EveryCommandGivesOneJsonDocument) {
  write_recipe();
  for (const std::string command : {"run", "train", "decompose", "evaluate", "report", "validate"})
    EXPECT_TRUE(Json::accept(succeed({command, "r.toml", "--json"}))) << command;
  const std::string model = "out/stages/" + *stages("train").begin() + "/checkpoints/step-00000006";
  const std::vector<std::vector<std::string>> commands = {
      {"inspect", model},
      {"generate", model, "--ids", "1,5"},
      {"forward", model, "--ids", "1,5", "--output", "forward"},
      {"convert", model, "--output", "converted"},
      {"decompose", model, "--ids", "1,5", "--output", "maps"},
      {"decompose", model, "--ids", "1,5", "--full", "--output", "full"}};
  for (std::vector<std::string> arguments : commands) {
    arguments.push_back("--json");
    const std::string text = succeed(arguments);
    ASSERT_TRUE(Json::accept(text)) << arguments[0] << "\n" << text;
    const auto output = std::find(arguments.begin(), arguments.end(), "--output");
    if (output == arguments.end()) continue;
    EXPECT_EQ(Json::parse(text)["output"], *(output + 1));
  }
}

TEST_F(RunTest, AnotherModelIsMeasuredOnceOrNotAtAll) {
  const std::string model = testing::golden("models/mamba2-hf").string();
  write_recipe("[sweep]\nmodel.conv_activation = [\"silu\", \"relu\"]\n");
  const Json measures = Json::parse(succeed({"evaluate", "r.toml", "--model", model, "--json"}));
  EXPECT_TRUE(measures["loss"].is_number());
  for (const auto& [sweep, reason] :
       {std::pair{"run.seed = [1, 2]",
                  "'seed=1' and 'seed=2' differ in their "
                  "validation data"},
        {"evaluate.max_rows = [1, 2]", "differ in [evaluate], train.dtype"},
        {"train.dtype = [\"float32\", \"float64\"]", "differ in [evaluate], train.dtype"}}) {
    write_recipe("[sweep]\n" + std::string(sweep) + "\n");
    const ProgramOutcome outcome = program({"evaluate", "r.toml", "--model", model});
    EXPECT_EQ(outcome.code, 1);
    EXPECT_CONTAINS(outcome.err, reason);
  }
}

TEST_F(RunTest, AModelIsNotMeasuredOnTheIdsOfAnotherTokenizer) {
  put_file(folder_ / "a.txt",
           "a text of some length, which is as long as it has to be for a batch of two rows");
  const std::string eos = "<|endoftext|>";
  for (const std::string size : {"258", "270"})
    succeed({"train-tokenizer", "a.txt", "--vocab-size", size, "--special", eos, "--output", size + ".json"});
  write_one_step(
      "data.task = \"text\"\ndata.train = [\"a.txt\"]\ndata.valid = [\"a.txt\"]\ndata.tokenizer = "
      "\"270.json\"\ndata.context = 8\n");
  const std::string model = json_of({"train", "r.toml"})[0]["result"]["checkpoint"];
  const Strings evaluate = {"evaluate", "r.toml", "--model", model};
  succeed(evaluate);
  // 258.json has the first tokens of 270.json, but makes others of a text.
  for (const auto& [name, size] : {std::pair{"byte", "257"}, {"258.json", "258"}}) {
    const ProgramOutcome refused = program(evaluate, {std::string("data.tokenizer=") + name});
    EXPECT_EQ(refused.code, 1);
    EXPECT_CONTAINS(
        refused.err,
        fmt::format("error: --set data.tokenizer={}: data.tokenizer: {} has a tokenizer of its own, "
                    "of 270 tokens, and not this one, of {}: token ",
                    name, model, size));
    EXPECT_CONTAINS(refused.err, "; set data.tokenizer to " + model);
  }
  const fs::path own = folder_ / model / "tokenizer.json";
  Json spec = Json::parse(core::read_file(own));
  Json added = spec["added_tokens"][0];
  added["id"] = 270, added["content"] = "<|pad|>";
  spec["added_tokens"].push_back(added);
  core::write_file(own, spec.dump());
  succeed(evaluate);
  core::write_file(own, "{");
  EXPECT_CONTAINS(program(evaluate).err,
                  "whether this model's tokens are those of data.tokenizer is not known");
}

TEST_F(RunTest, ContinuesAfterASignalWithTheSameWeights) {
  write_recipe();
  const std::vector<std::string> run = {"run", "r.toml", "--set", "train.steps=400"};
  succeed({"run", "r.toml", "--set", "train.steps=400", "--set", "run.output=undisturbed"});
  const TemporaryFolder streams;
  const pid_t child = testing::start_program(run, {.folder = folder_.path()}, streams);
  wait_for(child, [&] { return training_has("checkpoints/step-00000010"); });
  ::kill(child, SIGINT);
  const ProgramOutcome stopped = testing::finish_program(child, streams);
  EXPECT_EQ(stopped.code, 130) << stopped.err;
  EXPECT_CONTAINS(stopped.err, "stopping after this step; again to stop now\n");
  EXPECT_CONTAINS(stopped.err, "exactmamba: error: stopped");
  EXPECT_FALSE(fs::exists(folder_ / "out/report.json"));

  succeed(run);
  const std::string stage = *stages("train").begin();
  const auto weights = [&](const std::string& output) {
    return testing::content_of(folder_ / output / "stages" / stage /
                               "checkpoints/step-00000400/model.safetensors");
  };
  EXPECT_GT(weights("out").size(), 1000u);
  EXPECT_EQ(weights("out"), weights("undisturbed"));
}

/// Path below `folder` → bytes of every file in it.
std::map<std::string, std::string> contents(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file())
      files[fs::relative(entry.path(), folder).string()] = testing::content_of(entry.path());
  return files;
}

void flip_the_last_byte(const fs::path& file) {
  std::string bytes = testing::content_of(file);
  ASSERT_FALSE(bytes.empty());
  bytes.back() = static_cast<char>(bytes.back() ^ 4);
  testing::put_file(file, bytes);
}

constexpr const char* kManyRows = "decompose.max_rows=120";  // of small rows, each a file
const std::vector<std::string> kLogitMaps = {kManyRows, "data.held_out=249", "data.context=12",
                                             "decompose.methods=['l2', 'alti_logit']"};

TEST_F(RunTest, ADecompositionContinuesRowByRow) {
  write_recipe();
  std::vector<std::string> elsewhere = kLogitMaps;
  elsewhere.push_back("run.output=undisturbed");
  succeed({"train", "r.toml"}, kLogitMaps);
  succeed({"train", "r.toml"}, elsewhere);
  succeed({"decompose", "r.toml"}, elsewhere);

  std::vector<std::string> arguments = {"decompose", "r.toml"};
  for (const std::string& set : kLogitMaps) arguments.insert(arguments.end(), {"--set", set});
  const auto rows = [&] {
    const auto names = stages("decompose");
    return names.empty() ? fs::path() : folder_ / "out/stages" / *names.begin() / "maps";
  };
  const auto has_row = [&](int row) {
    return fs::exists(rows() / fmt::format("row-{:08}.safetensors", row));
  };
  for (const int last : {2, 9, 17}) {  // killed after that row, three times
    const TemporaryFolder streams;
    const pid_t child = testing::start_program(arguments, {.folder = folder_.path()}, streams);
    wait_for(child, [&] { return has_row(last); });
    ::kill(child, SIGKILL);
    EXPECT_EQ(testing::finish_program(child, streams).code, -SIGKILL);
    EXPECT_FALSE(has_row(119)) << "too late for the test";
  }
  flip_the_last_byte(rows() / "row-00000001.safetensors");
  fs::resize_file(rows() / "row-00000004.safetensors", 100);
  testing::put_file(rows() / "row-00000005.safetensors", "");
  fs::copy_file(rows() / "row-00000007.safetensors", rows() / "row-00000006.safetensors",
                fs::copy_options::overwrite_existing);
  const ProgramOutcome outcome = program({"decompose", "r.toml"}, kLogitMaps);
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  for (const std::string part : {"row-00000001.safetensors: damaged", "row-00000004.safetensors: ",
                                 "row-00000005.safetensors: ", "row-00000006.safetensors: is of another row"})
    EXPECT_CONTAINS(outcome.err, part);
  const std::string stage = *stages("decompose").begin();
  const auto files = contents(folder_ / "out/stages" / stage);
  EXPECT_EQ(files.size(), 122u);  // 120 rows, the record, the lock
  EXPECT_EQ(files, contents(folder_ / "undisturbed/stages" / stage));
}

TEST_F(RunTest, ADamagedRowOfAFinishedDecompositionIsMadeAgain) {
  write_recipe();
  succeed({"run", "r.toml"});
  const std::string table = succeed({"report", "r.toml"});
  const fs::path stage = folder_ / "out/stages" / *stages("decompose").begin();
  flip_the_last_byte(stage / "maps/row-00000002.safetensors");
  const ProgramOutcome refused = program({"report", "r.toml"});
  EXPECT_EQ(refused.code, 1);
  EXPECT_CONTAINS(refused.err, "row-00000002.safetensors: damaged");
  EXPECT_CONTAINS(refused.err, "stage.json and run again");
  fs::remove(stage / "stage.json");
  EXPECT_EQ(succeed({"run", "r.toml"}), table);
}

TEST_F(RunTest, AnEvaluationStopsWhenAsked) {
  write_recipe();
  const std::vector<std::string> long_evaluation = {"data.held_out=100000", "data.min_length=6",
                                                    "data.max_length=9", "data.max_valid_rows=4"};
  succeed({"train", "r.toml"}, long_evaluation);
  std::vector<std::string> arguments = {"evaluate", "r.toml"};
  for (const std::string& set : long_evaluation) arguments.insert(arguments.end(), {"--set", set});
  const TemporaryFolder streams;
  const pid_t child = testing::start_program(arguments, {.folder = folder_.path()}, streams);
  wait_for(child, [&] { return !stages("evaluate").empty(); });
  ::kill(child, SIGINT);
  const ProgramOutcome stopped = testing::finish_program(child, streams);
  EXPECT_EQ(stopped.code, 130) << stopped.err;
  EXPECT_CONTAINS(stopped.err, "exactmamba: error: stopped while evaluating");
  EXPECT_EQ(stopped.out, "");
  EXPECT_FALSE(fs::exists(folder_ / "out/stages" / *stages("evaluate").begin() / "stage.json"));
}

TEST_F(RunTest, TheReportShowsHowTheErrorFallsWithAlpha) {
  write_recipe("[sweep]\ntrain.eval_error = [true, false]\n");
  succeed({"run", "r.toml"},
          {"model.conv_activation=identity", "train.annealing=power", "train.eval_every=2"});
  const Json rows = core::read_json(folder_ / "out/report.json")["rows"];
  const Json curves = rows[0]["error_curves"]["activation"];
  EXPECT_EQ(curves["measure"], "l2_mean");
  EXPECT_EQ(curves["steps"], Json({0, 2, 4, 6}));
  const double third = 10.0 / 9 / 3;  // of the first 90 % of 6 steps
  EXPECT_EQ(curves["alpha"][0], 0.0);
  EXPECT_NEAR(curves["alpha"][1].get<double>(), third * third, 1e-12);
  EXPECT_EQ(curves["alpha"][3], 1.0);
  ASSERT_EQ(curves["layers"].size(), 2u);
  for (const Json& layer : curves["layers"]) {
    ASSERT_EQ(layer.size(), 4u);
    EXPECT_GT(layer[0].get<double>(), 1e-3);  // SiLU
    EXPECT_LE(layer[3].get<double>(), 1e-5);  // the identity
  }
  EXPECT_FALSE(rows[1].contains("error_curves"));
}

/// The curve is of the training: where it would be another one, so is the training.
TEST_F(RunTest, TheErrorThatATrainingFollowedIsTheOneOfItsReport) {
  write_recipe();
  const auto run_with = [&](const std::string& set) {
    succeed({"run", "r.toml"}, {"train.eval_error=true", set});
    return core::read_json(folder_ / "out/report.json");
  };
  succeed({"run", "r.toml"}, {"train.eval_error=true"});
  EXPECT_EQ(stages("train").size(), 1u);
  const Json measure = run_with("decompose.error=l1_mean");  // all measures were followed
  EXPECT_EQ(stages("train").size(), 1u);
  EXPECT_EQ(measure["rows"][0]["error_curves"]["activation"]["measure"], "l1_mean");
  EXPECT_EQ(measure["provenance"]["approximation error"], "l1_mean");
  const Json curves = run_with("decompose.approximations=['ratio']")["rows"][0]["error_curves"];
  EXPECT_EQ(stages("train").size(), 2u);
  EXPECT_TRUE(curves.contains("ratio"));
  EXPECT_FALSE(curves.contains("activation"));
  run_with("decompose.bias=separate");
  run_with("decompose.dtype=float64");
  EXPECT_EQ(stages("train").size(), 4u);
}

/// The last evaluation of the training is of the model that is evaluated afterwards.
TEST_F(RunTest, TheReportHasCurvesOfTheCopies) {
  write_recipe();
  succeed({"run", "r.toml"}, {"train.steps=60", "train.lr=0.01", "train.eval_every=20"});
  const Json row = core::read_json(folder_ / "out/report.json")["rows"][0];
  for (const auto& [curve, value] :
       {std::pair{"character accuracy", "character_accuracy"}, {"string accuracy", "string_accuracy"}}) {
    EXPECT_EQ(row["curves"][curve]["x"], Json({0, 20, 40, 60})) << curve;
    EXPECT_EQ(row["curves"][curve]["y"][3], row["values"][value]) << curve;
  }
  EXPECT_EQ(row["curves"]["validation accuracy"]["x"], Json({0, 20, 40, 60}));
  EXPECT_GT(row["values"]["character_accuracy"].get<double>(), 0);  // or equal numbers would say little
}

TEST_F(RunTest, ATrainingNamesItsLastAndItsBestCheckpoint) {
  write_recipe();
  const std::vector<std::string> sets = {"train.best_measure=validation_accuracy"};
  const Json result = Json::parse(succeed({"train", "r.toml", "--json"}, sets))[0]["result"];
  const fs::path stage = folder_ / "out/stages" / *stages("train").begin();
  EXPECT_EQ(folder_ / result["checkpoint"].get<std::string>(), stage / "checkpoints/step-00000006");
  const Json& best = result["best"];
  EXPECT_EQ(best["measure"], "validation_accuracy");
  EXPECT_TRUE(fs::is_regular_file(folder_ / best["checkpoint"].get<std::string>() / "model.safetensors"));
  double highest = -1;
  int64_t step = -1;
  for (const Json& line : core::read_metrics(stage / "metrics.jsonl")) {
    if (line["kind"] != "evaluation" || line["validation_accuracy"] <= highest) continue;
    highest = line["validation_accuracy"];
    step = line["step"];
  }
  EXPECT_EQ(best["value"], highest);
  EXPECT_EQ(best["step"], step);
  const std::string text = succeed({"train", "r.toml"}, sets);
  EXPECT_CONTAINS(text, result["checkpoint"].get<std::string>() + "\n");
  EXPECT_CONTAINS(text, "best validation_accuracy, ");
}

TEST_F(RunTest, TheBestCheckpointMayBeTheResult) {
  write_recipe();
  const std::vector<std::string> sets = {"train.result=best", "train.lr=5", "train.warmup_steps=0",
                                         "train.eval_every=2", "train.patience=2"};
  const Json result = Json::parse(succeed({"train", "r.toml", "--json"}, sets))[0]["result"];
  const Json& best = result["best"];
  EXPECT_LT(best["step"], 4) << "the test needs a training that makes the model worse";
  EXPECT_EQ(result["checkpoint"], best["checkpoint"]);
  const Json measures = Json::parse(succeed({"evaluate", "r.toml", "--json"}, sets))[0]["result"];
  EXPECT_NEAR(measures["loss"], best["value"], 1e-5);  // in batches of another size
}

/// With a learning rate of 0 a run ends with the weights that it starts from.
TEST_F(RunTest, ARunContinuesAnotherOfItsRecipe) {
  write_recipe(
      "[sweep]\nmodel.conv_activation = [\"silu\"]\n"
      "[[extra]]\nlabel = \"as it is\"\nrun.continues = \"silu\"\nrun.seed = 2\ntrain.lr = 0.0\n"
      "[[extra]]\nlabel = \"identity\"\nrun.continues = \"as it is\"\nmodel.conv_activation = \"identity\"\n"
      "train.annealing = \"power\"\n");
  const Strings fewer = {"data.max_valid_rows=3"};  // while training; of 20
  const Json runs = json_of({"train", "r.toml"}, fewer);
  const auto weights = [&](size_t run) {
    const fs::path folder = folder_ / runs[run]["result"]["checkpoint"].get<std::string>();
    return testing::content_of(folder / "model.safetensors");
  };
  EXPECT_EQ(weights(0), weights(1));
  EXPECT_NE(weights(1), weights(2));
  const std::set<std::string> trainings = stages("train");
  EXPECT_EQ(trainings.size(), 3u);
  succeed({"run", "r.toml"}, fewer);
  EXPECT_EQ(stages("train"), trainings);
  // The perplexity before is of the same rows and dtype as the one after.
  const Json reported = core::read_json(folder_ / "out/report.json")["rows"];
  EXPECT_FALSE(reported[0]["values"].contains("perplexity_before"));
  const auto value = [&](size_t run, const std::string& key) { return reported[run]["values"].at(key); };
  EXPECT_EQ(value(1, "perplexity_before"), value(1, "perplexity"));
  EXPECT_EQ(value(2, "perplexity_before"), value(0, "perplexity"));  // of the same seed: the same texts
  // A base that is not evaluated is trained: what continues it is finished.
  const fs::path checkpoint = runs[0]["result"]["checkpoint"].get<std::string>();
  for (const std::string& name : stages("evaluate")) {
    const fs::path record = folder_ / "out/stages" / name / "stage.json";
    if (core::read_json(record)["inputs"]["train"] ==
        checkpoint.parent_path().parent_path().filename().string())
      fs::remove(record);
  }
  const Json rows = json_of({"report", "r.toml"}, fewer)["rows"];
  EXPECT_EQ(rows[0]["state"], "unfinished");
  EXPECT_FALSE(rows[1].contains("state") || rows[2].contains("state"));
  // Another base is another training of all that follow it.
  succeed({"train", "r.toml"}, {"train.beta1=0.8"});
  EXPECT_EQ(stages("train").size(), 6u);
}

TEST_F(RunTest, TheFolderOfARunStandsForItsResult) {
  write_recipe();
  succeed({"train", "r.toml"});
  const std::string stage = "out/stages/" + *stages("train").begin(),
                    checkpoint = stage + "/checkpoints/step-00000006";
  const auto written = [this](Strings command, const std::string& model, const std::string& file) {
    std::replace(command.begin(), command.end(), std::string("MODEL"), model);
    const ProgramOutcome outcome = program(command);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    const bool said = outcome.err.find("/checkpoints/step-00000006\n") != std::string::npos;
    EXPECT_EQ(said, model.find("step-") == std::string::npos) << outcome.err;
    const std::string content = file.empty() ? outcome.out : testing::content_of(folder_ / file);
    for (const char* output : {"o", "published"}) fs::remove_all(folder_ / output);
    return content;
  };
  for (const auto& [command, file] : std::vector<std::pair<Strings, std::string>>{
           {{"generate", "MODEL", "--ids", "1"}, ""},
           {{"forward", "MODEL", "--ids", "1", "--output", "o"}, "o"},
           {{"decompose", "MODEL", "--ids", "1,2", "--output", "o"}, "o"},
           {{"inspect", "MODEL"}, ""},
           {{"convert", "MODEL", "--output", "published"}, "published/README.md"},
           {{"evaluate", "r.toml", "--model", "MODEL", "--json"}, ""}}) {
    const std::string expected = written(command, checkpoint, file);
    EXPECT_FALSE(expected.empty());
    for (const std::string& folder : {std::string("out"), stage})
      EXPECT_EQ(written(command, folder, file), expected) << command[0];
  }
  for (const std::string& folder : {std::string("out"), stage}) {
    testing::put_file(folder_ / "continued.toml", "model.from = \"" + folder + "\"\n");
    const ProgramOutcome outcome = program({"validate", "continued.toml"});
    EXPECT_EQ(outcome.code, 3);
    EXPECT_CONTAINS(outcome.err,
                    "model.from: " + folder + ": is no model itself; name a checkpoint of it: " + checkpoint);
  }
  EXPECT_CONTAINS(
      program({"forward", "out", "--ids", "1", "--output", stage + "/checkpoints/step-00000009"}).err,
      "lies in, the folder of a training, ");
  fs::remove(folder_ / stage / "stage.json");  // as if it were not finished
  const ProgramOutcome unfinished = program({"convert", "out", "--output", "published"});
  EXPECT_CONTAINS(unfinished.err, "is not finished; its last checkpoint is used\n");
  EXPECT_CONTAINS(testing::content_of(folder_ / "published/README.md"),
                  "Weights after update 6 of a training that is not finished.\n");
}

TEST_F(RunTest, OfManyTrainingsSomeAreNamedWithTheirLabels) {
  write_recipe("[sweep]\nrun.seed = [1, 2, 3, 4, 5, 6, 7]\n");
  for (const Json& run : json_of({"train", "r.toml"}, {"train.steps=1"})) {
    const fs::path checkpoint = run["result"]["checkpoint"].get<std::string>();
    if (run["label"] == "seed=7") fs::remove(folder_ / checkpoint / "../../stage.json");
  }
  put_file(folder_ / "continued.toml", "model.from = \"out\"\n");
  const auto expect_list = [this](const Strings& command, int code, const std::string& beginning) {
    const ProgramOutcome outcome = program(command);
    EXPECT_EQ(outcome.code, code) << outcome.err;
    EXPECT_CONTAINS(outcome.err, beginning + "out/stages/train-");
    EXPECT_CONTAINS(outcome.err, " ('seed=7', not finished), out/stages/train-");
    EXPECT_CONTAINS(outcome.err, " ('seed=6'), out/stages/train-");
    EXPECT_CONTAINS(outcome.err, " ('seed=4') and 3 more\n");
  };
  expect_list({"generate", "out", "--ids", "1"}, 3,
              "error: out: holds several trainings; give the folder of one, the newest first: ");
  expect_list({"validate", "continued.toml"}, 3,
              "error: continued.toml:1:14: model.from: out: is no model itself; name a checkpoint of it: ");
}

TEST_F(RunTest, OfARunWithoutACheckpointItIsSaid) {
  write_recipe();
  succeed({"train", "r.toml"});
  const std::string training = stage("train").string();
  fs::remove(folder_ / training / "stage.json");
  fs::remove_all(folder_ / training / "checkpoints");
  for (const std::string& folder : {std::string("out"), training, training + "/"}) {
    const std::string message =
        folder + ": there is no checkpoint yet; run its recipe again, which continues the training\n";
    EXPECT_EQ(program({"inspect", folder}).err, "exactmamba: error: " + message);
    put_file(folder_ / "continued.toml", "model.from = \"" + folder + "\"\n");
    EXPECT_EQ(program({"validate", "continued.toml"}).err,
              "exactmamba: error: continued.toml:1:14: model.from: " + message);
  }
  fs::remove_all(folder_ / "out/stages");
  EXPECT_CONTAINS(program({"inspect", "out"}).err, "and no run with a training in it");
}

TEST_F(RunTest, TextForAModelOfTheCopyTaskIsOfItsLetters) {
  write_recipe();
  succeed({"train", "r.toml"});
  const Strings generate = {"generate", "out", "--json", "--text", "$ab|", "--tokenizer", "copy"};
  const Strings without(generate.begin(), generate.end() - 2);
  EXPECT_EQ(succeed(without), succeed(generate));
  fs::remove(folder_ / stage("train") / "stage.json");  // as if it were not finished
  EXPECT_EQ(succeed(without), succeed(generate));
}

TEST_F(RunTest, ADivergedRunNeverLooksFinished) {
  write_recipe();
  const std::vector<std::string> run = {"run",   "r.toml",
                                        "--set", "train.lr=10",
                                        "--set", "train.max_grad_norm=0",
                                        "--set", "train.weight_decay=10",
                                        "--set", "train.max_bad_steps=1"};
  for (int attempt = 0; attempt < 3; ++attempt) {
    const ProgramOutcome outcome = program(run, {"train.steps=60"});
    EXPECT_EQ(outcome.code, 4) << outcome.err;
    EXPECT_FALSE(fs::exists(folder_ / "out/stages" / *stages("train").begin() / "stage.json"));
  }
}

TEST_F(RunTest, ADivergedRunOfASweepDoesNotBlockTheOthers) {
  write_recipe("[sweep]\ntrain.lr = [10, 0.001]\n");
  const ProgramOutcome outcome =
      program({"run", "r.toml"},
              {"train.steps=60", "train.max_grad_norm=0", "train.weight_decay=10", "train.max_bad_steps=1"});
  EXPECT_EQ(outcome.code, 4);
  EXPECT_CONTAINS(outcome.err, "exactmamba: error: 'lr=10': loss or gradient was not finite");
  EXPECT_CONTAINS(outcome.err,
                  "Lower train.lr = 10 or set train.max_grad_norm, which is 0 and clips nothing");
  EXPECT_CONTAINS(outcome.out, "lr=0.001");
  const Json report = core::read_json(folder_ / "out/report.json");
  EXPECT_EQ(report["rows"].size(), 1u);
  EXPECT_EQ(report["provenance"]["diverged runs, not shown"], "'lr=10'");

  for (const std::string command : {"report", "evaluate", "decompose"}) {
    const ProgramOutcome later = program(
        {command, "r.toml"},
        {"train.steps=60", "train.max_grad_norm=0", "train.weight_decay=10", "train.max_bad_steps=1"});
    EXPECT_EQ(later.code, 4);
    EXPECT_CONTAINS(later.err, outcome.err.substr(outcome.err.find("exactmamba: error: ")));
    EXPECT_CONTAINS(later.out, "lr=0.001");
  }
  EXPECT_EQ(core::read_json(folder_ / "out/report.json"), report);
}

TEST_F(RunTest, TooFewRowsForABatchAreFoundBeforeTheFirstRunBegins) {
  put_file(folder_ / "a.txt", "a text of thirty-two characters.");
  put_file(folder_ / "r.toml",
           "run.output = \"out\"\ntrain.steps = 1\ndata.task = \"text\"\ndata.train = [\"a.txt\"]\n"
           "data.context = 8\nmodel.d_model = 16\nmodel.headdim = 8\n"
           "[sweep]\ntrain.batch_size = [2, 8]\n");
  const auto refusal = [this](const Strings& arguments, const Strings& sets) {
    const ProgramOutcome outcome = program(arguments, sets);
    EXPECT_EQ(outcome.code, 1);
    EXPECT_FALSE(fs::exists(folder_ / "out"));
    return outcome.err;
  };
  const std::string advice =
      "; make the batch or the context smaller, or give more data [train.batch_size = ";
  EXPECT_EQ(
      refusal({"train", "r.toml"}, {}),
      "exactmamba: error: r.toml:9:24: train.batch_size: 'batch_size=8' is trained with 8 rows at a time, "
      "and a.txt gives 4" +
          advice +
          "8 (r.toml:9:24), data.context = 8 (r.toml:5:16), data.train = [\"a.txt\"] (r.toml:4:14)]\n");
  const Strings run = {"run", "r.toml"}, two = {"train", "r.toml", "--processes", "2"};
  EXPECT_CONTAINS(
      refusal(run, {"data.context=32", "data.valid=[\"a.txt\"]"}),
      "error: --set data.context=32: data.context: 'batch_size=2' is trained with 2 rows at a time, "
      "and a.txt gives one" +
          advice);
  EXPECT_CONTAINS(
      refusal(two, {"data.context=16"}),
      "'batch_size=2' is trained with 2 rows at a time in each of 2 processes, and a.txt gives 2" + advice);
}

TEST_F(RunTest, FaultsOfAllRunsAreSaidTogetherWithTheirPlaces) {
  write_recipe(
      "[[extra]]\nlabel = \"deep\"\nrun.continues = \"base\"\nmodel.n_layer = 3\nmodel.d_state = 4\n"
      "[[extra]]\nlabel = \"wide\"\nrun.continues = \"base\"\nmodel.d_model = 32\n");
  for (const std::string command : {"validate", "run"}) {
    const ProgramOutcome outcome = program({command, "r.toml"});
    EXPECT_EQ(outcome.code, 1);
    const std::string rest = "' has other sizes in [model] than 'base', whose weights it takes: ";
    EXPECT_CONTAINS(outcome.err, "error: r.toml:24:17: run.continues: 'deep" + rest);
    EXPECT_CONTAINS(outcome.err, " 4 instead of 8");
    EXPECT_CONTAINS(outcome.err, " 3 instead of 2");
    EXPECT_CONTAINS(outcome.err, "error: r.toml:29:17: run.continues: 'wide" + rest);
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 2) << outcome.err;
  }
}

TEST_F(RunTest, FaultsInTheDataOfAllRunsAreSaidTogether) {
  for (const std::string name : {"a", "b"})
    put_file(folder_ / (name + ".jsonl"), "{\"text\": \"some text\"}\n{\"text\": \"more\"}\n{\"text\": 1}\n");
  put_file(folder_ / "r.toml",
           "run.output = \"out\"\ntrain.steps = 1\ndata.task = \"text\"\ndata.train = [\"a.jsonl\"]\n"
           "model.d_model = 16\nmodel.headdim = 8\n[sweep]\nrun.seed = [1, 2]\n"
           "data.train = [[\"a.jsonl\"], [\"b.jsonl\"]]\n");
  const std::string err = program({"train", "r.toml"}).err;
  EXPECT_CONTAINS(err, "error: r.toml:9:15: data.train: a.jsonl:3: the value of 'text'");
  EXPECT_CONTAINS(err, "error: r.toml:9:28: data.train: b.jsonl:3: the value of 'text'");
  EXPECT_EQ(std::count(err.begin(), err.end(), '\n'), 2) << err;
}

TEST_F(RunTest, AFaultFarWithinTheDataIsPlacedInTheRecipe) {
  std::string lines;
  for (int i = 0; i < 50; ++i) lines += "{\"text\": \"some text\"}\n";
  put_file(folder_ / "a.jsonl", lines);
  put_file(folder_ / "b.jsonl", lines + "{\"text\": 1}\n");
  put_file(folder_ / "r.toml",
           "run.output = \"out\"\ntrain.steps = 1\ndata.task = \"text\"\ndata.train = [\"a.jsonl\"]\n"
           "data.valid = [\"b.jsonl\"]\nmodel.d_model = 16\nmodel.headdim = 8\n");
  EXPECT_CONTAINS(program({"train", "r.toml"}).err,
                  "error: r.toml:5:14: data.valid: b.jsonl:51: the value of 'text'");
  EXPECT_CONTAINS(program({"train", "r.toml"}, {"data.train=[\"b.jsonl\"]"}).err,
                  "error: --set data.train=[\"b.jsonl\"]: data.train: b.jsonl:51: the value of 'text'");
}

TEST_F(RunTest, TrainsOnWhatTokenizeWrites) {
  put_file(folder_ / "a.txt", "a text of some length, and so on\nand another line\n");
  put_file(folder_ / "ids.jsonl", succeed({"tokenize", "byte", "a.txt"}));
  put_file(folder_ / "other.jsonl", "{\"tokens\": [1, 2]}\n");
  write_one_step(
      "data.task = \"tokens\"\ndata.vocab_size = 257\ndata.train = [\"ids.jsonl\"]\ndata.context = 64\n");
  succeed({"train", "r.toml"});
  const ProgramOutcome refused = program({"train", "r.toml"}, {"data.train=[\"other.jsonl\"]"});
  EXPECT_EQ(refused.code, 1);
  EXPECT_CONTAINS(refused.err,
                  "data.train: other.jsonl:1: there is no key 'input_ids' or 'ids' but 'tokens'");
}

TEST_F(RunTest, ValidateFindsTheTokenIdsThatTrainRefuses) {
  put_file(folder_ / "good.jsonl", "{\"ids\": [1, 2, 3]}\n");
  put_file(folder_ / "long.jsonl", "{\"ids\": [1, 2, 3]}\n{\"ids\": [1, 2, 3, 4, 5]}\n");
  put_file(folder_ / "large.jsonl", "{\"ids\": [1, 2, 3]}\n{\"ids\": [1, 300]}\n");
  put_file(folder_ / "blank.jsonl", "\n");
  write_one_step(
      "data.task = \"tokens\"\ndata.vocab_size = 257\ndata.train = [\"good.jsonl\"]\ndata.context = 4\n");
  const auto expect_refusal = [this](const Strings& sets, const std::string& what) {
    for (const std::string command : {"validate", "train"}) {
      const ProgramOutcome outcome = program({command, "r.toml"}, sets);
      EXPECT_EQ(outcome.code, 1) << outcome.out;
      EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
      EXPECT_CONTAINS(outcome.err, what);
      EXPECT_FALSE(fs::exists(folder_ / "out"));
    }
  };
  succeed({"validate", "r.toml"});
  const std::string large = "large.jsonl:2: 'ids'[1] is 300, outside data.vocab_size = 257 [data.";
  expect_refusal({"data.train=[\"large.jsonl\"]"},
                 "error: --set data.train=[\"large.jsonl\"]: data.train: " + large + "train = ");
  expect_refusal({"data.valid=[\"large.jsonl\"]"},
                 "error: --set data.valid=[\"large.jsonl\"]: data.valid: " + large + "valid = ");
  expect_refusal({"data.train=[\"long.jsonl\"]"},
                 "long.jsonl:2: 5 tokens do not fit into data.context = 4; raise it [");
  expect_refusal({"data.context=2"}, "error: --set data.context=2: data.context: good.jsonl:1: 3 tokens do");
  expect_refusal({"data.train=[\"good.jsonl\", \"blank.jsonl\"]", "data.weights=[1, 1]"},
                 "data.train: there is no example in blank.jsonl [");
}

TEST_F(RunTest, ValidateFindsATokenizerWithoutAnEndOfDocument) {
  put_file(folder_ / "a.txt", "a text of some length, and so on");
  succeed({"train-tokenizer", "a.txt", "--vocab-size", "260", "--output", "t.json"});
  put_file(folder_ / "r.toml",
           "run.output = \"out\"\ndata.task = \"text\"\ndata.train = [\"a.txt\"]\n"
           "data.tokenizer = \"t.json\"\n");
  const ProgramOutcome refused = program({"validate", "r.toml"});
  EXPECT_EQ(refused.code, 1);
  EXPECT_CONTAINS(refused.err, "error: r.toml:4:18: data.tokenizer: the tokenizer has no end of document: ");
  EXPECT_EQ(std::count(refused.err.begin(), refused.err.end(), '\n'), 1) << refused.err;
}

TEST_F(RunTest, WhatContinuesADivergedRunDoesNotBlockTheOthersEither) {
  write_recipe(
      "[sweep]\ntrain.lr = [10, 0.001]\n[[extra]]\nlabel = \"more\"\nrun.continues = \"lr=10\"\ntrain.lr = "
      "0.001\n");
  const std::vector<std::string> sets = {"train.steps=60", "train.max_grad_norm=0", "train.weight_decay=10",
                                         "train.max_bad_steps=1"};
  for (const std::string command : {"run", "report"}) {
    const ProgramOutcome outcome = program({command, "r.toml"}, sets);
    EXPECT_EQ(outcome.code, 4);
    EXPECT_CONTAINS(outcome.err, "'more': it continues 'lr=10', which diverged");
    EXPECT_EQ(core::read_json(folder_ / "out/report.json")["rows"].size(), 1u);
  }
}

TEST_F(RunTest, WhatContinuesOtherWeightsIsTrainedAnew) {
  write_recipe("[sweep]\ntrain.lr = [0.001]\n[[extra]]\nlabel = \"more\"\nrun.continues = \"lr=0.001\"\n");
  const auto trained = [this](const std::string& processes) {
    const Json result = json_of({"train", "r.toml", "--processes", processes});
    EXPECT_EQ(result[1]["label"], "more");
    return std::pair(fs::path(result[0]["result"]["checkpoint"]),
                     fs::path(result[1]["result"]["checkpoint"]));
  };
  const auto [base, continued] = trained("1");
  EXPECT_EQ(trained("1"), std::pair(base, continued));
  EXPECT_EQ(stages("train").size(), 2u);
  fs::remove_all(folder_ / base.parent_path().parent_path());
  const auto [other_base, other_continued] = trained("2");  // of the same name, with larger batches
  EXPECT_EQ(other_base, base);
  EXPECT_NE(other_continued, continued);
  EXPECT_EQ(stages("train").size(), 3u);
}

TEST_F(RunTest, ReportsARunWhoseDecompositionOverflowedAsWhatItIs) {
  const TemporaryFolder model;
  fs::copy(testing::golden("models/mamba2-hf"), model.path());
  core::NamedTensors weights = testing::weights_of(model.path());
  for (auto& [name, values] : weights)  // finite in float64, in which it is trained
    if (name == "backbone.layers.0.mixer.out_proj.weight") values.fill_(1e38);
  core::write_safetensors(model / "model.safetensors", weights);
  testing::put_file(
      folder_ / "r.toml",
      "model.from = \"" + model.path().string() +
          "\"\nrun.output = \"out\"\ntrain.lr = 0\ntrain.dtype = \"float64\"\ntrain.steps = 1\n");
  const ProgramOutcome run = program({"run", "r.toml"});
  EXPECT_EQ(run.code, 4);
  EXPECT_CONTAINS(run.err, "row 0, layer 0: ");
  const ProgramOutcome report = program({"report", "r.toml"});
  EXPECT_EQ(report.code, 4);
  EXPECT_EQ(report.err, run.err.substr(run.err.find("exactmamba: error: ")));
}

TEST_F(RunTest, DoesNotReplaceTheReportOfANewerProgram) {
  write_recipe();
  succeed({"run", "r.toml"});
  const std::string newer = R"({"format_version": 1000, "plots": []})";
  testing::put_file(folder_ / "out/report.json", newer);
  for (const std::string command : {"run", "report"}) {
    const ProgramOutcome refused = program({command, "r.toml"});
    EXPECT_EQ(refused.code, 1);
    EXPECT_CONTAINS(refused.err, "out/report.json: has format_version 1000, but this program writes 1");
  }
  EXPECT_EQ(testing::content_of(folder_ / "out/report.json"), newer);
}

TEST_F(RunTest, TwoProcessesDoNotShareAStage) {
  write_recipe();
  const std::vector<std::string> run = {"train", "r.toml", "--set", "train.steps=100000"};
  const TemporaryFolder streams;
  const pid_t first = testing::start_program(run, {.folder = folder_.path()}, streams);
  wait_for(first, [&] { return training_has("metrics.jsonl"); });
  const ProgramOutcome second = program(run);
  EXPECT_EQ(second.code, 3);
  EXPECT_CONTAINS(second.err, "another exactmamba works on this stage: out/stages/train-");
  ::kill(first, SIGTERM);
  EXPECT_EQ(testing::finish_program(first, streams).code, 143);
}

TEST_F(RunTest, WorkThatKeepsNothingEndsWithTheSignal) {
  const std::string pipe = (folder_ / "pipe").string();
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  for (const auto& [signal, found] : {std::pair{SIGINT, SIG_DFL},
                                      {SIGTERM, SIG_DFL},
                                      {SIGINT, SIG_IGN}}) {  // as a shell starts what ends with &
    const TemporaryFolder streams;
    const int writer = ::open(pipe.c_str(), O_RDWR | O_CLOEXEC);
    ASSERT_EQ(::write(writer, "#", 1), 1);
    const auto before = ::signal(signal, found);
    const pid_t child = testing::start_program({"validate", "-"}, {.stdin_file = pipe}, streams);
    ::signal(signal, before);
    wait_for(child, [writer] {  // until it has read the one sign
      int waiting = 0;
      return ::ioctl(writer, FIONREAD, &waiting) == 0 && waiting == 0;
    });
    ::kill(child, signal);
    ::close(writer);  // the end of the recipe, for one that has ignored it
    EXPECT_EQ(testing::finish_program(child, streams).code, -signal);
  }
}

TEST_F(RunTest, DoesNotReplaceARecipeThatWasChangedInTheOutput) {
  write_recipe();
  succeed({"train", "r.toml"});
  write_recipe("[report]\ntitle = \"new\"\n");
  succeed({"train", "r.toml"});  // another recipe, and the copy is as the first run left it
  std::ofstream(folder_ / "out/recipe.toml", std::ios::app) << "# a thought\n";
  const std::string changed = testing::content_of(folder_ / "out/recipe.toml");
  const ProgramOutcome refused = program({"train", "r.toml"});
  EXPECT_EQ(refused.code, 3);
  EXPECT_CONTAINS(refused.err, "out/recipe.toml: was changed");
  EXPECT_EQ(testing::content_of(folder_ / "out/recipe.toml"), changed);
  succeed({"train", "out/recipe.toml"});
  succeed({"train", "r.toml", "--overwrite"});
}

/// The id of a process that is gone.
pid_t dead_process() {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(0);
  ::waitpid(child, nullptr, 0);
  return child;
}

TEST_F(RunTest, GoesOnWhereItWasKilledBeforeItsRecordWasWhole) {
  write_recipe();
  fs::create_directory(folder_ / "out");
  const fs::path leftover = folder_ / fmt::format("out/.run.json.tmp-{}", dead_process());
  testing::put_file(leftover, "{");
  succeed({"train", "r.toml"});
  EXPECT_FALSE(fs::exists(leftover));
}

TEST_F(RunTest, GoesOnWhereItWasKilledBeforeTheCopyOfItsRecipe) {
  write_recipe();
  succeed({"train", "r.toml"});
  const std::string earlier = testing::content_of(folder_ / "out/recipe.toml");
  write_recipe("[report]\ntitle = \"new\"\n");
  succeed({"train", "r.toml"});
  testing::put_file(folder_ / "out/recipe.toml", earlier);  // run.json is already of the new one
  succeed({"train", "r.toml"});
  EXPECT_EQ(testing::content_of(folder_ / "out/recipe.toml"), testing::content_of(folder_ / "r.toml"));
}

TEST_F(RunTest, ReadsARecipeFromStdin) {
  const ProgramOutcome outcome =
      run_program({"validate", "-", "--json"}, {.folder = folder_.path(), .input = kTinyRecipe});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const Json result = Json::parse(outcome.out);
  EXPECT_EQ(result["options"]["train.steps"]["value"], 6);
  EXPECT_EQ(result["options"]["train.steps"]["origin"], "stdin:15:9");
  EXPECT_EQ(result["options"]["train.lr"]["origin"], "default");
}

TEST_F(RunTest, ValidateShowsWhatRunsWillNeed) {
  write_recipe("[sweep]\nmodel.d_model = [16, 32]\n");
  const Json result = Json::parse(succeed({"validate", "r.toml", "--json"}));
  ASSERT_EQ(result["runs"].size(), 2u);
  EXPECT_EQ(result["runs"][0]["vocabulary"], 30);  // 26 letters and 4 signs
  EXPECT_EQ(result["runs"][0]["steps"], 6);
  EXPECT_EQ(result["runs"][0]["tokens"], 6 * 2 * 24);
  // Mamba-2, d 16, D 32, N 8, H 4, 32 rows: embedding, norm_f and two blocks of in_proj, conv, dt, A, D,
  // norms and out_proj.
  const int64_t block = 16 + (32 + 32 + 16 + 4) * 16 + (32 + 16) * 5 + 3 * 4 + 32 + 16 * 32;
  EXPECT_EQ(result["runs"][0]["parameters"], 32 * 16 + 16 + 2 * block);
  EXPECT_EQ(result["runs"][1]["swept"], Json({{"model.d_model", 32}}));
  EXPECT_EQ(result["runs"][1]["model"]["d_model"], 32);
  const std::string text = succeed({"validate", "r.toml"});
  EXPECT_CONTAINS(text, "train.steps = 6");
  EXPECT_CONTAINS(text, "d_model=32 (model.d_model = 32): mamba2 with ");
}

TEST_F(RunTest, ValidateRefusesTextOfWhichNothingIsLeft) {
  put_file(folder_ / "a.jsonl", "{\"text\": \"some\"}\n{\"text\": \"text\"}\n{\"text\": \"äöü\"}\n");
  put_file(folder_ / "b.jsonl", "{\"text\": \"longer\"}\n");
  put_file(folder_ / "other.jsonl", "{\"body\": \"some\"}\n");
  put_file(folder_ / "empty.jsonl", "{\"text\": \"\"}\n");
  put_file(folder_ / "r.toml",
           "run.output = \"out\"\ntrain.steps = 1\ndata.task = \"text\"\ndata.train = [\"a.jsonl\"]\n"
           "data.min_characters = 4\n");
  const auto expect_refusal = [this](const Strings& sets, const std::string& place, const std::string& what,
                                     const std::string& values = "") {
    const ProgramOutcome outcome = program({"validate", "r.toml"}, sets);
    EXPECT_EQ(outcome.code, 1) << outcome.out;
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    EXPECT_CONTAINS(outcome.err, place + what);
    EXPECT_CONTAINS(outcome.err, values);
    const ProgramOutcome trained = program({"train", "r.toml"}, sets);
    EXPECT_EQ(trained.code, 1);
    EXPECT_CONTAINS(trained.err, place + what);
    EXPECT_CONTAINS(trained.err, values);
    EXPECT_FALSE(fs::exists(folder_ / "out"));
  };
  succeed({"validate", "r.toml"});
  succeed({"validate", "r.toml"}, {"data.train=[\"a.jsonl\", \"b.jsonl\"]", "data.min_characters=6"});
  expect_refusal({"data.min_characters=5"}, "error: --set data.min_characters=5: data.min_characters: ",
                 "there is no text in a.jsonl: left out are 3 of other lengths (data.min_characters = 5, "
                 "data.max_characters = 0)",
                 " [data.train = [\"a.jsonl\"] (r.toml:4:14), data.min_characters = 5 (");
  expect_refusal({"data.train=[\"a.jsonl\", \"b.jsonl\"]", "data.min_characters=6", "data.weights=[1, 1]"},
                 "data.train: ", "there is no text in a.jsonl: left out are 3 of other lengths (",
                 "data.weights = [1.0, 1.0] (--set");
  expect_refusal({"data.valid=[\"empty.jsonl\"]"}, "error: --set data.valid=[\"empty.jsonl\"]: data.valid: ",
                 "there is no text in empty.jsonl: left out are 1 empty");
  expect_refusal({"data.text_key=body"}, "data.text_key: ", "a.jsonl:1: there is no key 'body' but 'text'");
  expect_refusal({"data.text_key=body", "data.on_bad_record=skip"}, "data.text_key: ",
                 "there is no text in a.jsonl: left out are 3 bad, the first: a.jsonl:1: there is no key "
                 "'body' but 'text'",
                 "data.on_bad_record = \"skip\" (--set");
  expect_refusal({"data.train=[\"a.jsonl\", \"other.jsonl\"]"},
                 "data.train: ", "other.jsonl:1: there is no key 'text' but 'body'");
  const Strings bpe = {"data.min_characters=7", "data.tokenizer=bpe", "data.vocab_size=300"};
  const ProgramOutcome made = program({"train", "r.toml"}, bpe);
  EXPECT_EQ(made.code, 1);
  EXPECT_CONTAINS(
      made.err,
      "error: --set data.min_characters=7: data.min_characters: there is no text in a.jsonl: left "
      "out are 3 of other lengths (data.min");
  for (const auto& entry : fs::recursive_directory_iterator(folder_ / "out"))
    EXPECT_NE(entry.path().filename(), "tokenizer.json");
}

TEST_F(RunTest, AnEmptyFileBesideOthersIsWarnedOf) {
  put_file(folder_ / "a.txt", "a text of some length");
  put_file(folder_ / "b.jsonl", "");
  put_file(folder_ / "a.tsv", "ein Satz\ta sentence\n");
  put_file(folder_ / "b.tsv", "");
  write_one_step("data.task = \"text\"\ndata.train = [\"a.txt\", \"b.jsonl\"]\ndata.context = 20\n",
                 "[sweep]\nrun.seed = [1, 2]\nmodel.d_state = [4, 8]\n");
  for (const std::string command : {"validate", "train"}) {
    const ProgramOutcome outcome = program({command, "r.toml", "--quiet"});
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_EQ(outcome.err, "warning: r.toml:5:14: data.train: there is nothing in b.jsonl\n");
  }
  const Strings pairs = {"data.task=translation", "data.train=[\"a.tsv\", \"b.tsv\"]", "data.context=32"};
  const std::string warning =
      "warning: --set data.train=[\"a.tsv\", \"b.tsv\"]: data.train: there is nothing in b.tsv\n";
  for (const Strings& command :
       {Strings{"validate"}, Strings{"train"}, Strings{"train", "--processes", "2"}}) {
    Strings all = command;
    all.insert(all.begin() + 1, {"r.toml", "--quiet"});
    const ProgramOutcome outcome = program(all, pairs);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_EQ(outcome.err, warning);
  }
  put_file(folder_ / "c.de", "ein Satz\n");
  put_file(folder_ / "c.en", "");
  for (const std::string command : {"validate", "train"}) {
    const ProgramOutcome outcome =
        program({command, "r.toml"}, {pairs[0], "data.train=[\"a.tsv\", \"c.{de,en}\"]", pairs[2]});
    EXPECT_EQ(outcome.code, 1);
    EXPECT_CONTAINS(outcome.err, "data.train: c.de has 1 sentences, but c.en has 0");
  }
}

TEST_F(RunTest, BesideFaultyDataNoFurtherTokenizerIsMade) {
  put_file(folder_ / "bad.jsonl", "{\"text\": \"some text\"}\n{\"text\": 1}\n");
  write_one_step(
      "data.task = \"text\"\ndata.train = [\"bad.jsonl\"]\ndata.context = 20\ndata.tokenizer = "
      "\"bpe\"\ndata.vocab_size = 260\n");
  const ProgramOutcome alone = program({"train", "r.toml"});
  EXPECT_EQ(alone.code, 1);
  EXPECT_CONTAINS(alone.err, "error: r.toml:5:14: data.train: bad.jsonl:2: ");
  put_file(folder_ / "good.txt", "a text of some length");
  std::ofstream(folder_ / "r.toml", std::ios::app) << "[sweep]\ndata.vocab_size = [260, 261]\n";
  const ProgramOutcome sweep = program({"train", "r.toml"}, {"data.valid=[\"good.txt\"]"});
  EXPECT_EQ(sweep.code, 1);
  EXPECT_EQ(sweep.err.find("making a tokenizer"), sweep.err.rfind("making a tokenizer"));
}

TEST_F(RunTest, FaultsOfAllRunsAreSaidByTrainAndValidate) {
  put_file(folder_ / "a.txt", "a text of some length");
  for (const std::string name : {"bad1.jsonl", "bad2.jsonl"}) put_file(folder_ / name, "{\"text\": 1}\n");
  write_one_step("data.task = \"text\"\ndata.train = [\"a.txt\"]\ndata.context = 8\n",
                 "[sweep]\ndata.valid = [[\"bad1.jsonl\"], [\"bad2.jsonl\"]]\n");
  for (const Strings& tokenizer : {Strings{}, Strings{"data.tokenizer=bpe", "data.vocab_size=260"}}) {
    for (const std::string command : {"validate", "train"}) {
      const ProgramOutcome outcome = program({command, "r.toml"}, tokenizer);
      EXPECT_EQ(outcome.code, 1);
      EXPECT_CONTAINS(outcome.err, "data.valid: bad1.jsonl:1: ");
      EXPECT_CONTAINS(outcome.err, "data.valid: bad2.jsonl:1: ");
    }
  }
}

TEST_F(RunTest, SetTakesKeysOutOfTheRecipe) {
  put_file(folder_ / "a.txt", "text");
  put_file(
      folder_ / "r.toml",
      "data.task = \"text\"\ndata.train = [\"a.txt\"]\ndata.tokenizer = \"bpe\"\ndata.vocab_size = 300\n");
  const Strings byte = {"data.tokenizer=byte", "data.vocab_size="};
  EXPECT_EQ(program({"validate", "r.toml"}, {byte[0]}).code, 1);
  const Json shown = json_of({"validate", "r.toml"}, byte);
  EXPECT_EQ(shown["runs"][0]["vocabulary"], 257);
  const Json vocab_size = {
      {"value", 0}, {"origin", "--set data.vocab_size="}, {"applies", false}, {"replaces", "r.toml:4:19"}};
  EXPECT_EQ(shown["options"]["data.vocab_size"], vocab_size);
  EXPECT_CONTAINS(succeed({"validate", "r.toml"}, byte),
                  "# default, by --set data.vocab_size=, replaces r.toml:4:19, has a meaning only");
  const std::string refused = program({"validate", "r.toml"}, {"data.train="}).err;
  EXPECT_CONTAINS(refused, "error: --set data.train=: ");
  EXPECT_CONTAINS(refused, "data.train = [] (default, by --set data.train=)");
}

TEST_F(RunTest, ValidateShowsWhatASweepReplaces) {
  write_recipe("[sweep]\nmodel.d_model = [16, 32]\n");
  const Json options = Json::parse(succeed({"validate", "r.toml", "--json"}))["options"];
  EXPECT_EQ(options["model.d_model"]["origin"], "r.toml:23:18");
  EXPECT_EQ(options["model.d_model"]["replaces"], "r.toml:10:11");
  EXPECT_FALSE(options["model.n_layer"].contains("replaces"));
  EXPECT_CONTAINS(succeed({"validate", "r.toml"}), "# r.toml:23:18, replaces r.toml:10:11\n");
}

TEST_F(RunTest, ValidateShowsTheSizesOfTheModelToContinueFrom) {
  const fs::path model = testing::golden("models/mamba1-hf");
  const Json config = core::read_json(model / "config.json");
  std::ofstream(folder_ / "r.toml") << "model.from = \"" << model.string() << "\"\n";
  const Json run = Json::parse(succeed({"validate", "r.toml", "--json"}))["runs"][0];
  EXPECT_EQ(run["swept"], Json::object());
  EXPECT_EQ(run["model"]["architecture"], "mamba1");
  for (const auto& [size, key] : {std::pair{"d_model", "hidden_size"}, {"n_layer", "num_hidden_layers"}})
    EXPECT_EQ(run["model"][size], config[key]) << size;
  EXPECT_CONTAINS(succeed({"validate", "r.toml"}), fmt::format("d_model {}", config["hidden_size"].dump()));
}

TEST_F(RunTest, ValidateSaysWhatThisMachineCannotDo) {
  write_recipe();
  const auto problem = [&](const std::vector<std::string>& sets) {
    std::vector<std::string> all = {"run.device=cpu"};
    all.insert(all.end(), sets.begin(), sets.end());
    const auto run = Json::parse(succeed({"validate", "r.toml", "--json"}, all))["runs"][0];
    const std::string text = run["problem_here"];
    EXPECT_EQ(succeed({"validate", "r.toml"}, all).find("    on this machine: " + text) != std::string::npos,
              !text.empty());
    return text;
  };
  EXPECT_EQ(problem({}), "");
  EXPECT_CONTAINS(problem({"train.compute_dtype=bfloat16"}), "train.compute_dtype is bfloat16, but a CPU");
  EXPECT_CONTAINS(problem({"train.batch_size=1000000", "data.context=1000000"}),
                  "of memory are needed to train in one process, ");
  EXPECT_EQ(problem({"train.batch_size=1000000", "data.context=1000000", "train.recompute=block"}), "");
}

TEST_F(RunTest, ListsTheProblemsOfABadSweepAndOfTheRest) {
  write_recipe(
      "[report]\ntitel = \"x\"\n[sweep]\nrun.seed = 1\ntrain.lr = [11]\ntrain.steps = [1]\n"
      "model.headdim = [8, \"many\"]\n");
  const ProgramOutcome outcome = program({"run", "r.toml"}, {"train.warmup_steps=9"});
  EXPECT_EQ(outcome.code, 1);
  for (const std::string part : {"r.toml:25:12: 'run.seed' in [sweep] takes a list of values, not an integer",
                                 "r.toml:23:1: unknown key 'report.titel'; did you mean 'report.title'?",
                                 "r.toml:26:13: 'train.lr' = 11 is out of range",
                                 "r.toml:28:21: 'model.headdim' takes an integer, not a string"})
    EXPECT_CONTAINS(outcome.err, part);
  EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 4) << outcome.err;
}

TEST_F(RunTest, AKeyOfOneArchitectureMayStandBesideASweepOverBoth) {
  write_recipe("[sweep]\nmodel.architecture = [\"mamba1\", \"mamba2\"]\n");  // beside headdim = 8
  const Json result = Json::parse(succeed({"validate", "r.toml", "--json"}, {"model.dt_rank=3"}));
  ASSERT_EQ(result["runs"].size(), 2u);
  // The listing is the first run's.
  EXPECT_EQ(result["options"]["model.dt_rank"]["applies"], true);
  EXPECT_EQ(result["options"]["model.headdim"]["applies"], false);
}

TEST_F(RunTest, QuietSaysNothingOnStderr) {
  write_recipe();
  const ProgramOutcome outcome = program({"run", "r.toml", "--quiet"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.err, "");
}

TEST(Reference, DocsAreCurrent) {
  const ProgramOutcome outcome = run_program({"validate", "--reference"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.out, testing::content_of(fs::path(EXACTMAMBA_SOURCE) / "docs/recipes.md"))
      << "run: exactmamba validate --reference > docs/recipes.md";
}

}  // namespace
}  // namespace exactmamba::cli
