// The commands that work on a model folder or on nothing, run as a user would, against golden outputs.
#include <cmath>
#include <filesystem>
#include <limits>
#include <map>
#include <regex>
#include <sys/stat.h>

#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include "core/files.h"
#include "core/json.h"
#include "core/safetensors.h"
#include "tests/support/program.h"
#include "tests/support/tensors.h"
#include "tests/support/weights.h"

namespace exactmamba::cli {
namespace {

namespace fs = std::filesystem;
using core::Json;
using core::SafetensorsFile;
using testing::golden;
using testing::ProgramOutcome;
using testing::run_program;
using testing::TemporaryFolder;
using testing::weights_of;

/// Runs the program and expects success; the result on stdout.
std::string result_of(const std::vector<std::string>& arguments,
                      const testing::ProgramSetting& setting = {}) {
  const ProgramOutcome outcome = run_program(arguments, setting);
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  return outcome.out;
}

std::string folder_of(const std::string& model) { return golden("models/" + model).string(); }

/// Row 0 of the golden input, "5,9,3".
std::string golden_ids(const SafetensorsFile& expected) {
  const at::Tensor ids = expected.tensor("input_ids")[0];
  std::string text;
  for (int64_t i = 0; i < ids.size(0); ++i)
    text += (i > 0 ? "," : "") + std::to_string(ids[i].item<int64_t>());
  return text;
}

TEST(Program, PrintsItsVersions) {
  const std::string text = result_of({"--version"});
  EXPECT_EQ(text.rfind("exactmamba ", 0), 0u);
  EXPECT_CONTAINS(text, "\nLibTorch 2.11.");
  EXPECT_TRUE(std::regex_search(text, std::regex("\nCUDA (none in this build|[0-9]+\\.[0-9])\n"))) << text;
}

TEST(Program, EveryCommandHasHelpWithAnExample) {
  const std::string help = result_of({"--help"});
  for (const std::string command :
       {"run", "train", "decompose", "evaluate", "report", "validate", "inspect", "convert", "generate",
        "translate", "forward", "tokenize", "train-tokenizer", "score", "completion"}) {
    EXPECT_CONTAINS(help, "\n  " + command);
    EXPECT_CONTAINS(result_of({command, "--help"}), "exactmamba " + command);
  }
}

TEST(Program, CompletionIsValidBash) {
  const TemporaryFolder folder;
  std::ofstream(folder / "c") << result_of({"completion", "bash"});
  const std::string check =
      "source " + (folder / "c").string() +
      " && COMP_WORDS=(exactmamba dec) && COMP_CWORD=1 && _exactmamba && test \"${COMPREPLY[0]}\" = decompose"
      " && COMP_WORDS=(exactmamba forward --bl) && COMP_CWORD=2 && _exactmamba && test \"${COMPREPLY[0]}\" = "
      "--blocks && COMP_WORDS=(exactmamba score c) && COMP_CWORD=2 && _exactmamba && test "
      "\"${COMPREPLY[0]}\" = chrf && COMP_WORDS=(exactmamba score bleu x --ref) && COMP_CWORD=4 && "
      "_exactmamba "
      "&& test \"${COMPREPLY[0]}\" = --reference";
  EXPECT_EQ(std::system(("bash -c '" + check + "'").c_str()), 0);
}

TEST(Program, PutsNoFileInThePlaceOfAPipe) {
  const TemporaryFolder folder;
  const std::string pipe = (folder / "pipe").string();
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  for (const std::string command : {"forward", "decompose"}) {
    const ProgramOutcome outcome =
        run_program({command, folder_of("mamba1-hf"), "--ids", "1", "--output", pipe, "--overwrite"});
    EXPECT_EQ(outcome.code, 3);
    EXPECT_CONTAINS(outcome.err, "pipe: is a device or a pipe");
    EXPECT_TRUE(fs::is_fifo(pipe));
  }
}

class Forward : public ::testing::TestWithParam<std::string> {};

TEST_P(Forward, WritesGoldenLogitsAndBlocks) {
  const TemporaryFolder folder;
  const SafetensorsFile expected(golden("models/" + GetParam() + "/expected.safetensors"));
  const std::vector<std::string> arguments = {
      "forward", folder_of(GetParam()), "--ids", golden_ids(expected), "--blocks", "--dtype"};
  for (const auto& [dtype, tolerance] : {std::pair{"float64", 1e-11}, {"float32", 1e-4}}) {
    std::vector<std::string> all = arguments;
    all.insert(all.end(), {dtype, "--output", (folder / dtype).string()});
    result_of(all);
    const SafetensorsFile out(folder / dtype);
    EXPECT_LE(testing::relative_difference(out.tensor("logits"), expected.tensor("logits").narrow(0, 0, 1)),
              tolerance);
    for (const std::string hidden : {"hidden.0", "hidden.1", "hidden.2", "hidden.3"}) {
      EXPECT_LE(testing::relative_difference(out.tensor(hidden), expected.tensor(hidden).narrow(0, 0, 1)),
                tolerance)
          << hidden;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Forward, ::testing::Values("mamba1-hf", "mamba2-hf", "mamba2-g2-hf"));

TEST(ForwardCommand, ReadsIdsFromStdinAndWritesToStdout) {
  const TemporaryFolder folder;
  const SafetensorsFile expected(golden("models/mamba1-hf/expected.safetensors"));
  std::ofstream(folder / "o", std::ios::binary)
      << result_of({"forward", folder_of("mamba1-hf"), "--ids", "-", "--dtype", "float64", "--output", "-"},
                   {.input = golden_ids(expected)});
  EXPECT_LE(testing::relative_difference(SafetensorsFile(folder / "o").tensor("logits"),
                                         expected.tensor("logits").narrow(0, 0, 1)),
            1e-11);
}

TEST(ForwardCommand, KeepsPackedSequencesApart) {
  const TemporaryFolder folder;
  const auto logits = [&](const std::string& ids, const std::string& boundaries, const std::string& file) {
    std::vector<std::string> arguments = {
        "forward",  folder_of("mamba2-hf"),  "--ids", ids, "--dtype", "float64",
        "--output", (folder / file).string()};
    if (!boundaries.empty()) arguments.insert(arguments.end(), {"--cu-seqlens", boundaries});
    result_of(arguments);
    return SafetensorsFile(folder / file).tensor("logits").clone();
  };
  const at::Tensor packed = logits("5,9,3,7,2", "0,3,5", "packed");
  EXPECT_LE(testing::relative_difference(packed.narrow(1, 0, 3), logits("5,9,3", "", "first")), 1e-12);
  EXPECT_LE(testing::relative_difference(packed.narrow(1, 3, 2), logits("7,2", "", "second")), 1e-12);
}

TEST(ForwardCommand, SaysAsJsonWhatItWrote) {
  const TemporaryFolder folder;
  const std::string file = (folder / "o").string();
  const Json result = Json::parse(result_of({"forward", folder_of("mamba1-hf"), "--ids", "5,9,3", "--dtype",
                                             "float64", "--output", file, "--json"}));
  EXPECT_EQ(result["output"], file);
  const SafetensorsFile out(file);
  ASSERT_EQ(result["tensors"].size(), out.names().size());
  for (const Json& tensor : result["tensors"]) {
    const std::string name = tensor["name"].get<std::string>();
    EXPECT_EQ(tensor["shape"], Json(out.tensor(name).sizes().vec())) << name;
    EXPECT_EQ(tensor["dtype"], name == "logits"      ? "float64"
                               : name == "input_ids" ? "int64"
                                                     : "int32")
        << name;
  }
}

TEST(Inspect, ShowsConfigTensorsAndCount) {
  const Json content = Json::parse(result_of({"inspect", folder_of("mamba1-hf"), "--json"}));
  EXPECT_EQ(content["config"]["model_type"], "mamba");
  const SafetensorsFile file(golden("models/mamba1-hf/model.safetensors"));
  int64_t elements = 0;
  for (const std::string& name : file.names()) elements += file.tensor(name).numel();
  EXPECT_EQ(content["parameters"], elements);  // the head is tied and not stored
  ASSERT_GE(content["files"].size(), 1u);
  EXPECT_CONTAINS(result_of({"inspect", folder_of("mamba2-ss")}), "backbone.layers.0.mixer.A_log");
  EXPECT_CONTAINS(result_of({"inspect", folder_of("mamba2-ss-legacy") + "/pytorch_model.bin"}), " float16 ");
}

TEST(Inspect, ListsObjectsThatAreNoWeights) {
  const TemporaryFolder folder;
  fs::copy(folder_of("mamba1-hf"), folder / "m");
  fs::copy(golden("torch_files/whole-model.zip"), folder / "m/training_args.bin");
  fs::copy(golden("torch_files/values-2.zip"), folder / "m/optimizer.bin");
  const std::string model = (folder / "m").string();
  const Json files = Json::parse(result_of({"inspect", model, "--json"}))["files"];
  std::map<std::string, std::string> objects;
  for (const Json& file : files)
    if (file.contains("object")) objects[file["file"]] = file["object"];
  const std::map<std::string, std::string> expected = {
      {"training_args.bin", "torch.nn.modules.linear.Linear"}, {"optimizer.bin", "dict"}};
  EXPECT_EQ(objects, expected);
  EXPECT_CONTAINS(result_of({"inspect", model}), "an object of torch.nn.modules.linear.Linear\n");
}

TEST(Inspect, TellsOfWeightsThatAreNotFinite) {
  const TemporaryFolder folder;
  fs::copy(folder_of("mamba1-hf"), folder / "m");
  core::NamedTensors tensors = weights_of(folder / "m");
  const auto& [name, values] = tensors[3];
  values.view(-1).narrow(0, 1, 2).fill_(std::numeric_limits<float>::infinity());
  values.view(-1)[5] = std::nan("");
  core::write_safetensors(folder / "m/model.safetensors", tensors);
  const std::string model = (folder / "m").string();
  EXPECT_CONTAINS(result_of({"inspect", model}), "    3 of its values are NaN or infinite\n");
  const Json content = Json::parse(result_of({"inspect", model, "--json"}));
  for (const Json& tensor : content["files"][0]["tensors"])
    EXPECT_EQ(tensor.value("not_finite", 0), tensor["name"] == name ? 3 : 0) << tensor;
}

TEST(Inspect, TellsWhatCannotBeLoaded) {
  const TemporaryFolder folder;
  fs::copy(folder_of("mamba1-hf"), folder / "m");
  const std::string model = (folder / "m").string();
  EXPECT_FALSE(Json::parse(result_of({"inspect", model, "--json"})).contains("problem"));
  core::write_safetensors(folder / "m/model.safetensors", {});
  const testing::ProgramOutcome misfit = testing::run_program({"inspect", model});
  EXPECT_EQ(misfit.code, 1);
  EXPECT_CONTAINS(misfit.out, "hidden_size");  // what can be shown is
  EXPECT_CONTAINS(misfit.err, "backbone.embeddings.weight is missing");
  fs::remove(folder / "m/model.safetensors");
  const testing::ProgramOutcome without = testing::run_program({"inspect", model, "--json"});
  EXPECT_EQ(without.code, 1);
  EXPECT_CONTAINS(Json::parse(without.out)["problem"].get<std::string>(), "no weights");
}

TEST(Program, SaysThatDecomposeTakesARecipeOrAModel) {
  EXPECT_CONTAINS(result_of({"decompose", "--help"}), "recipe-or-model TEXT REQUIRED");
  EXPECT_CONTAINS(run_program({"decompose"}).err, "recipe-or-model is required");
}

TEST(Program, OffersThreadsWhereTheyAreUsed) {
  for (const std::string command : {"run", "train", "decompose", "evaluate", "forward"})
    EXPECT_CONTAINS(result_of({command, "--help"}), "--threads");
  for (const std::string command : {"validate", "inspect", "report"})
    EXPECT_EQ(run_program({command, "x", "--threads", "1"}).code, 2) << command;
}

TEST(Convert, KeepsTheStoredDtypeUnlessTold) {
  const TemporaryFolder folder;
  const std::string wide = (folder / "wide").string(), again = (folder / "again").string(),
                    half = (folder / "half").string();
  result_of({"convert", folder_of("mamba1-hf"), "--dtype", "float64", "--output", wide});
  const Json result = Json::parse(result_of({"convert", wide, "--output", again, "--json"}));
  EXPECT_EQ(result["dtype"], "float64");
  EXPECT_EQ(testing::content_of(folder / "again/model.safetensors"),
            testing::content_of(folder / "wide/model.safetensors"));
  result_of({"convert", folder_of("mamba1-hf-bf16"), "--output", half});
  EXPECT_EQ(SafetensorsFile(folder / "half/model.safetensors").tensor("backbone.norm_f.weight").scalar_type(),
            at::kBFloat16);
}

TEST(Convert, KeepsTheFunction) {
  const TemporaryFolder folder;
  const std::string there = (folder / "there").string(), back = (folder / "back").string();
  EXPECT_EQ(result_of({"convert", folder_of("mamba2-hf"), "--to", "state-spaces", "--output", there}),
            there + "\n");
  EXPECT_CONTAINS(testing::content_of(folder / "there/README.md"), "Mamba-2");
  result_of({"convert", there, "--to", "hf", "--dtype", "float64", "--output", back});
  const SafetensorsFile expected(golden("models/mamba2-hf/expected.safetensors"));
  result_of({"forward", back, "--ids", golden_ids(expected), "--dtype", "float64", "--output",
             (folder / "o").string()});
  EXPECT_LE(testing::relative_difference(SafetensorsFile(folder / "o").tensor("logits"),
                                         expected.tensor("logits").narrow(0, 0, 1)),
            1e-11);
}

TEST(Convert, SaysAsJsonWhatItWrote) {
  const TemporaryFolder folder;
  const std::string out = (folder / "o").string();
  const Json result = Json::parse(
      result_of({"convert", folder_of("mamba1-hf"), "--dtype", "float16", "--output", out, "--json"}));
  EXPECT_EQ(result["output"], out);
  EXPECT_EQ(result["dtype"], "float16");
  EXPECT_EQ(result["config"]["model_type"], "mamba");
  int64_t elements = 0;
  for (const Json& tensor : result["files"][0]["tensors"]) {
    EXPECT_EQ(tensor["dtype"], "float16");
    elements += tensor["elements"].get<int64_t>();
  }
  EXPECT_EQ(result["parameters"], elements);
}

TEST(Convert, ReplacesAFolderOnlyWhenAsked) {
  const TemporaryFolder folder;
  const std::string out = (folder / "o").string();
  result_of({"convert", folder_of("mamba1-hf"), "--output", out});
  EXPECT_EQ(run_program({"convert", folder_of("mamba1-hf"), "--output", out}).code, 3);
  result_of({"convert", folder_of("mamba1-hf"), "--dtype", "float16", "--output", out, "--overwrite"});
  EXPECT_EQ(SafetensorsFile(folder / "o/model.safetensors").tensor("backbone.norm_f.weight").scalar_type(),
            at::kHalf);
  testing::put_file(folder / "o/thesis.tex", "years of work");
  EXPECT_EQ(run_program({"convert", folder_of("mamba1-hf"), "--output", out, "--overwrite"}).code, 3);
  EXPECT_EQ(core::read_file(folder / "o/thesis.tex"), "years of work");
}

TEST(Generate, GivesGoldenTokens) {
  const Json cases = core::read_json(golden("models/mamba2-hf/generation.json"));
  for (const Json& example : cases.at("cases")) {
    std::string ids, expected;
    for (const Json& id : example.at("prompt")) ids += (ids.empty() ? "" : ",") + id.dump();
    for (const Json& id : example.at("new_tokens")) expected += (expected.empty() ? "" : ",") + id.dump();
    EXPECT_EQ(result_of({"generate", folder_of("mamba2-hf"), "--ids", ids, "--max-new-tokens",
                         std::to_string(example.at("new_tokens").size()), "--stop", "-1"}),
              expected + "\n");
  }
}

/// Rows behind the tokenizer's tokens hold padding; here one of them would always win.
TEST(Generate, TextIsMadeOfTheTokenizersTokens) {
  const TemporaryFolder folder;
  fs::copy(golden("models/mamba2-hf"), folder / "m");
  core::NamedTensors tensors = weights_of(folder / "m");
  for (auto& [name, values] : tensors) {
    if (name == "backbone.norm_f.weight") values.zero_()[0] = 1;
    if (name != "backbone.embeddings.weight" && name != "lm_head.weight") continue;
    values.select(1, 0).zero_();
    values.narrow(0, 100, 2).select(1, 0).copy_(at::tensor({1e4F, -1e4F}));
  }
  core::write_safetensors(folder / "m/model.safetensors", tensors);
  const std::string model = (folder / "m").string();
  const auto ids = [&](const std::vector<std::string>& prompt) {
    std::vector<std::string> arguments = {"generate", model,    "--json", "--max-new-tokens",
                                          "5",        "--stop", "-1"};
    arguments.insert(arguments.end(), prompt.begin(), prompt.end());
    return Json::parse(result_of(arguments))["ids"];
  };
  for (const Json& id : ids({"--ids", "1,5"})) EXPECT_GE(id, 100);
  for (const Json& id : ids({"--text", "$ab|", "--tokenizer", "copy"})) EXPECT_LT(id, 30);
}

TEST(Decompose, FullContributionsOfAnIdentityModelSumToItsOutput) {
  const TemporaryFolder folder;
  fs::copy(golden("models/mamba2-hf"), folder / "m");
  std::string config = testing::content_of(folder / "m/config.json");
  std::ofstream(folder / "m/config.json")
      << config.replace(config.find('{'), 1, "{\"conv_activation\": \"identity\",");
  result_of({"decompose", (folder / "m").string(), "--ids", "5,9,3,7", "--full", "--set",
             "decompose.dtype=float64", "--output", (folder / "o").string()});
  const SafetensorsFile out(folder / "o");
  const Json info = Json::parse(out.metadata().at("info"));
  EXPECT_EQ(info["tokens"], Json({5, 9, 3, 7}));
  EXPECT_EQ(info["model_checksum"].get<std::string>().size(), 32u);
  EXPECT_EQ(out.metadata().at("format_version"), "1");
  const Json layer = {{"layer", 2},
                      {"method", "full"},
                      {"approximation", "activation"},
                      {"bias", "own"},
                      {"dtype", "float64"}};
  EXPECT_EQ(info["contributions"]["layer2.activation"], layer);
  const at::Tensor pairs = out.tensor("pairs"), T = out.tensor("layer0.activation");
  ASSERT_EQ(pairs.size(0), 10);
  at::Tensor sum = T.narrow(0, 6, 4).sum(0);  // row 3: pairs 6 to 9
  // The first block adds exactly that to the residual stream.
  result_of({"forward", (folder / "m").string(), "--ids", "5,9,3,7", "--blocks", "--dtype", "float64",
             "--output", (folder / "f").string()});
  const SafetensorsFile forward(folder / "f");
  const at::Tensor y = (forward.tensor("hidden.1") - forward.tensor("hidden.0"))[0][3];
  EXPECT_LE(testing::relative_difference(sum, y), 1e-12);
}

TEST(Decompose, WritesMapsOfOneRow) {
  const TemporaryFolder folder;
  const std::string text = result_of(
      {"decompose", folder_of("mamba1-hf"), "--ids", "5,9,3", "--output", (folder / "o").string(), "--json"});
  EXPECT_EQ(Json::parse(text)["measures"]["l2_mean"]["activation"].size(), 3u);
  const SafetensorsFile out(folder / "o");
  EXPECT_EQ(out.names().size(), 3u);  // one map a layer
  const Json info = Json::parse(out.metadata().at("info"));
  EXPECT_EQ(info["tokens"], Json({5, 9, 3}));
  EXPECT_EQ(info["maps"]["row0.layer1.activation.l2"]["layer"], 1);
  // stdout has the file itself
  EXPECT_EQ(result_of({"decompose", folder_of("mamba1-hf"), "--ids", "5,9,3", "--output", "-"}),
            testing::content_of(folder / "o"));
}

TEST(Decompose, SplitsTheLogitsOfGivenTokens) {
  const TemporaryFolder folder;
  result_of({"forward", folder_of("mamba2-hf"), "--ids", "5,9,3,7", "--dtype", "float64", "--output",
             (folder / "f").string()});
  const at::Tensor logits = SafetensorsFile(folder / "f").tensor("logits").clone()[0];
  const auto target_logits = [&](const std::string& targets, const std::string& file) {
    result_of({"decompose", folder_of("mamba2-hf"), "--ids", "5,9,3,7", "--targets", targets, "--set",
               "decompose.methods=[\"alti_logit\"]", "--set", "decompose.dtype=float64", "--output",
               (folder / file).string()});
    return SafetensorsFile(folder / file).tensor("row0.activation.alti_logit.target_logits").clone();
  };
  const at::Tensor given = target_logits("2,0,2,1", "given"), next = target_logits("next", "next");
  for (const auto& [position, token] : {std::pair{0, 2}, {1, 0}, {2, 2}, {3, 1}})
    EXPECT_NEAR(given[position].item<double>(), logits[position][token].item<double>(), 1e-11);
  for (const auto& [position, token] : {std::pair{0, 9}, {1, 3}, {2, 7}})
    EXPECT_NEAR(next[position].item<double>(), logits[position][token].item<double>(), 1e-11);
}

}  // namespace
}  // namespace exactmamba::cli
