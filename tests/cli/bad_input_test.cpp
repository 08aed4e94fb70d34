// Bad input, as a user meets it: one clear line on stderr, the right exit code, and nothing written.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <map>
#include <unistd.h>

#include <gtest/gtest.h>

#include "core/safetensors.h"
#include "tests/support/program.h"
#include "tests/support/tensors.h"
#include "tests/support/weights.h"

namespace exactmamba::cli {
namespace {

namespace fs = std::filesystem;
using testing::golden;
using testing::ProgramOutcome;
using testing::ProgramSetting;
using testing::TemporaryFolder;
using testing::weights_of;

constexpr int kInput = 1, kUsage = 2, kIo = 3, kNumerical = 4;

struct Case {
  std::string name;
  int code;
  std::string message;                 // part of the one line
  std::vector<std::string> arguments;  // run in a folder with the files that `prepare` makes
  std::function<void(const fs::path& folder)> prepare = [](const fs::path&) {};
  std::string stdout_file = {};
  rlim_t file_limit = RLIM_INFINITY;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

/// Path → content of every file below `folder`; folders have none.
std::map<std::string, std::string> snapshot(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder)) {
    std::error_code loop;
    files[entry.path().string()] = entry.is_regular_file(loop) ? testing::content_of(entry.path()) : "";
  }
  return files;
}

class BadInput : public ::testing::TestWithParam<Case> {};

TEST_P(BadInput, IsRefusedInOneLine) {
  const Case& c = GetParam();
  const TemporaryFolder folder;
  c.prepare(folder.path());
  const auto before = snapshot(folder.path());
  const ProgramOutcome outcome = testing::run_program(
      c.arguments,
      {.folder = folder.path(), .input = "", .stdout_file = c.stdout_file, .file_limit = c.file_limit});
  EXPECT_EQ(outcome.code, c.code) << outcome.err;
  EXPECT_EQ(outcome.out, "");
  EXPECT_EQ(outcome.err.rfind("exactmamba: error: ", 0), 0u) << outcome.err;
  EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
  EXPECT_NE(outcome.err.find(c.message), std::string::npos) << outcome.err;
  EXPECT_EQ(snapshot(folder.path()), before);
}

const auto test_name = [](const auto& info) { return info.param.name; };

// ---- what the cases are made of ----

void write(const fs::path& file, const std::string& text) { std::ofstream(file, std::ios::binary) << text; }

/// A small recipe in r.toml with `more` at its end.
std::function<void(const fs::path&)> recipe(const std::string& more) {
  return [more](const fs::path& folder) {
    write(folder / "r.toml", "run.output = \"out\"\ntrain.steps = 2\n" + more);
  };
}

std::function<void(const fs::path&)> text_recipe(const std::string& file, const std::string& content) {
  return [file, content](const fs::path& folder) {
    write(folder / file, content);
    write(folder / "valid.txt", std::string(5000, 'a'));
    recipe("data.task = \"text\"\ndata.train = [\"" + file + "\"]\ndata.valid = [\"valid.txt\"]")(folder);
  };
}

/// `key` asks for something of validation data, and there is none.
Case without_validation_data(const std::string& name, const std::string& key, const std::string& value) {
  return {name,
          kInput,
          "'" + key + "' = " + value + " has a meaning only with data.valid, but data.valid = []",
          {"train", "r.toml", "--set", "data.valid=[]", "--set", key + "=" + value},
          text_recipe("a.txt", std::string(5000, 'a'))};
}

/// A copy of a golden model in `m`, whose config.json goes through `edit`.
std::function<void(const fs::path&)> model(const std::string& name,
                                           const std::function<void(const fs::path&)>& edit = {}) {
  return [name, edit](const fs::path& folder) {
    fs::copy(golden("models/" + name), folder / "m");
    if (edit) edit(folder / "m");
  };
}

std::function<void(const fs::path&)> both(std::function<void(const fs::path&)> a,
                                          std::function<void(const fs::path&)> b) {
  return [a, b](const fs::path& folder) {
    a(folder);
    b(folder);
  };
}

void replace_in(const fs::path& file, const std::string& from, const std::string& to) {
  std::string text = testing::content_of(file);
  const size_t at = text.find(from);
  ASSERT_NE(at, std::string::npos) << from;
  write(file, text.replace(at, from.size(), to));
}

void truncate_weights(const fs::path& folder) { fs::resize_file(folder / "model.safetensors", 5000); }

void poison_weights(const fs::path& folder) {
  core::NamedTensors tensors = weights_of(folder);
  tensors[3].second.view(-1)[1] = std::copysign(std::nan(""), -1.0);  // as 0 · ∞ makes it
  core::write_safetensors(folder / "model.safetensors", tensors);
}

/// Every element of the weight `name` becomes the largest number of its dtype: finite, but no sum of them is.
std::function<void(const fs::path&)> overflow_of(const std::string& name) {
  return [name](const fs::path& folder) {
    core::NamedTensors tensors = weights_of(folder);
    for (auto& [tensor_name, values] : tensors)
      if (tensor_name == name) values.fill_(std::numeric_limits<float>::max());
    core::write_safetensors(folder / "model.safetensors", tensors);
  };
}
const auto overflowing_layer = overflow_of("backbone.layers.1.mixer.out_proj.weight");
const auto overflowing_logits = overflow_of("backbone.norm_f.weight");

/// A golden identity model in `m`; `more` goes into its config.json.
std::function<void(const fs::path&)> identity_model(const std::string& more) {
  return [more](const fs::path& folder) {
    fs::create_directory(folder / "m");
    write(folder / "m/config.json",
          testing::content_of(golden("decomposition/mamba2-g1-identity/config.json")));
    if (!more.empty())
      replace_in(folder / "m/config.json", "\"conv_activation\": \"identity\"",
                 "\"conv_activation\": \"identity\"" + more);
  };
}

// ---- the command line ----

INSTANTIATE_TEST_SUITE_P(
    CommandLine, BadInput,
    ::testing::Values(
        Case{"nothing", kUsage, "subcommand", {}},
        Case{"unknown_command", kUsage, "unknown command 'trian'; did you mean 'train'?", {"trian"}},
        Case{"strange_command",
             kUsage,
             "unknown command 'xyzzy'; exactmamba --help lists the commands",
             {"xyzzy"}},
        Case{"mistyped_option",
             kUsage,
             "unknown option '--refrence'; did you mean '--reference'?; see exactmamba score bleu --help",
             {"score", "bleu", "o", "--refrence=r"}},
        Case{"unknown_option", kUsage, "--fast", {"run", "r.toml", "--fast"}, recipe("")},
        Case{"no_recipe", kUsage, "recipe", {"run"}},
        Case{"validate_without_recipe", kUsage, "validate needs a recipe", {"validate"}},
        Case{"set_not_utf8",
             kUsage,
             "--set report.title=\\xff: this is not UTF-8",
             {"validate", "r.toml", "--json", "--set", "report.title=\xff"},
             recipe("")},
        Case{"penalty_that_is_no_number",
             kUsage,
             "--length-penalty: abc is no number",
             {"translate", "m", "--length-penalty", "abc"}},
        Case{"infinite_penalty",
             kUsage,
             "--length-penalty: inf is no number",
             {"generate", "m", "--ids", "1", "--beam", "2", "--length-penalty", "inf"}},
        Case{"negative_seed",
             kUsage,
             "--seed: -1 is no whole number from 0 to 4294967295",
             {"score", "bleu", "o", "--reference", "r", "--compare", "c", "--seed", "-1"}},
        Case{"negative_seed_of_samples",
             kUsage,
             "--seed: -1 is no whole number from 0 to 9223372036854775807",
             {"generate", "m", "--ids", "1", "--top-k", "2", "--seed", "-1"}},
        Case{"smoothing_that_is_no_number",
             kUsage,
             "--smooth-value: x is no number",
             {"score", "bleu", "o", "--reference", "r", "--smooth-value", "x"}},
        Case{"ngrams_of_nothing",
             kUsage,
             "--char-order: n-grams of 0 characters and, by --word-order, of 0 words; give one of them 1 or "
             "more",
             {"score", "chrf", "o", "--reference", "r", "--char-order", "0"}},
        Case{"no_prompt", kUsage, "give a prompt with --ids or --text", {"generate", "no_model"}},
        Case{"missing_prompts",
             kIo,
             "no.txt: No such file or directory",
             {"generate", "no_model", "--prompts", "no.txt"}},
        Case{"missing_tokenizer",
             kIo,
             "nope: no such file or folder; a tokenizer is byte, copy, a tokenizer.json",
             {"tokenize", "nope"}},
        Case{"folder_without_tokenizer",
             kIo,
             "m: this folder has neither tokenizer.json nor tokenizer.model",
             {"tokenize", "m"},
             model("mamba2-hf")},
        Case{"file_for_a_comet_model",
             kIo,
             "r.toml: is a file, and not the folder of a COMET model",
             {"score", "comet", "r.toml", "--source", "r.toml", "--reference", "r.toml", "--model", "r.toml"},
             recipe("")},
        Case{"no_threads", kUsage, "--threads", {"validate", "r.toml", "--threads", "0"}, recipe("")},
        Case{"too_many_threads",
             kUsage,
             "--threads: Value 4000 not in range 1 to 1024",
             {"forward", "m", "--ids", "1", "--output", "o", "--threads", "4000"},
             model("mamba2-hf")},
        Case{"too_many_threads_of_a_recipe",
             kInput,
             "r.toml:3:15: 'run.threads' = 4000 is out of range; allowed: 0 to 1024",
             {"validate", "r.toml"},
             recipe("run.threads = 4000\n")},
        Case{"unknown_shell", kUsage, "zsh", {"completion", "zsh"}},
        Case{"unknown_dtype", kUsage, "float8", {"convert", "m", "--dtype", "float8", "--output", "o"}},
        Case{"decompose_on_a_gpu",
             kUsage,
             "unknown option '--device'; see exactmamba",
             {"decompose", "m", "--ids", "1", "--output", "o", "--device", "cuda"},
             model("mamba2-hf")},
        Case{"evaluate_on_a_gpu",
             kUsage,
             "unknown option '--device'; see exactmamba",
             {"evaluate", "r.toml", "--device", "cuda"},
             recipe("")},
        Case{"set_once_for_two_keys",
             kUsage,
             "'train.lr=1' stands without --set; each KEY=VALUE has one of its own: --set train.lr=1; see "
             "exactmamba run --help",
             {"run", "r.toml", "--set", "train.steps=1", "train.lr=1"},
             recipe("")},
        Case{"set_once_for_two_keys_before_the_recipe",
             kUsage,
             "'train.lr=1' stands without --set; each",
             {"run", "--set", "train.steps=1", "train.lr=1", "r.toml"},
             recipe("")},
        Case{"set_without_value",
             kUsage,
             "write --set KEY=VALUE",
             {"run", "r.toml", "--set", "train.lr"},
             recipe("")},
        Case{"no_tokens", kUsage, "--ids or --text", {"forward", "m", "--output", "o"}, model("mamba2-hf")},
        Case{"both_kinds_of_tokens",
             kUsage,
             "--ids",
             {"forward", "m", "--ids", "1", "--text", "a", "--output", "o"}},
        Case{"tokenizer_for_ids",
             kUsage,
             "--ids excludes --tokenizer",
             {"generate", "m", "--ids", "1", "--tokenizer", "copy"},
             model("mamba2-hf")},
        Case{"reference_of_a_recipe",
             kUsage,
             "--reference",
             {"validate", "r.toml", "--reference"},
             recipe("")},
        Case{"two_results_on_stdout",
             kUsage,
             "--output - and --json both write to stdout",
             {"forward", "m", "--ids", "1", "--output", "-", "--json"},
             model("mamba2-hf")},
        Case{"inspected_recipe",
             kInput,
             "r.toml: is a recipe, not a checkpoint; exactmamba validate shows it",
             {"inspect", "r.toml"},
             recipe("")},
        Case{"ids_that_are_no_numbers",
             kUsage,
             "'x' (number 2)",
             {"forward", "m", "--ids", "1,x", "--output", "o"},
             model("mamba2-hf")},
        Case{"an_id_left_out",
             kUsage,
             "--ids: number 2 is missing: write it, or take a comma away",
             {"forward", "m", "--ids", "1,,2", "--output", "o"},
             model("mamba2-hf")},
        Case{"ids_that_end_in_a_comma",
             kUsage,
             "--ids: number 3 is missing",
             {"generate", "m", "--ids", "1, 2,"},
             model("mamba2-hf")},
        Case{"a_target_left_out",
             kUsage,
             "--targets: number 1 is missing",
             {"decompose", "m", "--ids", "1 2", "--targets", ",2", "--set",
              "decompose.methods=[\"alti_logit\"]", "--output", "o"},
             model("mamba2-hf")},
        Case{"boundaries_that_are_empty",
             kUsage,
             "--cu-seqlens: is empty; give at least one pair of boundaries",
             {"forward", "m", "--ids", "1,2", "--cu-seqlens", "", "--output", "o"},
             model("mamba2-hf")},
        Case{"boundaries_that_do_not_end",
             kUsage,
             "must rise from 0 to the number of tokens, 3",
             {"forward", "m", "--ids", "1,2,3", "--cu-seqlens", "0,2", "--output", "o"},
             model("mamba2-hf")},
        Case{"too_few_targets",
             kUsage,
             "--targets has 2 ids, but there are 3 tokens",
             {"decompose", "m", "--ids", "1,2,3", "--targets", "4,5", "--set",
              "decompose.methods=[\"alti_logit\"]", "--output", "o"},
             model("mamba2-hf")},
        Case{"a_target_outside_the_vocabulary",
             kInput,
             "--targets: target 1 has id 100000, but the model's vocabulary has",
             {"decompose", "m", "--ids", "1,2", "--targets", "4,100000", "--set",
              "decompose.methods=[\"alti_logit\"]", "--output", "o"},
             model("mamba2-hf")},
        Case{"targets_that_nothing_splits",
             kUsage,
             "--targets says whose logit alti_logit splits",
             {"decompose", "m", "--ids", "1,2", "--targets", "next", "--output", "o"},
             model("mamba2-hf")},
        Case{"tokens_for_a_recipe",
             kUsage,
             "r.toml: is a file; these go with a model folder only: --ids, --output\n",
             {"decompose", "r.toml", "--ids", "1", "--output", "o"},
             recipe("")},
        Case{"tokenizer_for_a_recipe",
             kUsage,
             "go with a model folder only: --tokenizer",
             {"decompose", "r.toml", "--tokenizer", "t"},
             recipe("")},
        Case{"overwrite_for_a_recipe",
             kUsage,
             "go with a model folder only: --overwrite",
             {"decompose", "r.toml", "--overwrite"},
             recipe("")},
        Case{"boundaries_for_a_recipe",
             kUsage,
             "go with a model folder only: --cu-seqlens",
             {"decompose", "r.toml", "--cu-seqlens", "0,1"},
             recipe("")},
        Case{"methods_of_full_contributions",
             kUsage,
             "--set decompose.methods=['alti']: 'decompose.methods' has a meaning only without --full",
             {"decompose", "m", "--ids", "1", "--full", "--set", "decompose.methods=['alti']", "--output",
              "o"},
             model("mamba2-hf")},
        Case{"rows_of_one_text",
             kUsage,
             "'decompose.max_rows' has a meaning only with a recipe",
             {"decompose", "m", "--ids", "1", "--set", "decompose.max_rows=2", "--output", "o"},
             model("mamba2-hf")},
        Case{"no_approximation_of_a_model",
             kInput,
             "--set decompose.approximations=[]: decompose.approximations is empty",
             {"decompose", "m", "--ids", "1", "--set", "decompose.approximations=[]", "--output", "o"},
             model("mamba2-hf")}),
    test_name);

// ---- recipes ----

INSTANTIATE_TEST_SUITE_P(
    Recipe, BadInput,
    ::testing::Values(
        Case{"missing_recipe", kIo, "no.toml", {"run", "no.toml"}},
        Case{"recipe_is_a_folder", kIo, ".", {"run", "."}},
        Case{"empty_recipe",
             kInput,
             "r.toml: sets nothing; say at least what is trained, in [model], or on what, in [data]",
             {"validate", "r.toml"},
             [](const fs::path& folder) { write(folder / "r.toml", "# to be written\n"); }},
        Case{"binary_recipe", kInput, "r.toml:3:", {"run", "r.toml"}, recipe(std::string("\0\1\2", 3))},
        Case{"syntax", kInput, "r.toml:3:", {"run", "r.toml"}, recipe("train.lr = ")},
        Case{"unknown_key",
             kInput,
             "r.toml:3:7: unknown key 'train.lrr'; did you mean 'train.lr'?",
             {"run", "r.toml"},
             recipe("train.lrr = 1")},
        Case{"unknown_table",
             kInput,
             "r.toml:3:2: unknown table 'trian'; did you mean 'train'?",
             {"run", "r.toml"},
             recipe("[trian]\nlr = 1")},
        Case{"wrong_type",
             kInput,
             "r.toml:3:12: 'train.lr' takes a number, not a string (\"x\")",
             {"run", "r.toml"},
             recipe("train.lr = \"x\"")},
        Case{"out_of_range",
             kInput,
             "'train.lr' = 11 is out of range; allowed: 0 to 10",
             {"run", "r.toml"},
             recipe("train.lr = 11")},
        Case{"unknown_choice",
             kInput,
             "'model.architecture' = \"mamba9\" is not one of: mamba1, mamba2",
             {"run", "r.toml"},
             recipe("model.architecture = \"mamba9\"")},
        Case{"contradiction",
             kInput,
             "train.warmup_steps",
             {"run", "r.toml"},
             recipe("train.warmup_steps = 9")},
        Case{"annealing_to_silu",
             kInput,
             "annealing starts at silu",
             {"run", "r.toml"},
             recipe("train.annealing = \"power\"")},
        Case{"layer_that_is_not_there",
             kInput,
             "decompose.layers has layer 2",
             {"run", "r.toml"},
             recipe("decompose.layers = [0, 2]")},
        Case{"layer_that_the_checkpoint_has_not",
             kInput,
             "decompose.layers has layer 3, but layers count from 0 and m has 3",
             {"run", "r.toml"},
             both(model("mamba2-hf"), recipe("model.from = \"m\"\ndecompose.layers = [0, 3]"))},
        Case{"method_twice",
             kInput,
             "decompose.methods has alti twice",
             {"run", "r.toml"},
             recipe("decompose.methods = [\"alti\", \"l2\", \"alti\"]")},
        Case{"annealing_from_identity",
             kInput,
             "train.annealing starts at silu, but 'm' in model.from was trained with 'identity'",
             {"validate", "r.toml"},
             both(identity_model(""), recipe("model.from = \"m\"\nmodel.conv_activation = \"identity\"\n"
                                             "train.annealing = \"power\""))},
        Case{
            "continues_a_later_run",
            kInput,
            "r.toml:5:17: run.continues: no run in front of 'first' is called 'second'; there are: 'base'",
            {"validate", "r.toml"},
            recipe("[[extra]]\nlabel = \"first\"\nrun.continues = \"second\"\n[[extra]]\nlabel = \"second\"\n"
                   "run.seed = 2")},
        Case{"continues_another_size",
             kInput,
             "run.continues: 'wide' has other sizes in [model] than 'base'",
             {"validate", "r.toml"},
             recipe("[[extra]]\nlabel = \"wide\"\nrun.continues = \"base\"\nmodel.d_model = 32")},
        Case{"continues_with_another_tokenizer",
             kInput,
             "run.continues: 'more' has data.train = [\"b.txt\"], but 'base' [\"a.txt\"], so that",
             {"validate", "r.toml"},
             both([](const fs::path& folder) { write(folder / "b.txt", "b"); },
                  both(text_recipe("a.txt", "a"),
                       recipe("data.task = \"text\"\ndata.train = [\"a.txt\"]\ndata.tokenizer = \"bpe\"\n"
                              "data.vocab_size = 300\n[[extra]]\nlabel = \"more\"\n"
                              "run.continues = \"base\"\ndata.train = [\"b.txt\"]")))},
        Case{"layer_that_the_continued_checkpoint_has_not",
             kInput,
             "decompose.layers has layer 3, but layers count from 0",
             {"validate", "r.toml"},
             both(model("mamba2-hf"),
                  recipe("model.from = \"m\"\n[[extra]]\nlabel = \"more\"\nmodel.from = \"\"\n"
                         "run.continues = \"base\"\ndecompose.layers = [0, 3]"))},
        Case{"continues_identity_with_annealing",
             kInput,
             "train.annealing starts at silu, but 'base' in model.from was trained with 'identity'",
             {"validate", "r.toml"},
             recipe("model.conv_activation = \"identity\"\n[[extra]]\nlabel = \"more\"\nrun.continues = "
                    "\"base\"\n"
                    "train.annealing = \"power\"")},
        Case{"half_annealed",
             kInput,
             "from silu to 'identity', at alpha = 0.25",
             {"run", "r.toml"},
             both(identity_model(", \"conv_activation_alpha\": 0.25"),
                  recipe("model.from = \"m\"\nmodel.conv_activation = \"identity\""))},
        Case{"tokens_beyond_counting",
             kInput,
             "error: --set train.steps=1000000000: train.steps · train.grad_accumulation_steps · "
             "train.batch_size · data.context is",
             {"validate", "r.toml", "--set", "train.steps=1000000000"},
             recipe("train.batch_size = 1000000\ntrain.grad_accumulation_steps = 1000000")},
        Case{"memory_beyond_counting",
             kInput,
             "the memory to train, in bytes, is",
             {"validate", "r.toml"},
             recipe("train.batch_size = 1000000\ndata.context = 16777216\nmodel.d_model = 1024\n"
                    "model.n_layer = 64")},
        Case{"sizes_that_do_not_fit",
             kInput,
             "r.toml:3:17: model.headdim = 48 does not divide model.expand · model.d_model = 128",
             {"validate", "r.toml"},
             recipe("model.headdim = 48")},
        Case{"unknown_set",
             kInput,
             "--set train.stepz=3: unknown key 'train.stepz'; did you mean 'train.steps'?",
             {"run", "r.toml", "--set", "train.stepz=3"},
             recipe("")},
        Case{"wrong_set",
             kInput,
             "--set train.steps=many: 'train.steps' takes an integer, not a string (\"many\")",
             {"run", "r.toml", "--set", "train.steps=many"},
             recipe("")},
        Case{"set_of_unknown_table",
             kInput,
             "--set modle.x=1: unknown table 'modle'; did you mean 'model'?",
             {"run", "r.toml", "--set", "modle.x=1"},
             recipe("")},
        Case{"key_of_another_architecture",
             kInput,
             "r.toml:4:17: 'model.headdim' = 32 has a meaning only with model.architecture = \"mamba2\", but "
             "model.architecture = \"mamba1\" (r.toml:3:22); remove it, or change model.architecture",
             {"run", "r.toml"},
             recipe("model.architecture = \"mamba1\"\nmodel.headdim = 32")},
        Case{"key_that_no_run_uses",
             kInput,
             "r.toml:3:17: 'model.dt_rank' = 4 has a meaning only with model.architecture = \"mamba1\"",
             {"run", "r.toml"},
             recipe("model.dt_rank = 4\n[sweep]\nrun.seed = [1, 2]")},
        Case{"extra_that_does_not_use_its_key",
             kInput,
             "r.toml:5:17: 'model.headdim' = 16 has a meaning only with",
             {"run", "r.toml"},
             recipe("[[extra]]\nmodel.architecture = \"mamba1\"\nmodel.headdim = 16")},
        Case{"set_without_use",
             kInput,
             "--set model.mimetic_state=false: 'model.mimetic_state' = false has a meaning only with "
             "model.init",
             {"run", "r.toml", "--set", "model.mimetic_state=false"},
             recipe("")},
        Case{"free_running_text",
             kInput,
             "'evaluate.free_running' = true has a meaning only with data.task = \"copy\"",
             {"run", "r.toml", "--set", "evaluate.free_running=true"},
             text_recipe("a.txt", std::string(5000, 'a'))},
        without_validation_data("error_without_validation_data", "train.eval_error", "true"),
        without_validation_data("best_checkpoint_without_validation_data", "train.best_measure",
                                "\"validation_accuracy\""),
        without_validation_data("validation_rows_without_validation_data", "data.max_valid_rows", "3"),
        Case{"no_approximation",
             kInput,
             "r.toml:3:28: decompose.approximations is empty; name at least one of: activation, identity",
             {"run", "r.toml"},
             recipe("decompose.approximations = []")},
        Case{"name_with_slash",
             kInput,
             "r.toml:3:12: '../x' cannot be the name of a run",
             {"run", "r.toml"},
             recipe("run.name = \"../x\"")},
        Case{"name_of_the_folder_above",
             kInput,
             "'..' cannot be the name of a run",
             {"run", "r.toml", "--set", "run.name=.."},
             recipe("")},
        Case{"name_with_a_line_break",
             kInput,
             "cannot be the name of a run",
             {"run", "r.toml"},
             recipe("run.name = \"a\\nb\"")},
        Case{"empty_name", kInput, "run.name is empty", {"run", "r.toml"}, recipe("run.name = \"\"")},
        Case{"sweep_without_list",
             kInput,
             "'run.seed' in [sweep] takes a list of values",
             {"run", "r.toml"},
             recipe("[sweep]\nrun.seed = 1")},
        Case{"sweep_over_output",
             kInput,
             "r.toml:4:15: 'run.output' is the same for all runs",
             {"run", "r.toml"},
             recipe("[sweep]\nrun.output = [\"a\"]")},
        Case{"set_of_swept_key",
             kInput,
             "--set run.seed=3: 'run.seed' is set for single runs by [sweep], at r.toml:4:13, r.toml:4:16; "
             "change it there",
             {"run", "r.toml", "--set", "run.seed=3"},
             recipe("[sweep]\nrun.seed = [1, 2]")},
        Case{"set_of_a_key_of_extra",
             kInput,
             "'run.seed' is set for single runs by [[extra]], at r.toml:4:12, r.toml:6:12; change it there",
             {"run", "r.toml", "--set", "run.seed=3"},
             recipe("[[extra]]\nrun.seed = 1\n[[extra]]\nrun.seed = 2\n[[extra]]\ntrain.lr = 1e-4\n")},
        Case{"unknown_swept_key",
             kInput,
             "r.toml:4:14: unknown key 'train.lrs'; did you mean 'train.lr'?",
             {"run", "r.toml"},
             recipe("[sweep]\ntrain.lrs = [1]")}),
    test_name);

// ---- data ----

INSTANTIATE_TEST_SUITE_P(
    Data, BadInput,
    ::testing::Values(
        Case{"missing_data",
             kIo,
             "no.txt: no such file",
             {"run", "r.toml"},
             recipe("data.task = \"text\"\ndata.train = [\"no.txt\"]")},
        Case{"tokenizer_in_capitals",
             kInput,
             "--set data.tokenizer=BPE: 'BPE' is neither byte nor bpe, and no file or folder; did you mean "
             "'bpe'?",
             {"run", "r.toml", "--set", "data.tokenizer=BPE", "--set", "data.vocab_size=300"},
             text_recipe("a.txt", "a")},
        Case{"unset_variable_of_a_model",
             kInput,
             "'$EXACTMAMBA_NO_SUCH_VARIABLE/m': the environment variable EXACTMAMBA_NO_SUCH_VARIABLE is not "
             "set",
             {"run", "r.toml"},
             recipe("model.from = \"$EXACTMAMBA_NO_SUCH_VARIABLE/m\"")},
        Case{"unset_variable",
             kInput,
             "EXACTMAMBA_NO_SUCH_VARIABLE",
             {"run", "r.toml"},
             recipe("data.task = \"text\"\ndata.train = [\"$EXACTMAMBA_NO_SUCH_VARIABLE/a.txt\"]")},
        Case{"empty_data",
             kInput,
             "r.toml:4:14: data.train: there is nothing in a.txt",
             {"train", "r.toml"},
             both([](const fs::path& folder) { write(folder / "a.txt", ""); },
                  recipe("data.task = \"text\"\ndata.train = [\"a.txt\"]"))},
        Case{"all_data_files_are_empty",
             kInput,
             "r.toml:4:14: data.train: there is nothing in a.txt, b.txt.gz",
             {"train", "r.toml"},
             [](const fs::path& folder) {
               write(folder / "a.txt", "");
               write(folder / "b.txt.gz",
                     std::string("\x1f\x8b\x08\0\0\0\0\0\0\x03\x03\0\0\0\0\0\0\0\0\0", 20));
               recipe("data.task = \"text\"\ndata.train = [\"a.txt\", \"b.txt.gz\"]")(folder);
             }},
        Case{"cache_in_a_file",
             kIo,
             "--set data.cache=a.txt/c: data.cache: a.txt is a file; choose another folder",
             {"validate", "r.toml", "--set", "data.cache=a.txt/c"},
             text_recipe("a.txt", std::string(5000, 'a'))},
        Case{"tokenizer_of_generated_strings",
             kInput,
             "--set data.tokenizer=copy: the tokenizer copy has only the letters of data.task = \"copy\"",
             {"validate", "r.toml", "--set", "data.tokenizer=copy"},
             text_recipe("a.txt", std::string(5000, 'a'))},
        Case{"output_that_cannot_be_made",
             kIo,
             "r.toml:1:14: run.output: /proc/out: cannot make the folder: ",
             {"train", "r.toml"},
             [](const fs::path& folder) {
               write(folder / "r.toml", "run.output = \"/proc/out\"\ntrain.steps = 2\n");
             }},
        Case{"data_is_not_utf8", kInput, "a.txt:1", {"run", "r.toml"}, text_recipe("a.txt", "a\xff")},
        Case{"jsonl_without_text",
             kInput,
             "a.jsonl:1",
             {"run", "r.toml"},
             text_recipe("a.jsonl", "{\"body\": \"x\"}\n")},
        Case{"jsonl_is_broken",
             kInput,
             "a.jsonl:2",
             {"run", "r.toml"},
             text_recipe("a.jsonl", "{\"text\": \"x\"}\n{\n")},
        Case{
            "truncated_gzip", kInput, "a.txt.gz", {"run", "r.toml"}, text_recipe("a.txt.gz", "\x1f\x8b\x08")},
        Case{"no_validation_data",
             kInput,
             "data.valid is empty",
             {"run", "r.toml"},
             both(text_recipe("a.txt", std::string(5000, 'a')),
                  recipe("data.task = \"text\"\ndata.train = [\"a.txt\"]"))}),
    test_name);

// ---- outputs ----

void other_files(const fs::path& folder) {
  recipe("")(folder);
  fs::create_directory(folder / "out");
  write(folder / "out" / "precious", "x");
}

/// As it is while another process, here this one, writes the first file.
void begun_by_another(const fs::path& folder) {
  recipe("")(folder);
  fs::create_directory(folder / "out");
  write(folder / "out" / (".run.json.tmp-" + std::to_string(::getpid())), "");
}

void foreign_folder(const fs::path& folder) {
  fs::create_directory(folder / "o");
  write(folder / "o" / "thesis.tex", "x");
}

INSTANTIATE_TEST_SUITE_P(
    Output, BadInput,
    ::testing::Values(
        Case{"output_holds_other_files", kIo, "out: holds other files", {"run", "r.toml"}, other_files},
        Case{"output_in_a_training",
             kIo,
             "out/step/inner: lies in the folder of a training, ",
             {"run", "r.toml", "--set", "run.output=out/step/inner"},
             [](const fs::path& folder) {
               other_files(folder);
               fs::create_directories(folder / "out/step");
               write(folder / "out/step/trainer.json", "{}");
             }},
        Case{"output_of_another_process",
             kIo,
             "out: another exactmamba has just begun to work there; wait for it",
             {"run", "r.toml"},
             begun_by_another},
        Case{"output_is_a_file",
             kIo,
             "r.toml:1:14: run.output: out is a file; choose another folder",
             {"run", "r.toml", "--overwrite"},
             both(recipe(""), [](const fs::path& folder) { write(folder / "out", "x"); })},
        Case{"output_in_a_file_of_a_recipe",
             kIo,
             "--set run.output=r.toml/a/b: run.output: r.toml is a file",
             {"validate", "r.toml", "--set", "run.output=r.toml/a/b"},
             recipe("")},
        Case{"default_output_is_a_file",
             kIo,
             "error: run.output: runs/q is a file",
             {"validate", "q.toml"},
             [](const fs::path& folder) {
               fs::create_directory(folder / "runs");
               write(folder / "runs/q", "x");
               write(folder / "q.toml", "train.steps = 2\n");
             }},
        Case{"read_only_output",
             kIo,
             "/proc/exactmamba",
             {"run", "r.toml", "--set", "run.output=/proc/exactmamba"},
             recipe("")},
        Case{"existing_file",
             kIo,
             "o: exists already; choose another name or give --overwrite",
             {"forward", "m", "--ids", "1", "--output", "o"},
             both(model("mamba2-hf"), [](const fs::path& folder) { write(folder / "o", "x"); })},
        Case{"existing_folder",
             kIo,
             "m: exists already",
             {"convert", "m", "--output", "m"},
             model("mamba2-hf")},
        Case{"convert_over_foreign_files",
             kIo,
             "o: holds 'thesis.tex', which would be deleted",
             {"convert", "m", "--output", "o", "--overwrite"},
             both(model("mamba2-hf"), foreign_folder)},
        Case{"decompose_over_foreign_files",
             kIo,
             "o: is a folder, and --output must name a file",
             {"decompose", "m", "--ids", "1,2", "--output", "o", "--overwrite"},
             both(model("mamba2-hf"), foreign_folder)},
        Case{"output_in_a_file",
             kIo,
             "m/config.json: is a file, and not a folder to write m/config.json/o into",
             {"convert", "m", "--output", "m/config.json/o"},
             model("mamba2-hf")},
        Case{"read_only_file",
             kIo,
             "/proc/o",
             {"forward", "m", "--ids", "1", "--output", "/proc/o"},
             model("mamba2-hf")},
        Case{"no_space_left",
             kIo,
             "cannot write o: File too large",
             {"forward", "m", "--ids", "1,2,3", "--output", "o"},
             model("mamba2-hf"),
             {},
             1000},
        Case{"no_space_left_for_a_model",
             kIo,
             "o",
             {"convert", "m", "--output", "o"},
             model("mamba2-hf"),
             {},
             50000},
        Case{"full_stdout",
             kIo,
             "stdout: cannot write: No space left on device",
             {"validate", "--reference"},
             [](const fs::path&) {},
             "/dev/full"},
        Case{"full_stdout_for_help",
             kIo,
             "stdout: cannot write: No space left on device",
             {"run", "--help"},
             [](const fs::path&) {},
             "/dev/full"},
        Case{"full_stdout_for_a_short_result",
             kIo,
             "stdout: cannot write: No space left on device",
             {"generate", "m", "--ids", "1", "--max-new-tokens", "1"},
             model("mamba2-hf"),
             "/dev/full"},
        Case{"compute_dtype_of_a_gpu",
             kInput,
             "--compute-dtype is bfloat16, but a CPU computes in --dtype = float32",
             {"generate", "m", "--ids", "1", "--device", "cpu", "--compute-dtype", "bfloat16"},
             model("mamba2-hf")},
        Case{"training_in_a_dtype_of_a_gpu",
             kInput,
             "error: --set train.compute_dtype=bfloat16: train.compute_dtype is bfloat16, but a CPU computes "
             "in train.dtype = float32",
             {"train", "r.toml", "--set", "run.device=cpu", "--set", "train.compute_dtype=bfloat16"},
             recipe("")},
        Case{"padding_is_no_token",
             kInput,
             "token 0 has id 101, but the model's vocabulary has 101 entries (ids 0 to 100)",
             {"forward", "m", "--ids", "101", "--output", "o"},
             model("mamba1-ss")},
        Case{"padding_is_no_target",
             kInput,
             "--targets: target 1 has id 101, but the model's vocabulary has 101 entries",
             {"decompose", "m", "--ids", "1,2", "--targets", "1,101", "--output", "o", "--set",
              "decompose.methods=[\"alti_logit\"]"},
             model("mamba1-ss")},
        Case{"stop_at_padding",
             kInput,
             "--stop: 101 is no token of the model, which has ids 0 to 100",
             {"generate", "m", "--ids", "1", "--stop", "101"},
             model("mamba1-ss")},
        Case{"layer_twice",
             kInput,
             "model.mimetic_layers has layer 0 twice",
             {"validate", "r.toml", "--set", "model.init=mimetic", "--set", "model.mimetic_layers=[0,1,0]"},
             recipe("")},
        Case{"states_of_a_gpu",
             kInput,
             "states in bfloat16 are for models on a GPU",
             {"generate", "m", "--ids", "1", "--device", "cpu", "--bfloat16-states"},
             model("mamba2-hf")},
        Case{"report_without_run", kInput, "there is no finished stage", {"report", "r.toml"}, recipe("")},
        Case{"evaluate_without_training",
             kInput,
             "there is no finished stage",
             {"evaluate", "r.toml"},
             recipe("")},
        Case{"decompose_without_training",
             kInput,
             "there is no finished stage",
             {"decompose", "r.toml"},
             recipe("")}),
    test_name);

// ---- models ----

const std::vector<std::string> kForward = {"forward", "m", "--ids", "1,2", "--output", "o"};

INSTANTIATE_TEST_SUITE_P(
    Model, BadInput,
    ::testing::Values(
        Case{"missing_model", kIo, "m", kForward},
        Case{"file_for_a_model", kIo, "m is not a folder with a model", kForward,
             [](const fs::path& folder) { write(folder / "m", "x"); }},
        Case{"missing_path", kIo, "no such file", {"inspect", "m"}},
        Case{"missing_model_to_decompose",
             kIo,
             "m: no such model folder",
             {"decompose", "m", "--ids", "1", "--output", "o"}},
        Case{"missing_model_or_recipe_to_decompose",
             kIo,
             "cannot read m: No such file or directory",
             {"decompose", "m"}},
        Case{"missing_model_to_generate", kIo, "m is not a folder", {"generate", "m", "--ids", "1"}},
        Case{"missing_model_to_translate",
             kIo,
             "m is not a folder with a model or a run: there is nothing of this name",
             {"translate", "m"}},
        Case{"file_to_translate_with",
             kIo,
             "r.toml is not a folder with a model or a run: it is a file",
             {"translate", "r.toml"},
             recipe("")},
        Case{"missing_model_to_convert", kIo, "m is not a folder", {"convert", "m", "--output", "o"}},
        Case{"missing_model_to_evaluate",
             kIo,
             "m is not a folder",
             {"evaluate", "r.toml", "--model", "m"},
             recipe("data.held_out = 4")},
        Case{"missing_config", kIo, "config.json", kForward,
             model("mamba2-hf", [](const fs::path& m) { fs::remove(m / "config.json"); })},
        Case{"missing_weights", kIo, "m", kForward,
             model("mamba2-hf", [](const fs::path& m) { fs::remove(m / "model.safetensors"); })},
        Case{"broken_config", kInput, "config.json:1:", kForward,
             model("mamba2-hf", [](const fs::path& m) { write(m / "config.json", "{,"); })},
        Case{"deep_config", kInput, "config.json:1:", kForward,
             model("mamba2-hf",
                   [](const fs::path& m) { write(m / "config.json", std::string(100000, '[')); })},
        Case{"unknown_model_type", kInput, "llama", kForward,
             model("mamba2-hf",
                   [](const fs::path& m) {
                     replace_in(m / "config.json", "\"model_type\": \"mamba2\"", "\"model_type\": \"llama\"");
                   })},
        Case{"wrong_shape", kInput, "do not fit config.json", kForward,
             model("mamba2-hf",
                   [](const fs::path& m) {
                     replace_in(m / "config.json", "\"state_size\": 16", "\"state_size\": 8");
                   })},
        Case{"truncated_weights", kInput, "model.safetensors", kForward,
             model("mamba2-hf", truncate_weights)},
        Case{"huge_header", kInput, "model.safetensors", kForward,
             model("mamba2-hf",
                   [](const fs::path& m) {
                     write(m / "model.safetensors", "\xff\xff\xff\xff\xff\xff\xff\x7f{}");
                   })},
        Case{"nan_weights", kNumerical, "] is nan\n", kForward, model("mamba2-hf", poison_weights)},
        Case{"broken_torch_file", kInput, "pytorch_model.bin", kForward,
             model("mamba2-ss", [](const fs::path& m) { fs::resize_file(m / "pytorch_model.bin", 3000); })},
        Case{"id_beyond_vocabulary",
             kInput,
             "token 1 has id 500, but the model's vocabulary has 112 entries",
             {"forward", "m", "--ids", "1,500", "--output", "o"},
             model("mamba2-hf")},
        Case{"text_beyond_vocabulary",
             kInput,
             "vocabulary has 112 entries (ids 0 to 111); bytes are not its tokens: give --tokenizer copy",
             {"generate", "m", "--text", "\xc3\xa9"},
             model("mamba2-hf")},
        Case{"data_beyond_vocabulary",
             kInput,
             "vocabulary",
             {"run", "r.toml"},
             both(both(model("mamba2-hf"), text_recipe("a.txt", std::string(5000, 'a'))),
                  [](const fs::path& folder) {
                    write(folder / "r.toml",
                          testing::content_of(folder / "r.toml") + "\nmodel.from = \"m\"\n");
                  })},
        Case{"sizes_beside_from",
             kInput,
             "model.d_model",
             {"run", "r.toml"},
             both(model("mamba2-hf"), recipe("model.from = \"m\"\nmodel.d_model = 3"))},
        Case{"missing_names",
             kIo,
             "names.toml",
             {"convert", "m", "--names", "names.toml", "--output", "o"},
             model("mamba2-hf")},
        Case{"relu_to_state_spaces",
             kInput,
             "relu",
             {"convert", "m", "--to", "state-spaces", "--output", "o"},
             model("mamba2-hf",
                   [](const fs::path& m) {
                     replace_in(m / "config.json", "{", "{\"conv_activation\": \"relu\",");
                   })}),
    test_name);

// ---- links that lead nowhere ----

void loop(const fs::path& folder) { fs::create_symlink("loop", folder / "loop"); }

INSTANTIATE_TEST_SUITE_P(
    Loop, BadInput,
    ::testing::Values(
        Case{"inspected", kIo, "error: loop: Too many levels of symbolic links\n", {"inspect", "loop"}, loop},
        Case{"generated", kIo, "error: loop: Too many levels", {"generate", "loop", "--ids", "1"}, loop},
        Case{"converted", kIo, "error: loop: Too many levels", {"convert", "loop", "--output", "o"}, loop},
        Case{"decomposed", kIo, "error: loop: Too many levels", {"decompose", "loop", "--ids", "1"}, loop},
        Case{
            "read_as_a_recipe", kIo, "loop: Too many levels of symbolic links\n", {"validate", "loop"}, loop},
        Case{"trained_from",
             kIo,
             "error: loop: Too many levels",
             {"validate", "r.toml"},
             both(recipe("model.from = \"loop\""), loop)},
        Case{"read_as_data",
             kIo,
             "loop: Too many levels",
             {"validate", "r.toml"},
             both(recipe("data.task = \"text\"\ndata.train = [\"loop\"]"), loop)},
        Case{"written_to",
             kIo,
             "error: loop: Too many levels",
             {"validate", "r.toml", "--set", "run.output=loop"},
             both(recipe(""), loop)}),
    test_name);

// ---- finite weights, results that are not ----

/// The model beside a recipe whose data fit its vocabulary.
std::function<void(const fs::path&)> evaluated(const std::function<void(const fs::path&)>& edit) {
  return both(model("mamba2-hf", edit), recipe("data.held_out = 4"));
}

INSTANTIATE_TEST_SUITE_P(
    Overflow, BadInput,
    ::testing::Values(Case{"forward_layer",
                           kNumerical,
                           "m: the residual stream after layer 1 overflows in float32: element [0, ",
                           {"forward", "m", "--ids", "1,2,3", "--output", "o"},
                           model("mamba2-hf", overflowing_layer)},
                      Case{"forward_logits",
                           kNumerical,
                           "m: logits overflows in float32: element [0, ",
                           {"forward", "m", "--ids", "1,2,3", "--blocks", "--output", "o"},
                           model("mamba2-hf", overflowing_logits)},
                      Case{"forward_logits_to_stdout",
                           kNumerical,
                           "logits",
                           {"forward", "m", "--ids", "1,2,3", "--output", "-"},
                           model("mamba2-hf", overflowing_logits)},
                      Case{"generate",
                           kNumerical,
                           "the model's logits are not finite",
                           {"generate", "m", "--ids", "1,2,3"},
                           model("mamba2-hf", overflowing_logits)},
                      Case{"evaluate",
                           kNumerical,
                           "generation: the model's logits are not finite",
                           {"evaluate", "r.toml", "--model", "m"},
                           evaluated(overflowing_logits)},
                      Case{"evaluate_teacher_forced",
                           kNumerical,
                           "the validation loss is nan: the model's logits are not finite",
                           {"evaluate", "r.toml", "--model", "m", "--set", "evaluate.free_running=false"},
                           evaluated(overflowing_layer)},
                      Case{"decompose",
                           kNumerical,
                           "row 0, layer 1: ",
                           {"decompose", "m", "--ids", "1,2,3", "--output", "o"},
                           model("mamba2-hf", overflowing_layer)},
                      Case{
                          "decompose_logits",
                          kNumerical,
                          "row 0, layer 0: the map alti_logit · activation holds a number that is not finite",
                          {"decompose", "m", "--ids", "1,2,3", "--output", "o", "--set",
                           "decompose.methods=[\"alti_logit\"]"},
                          model("mamba2-hf", overflowing_logits)},
                      Case{"decompose_full",
                           kNumerical,
                           "row 0, layer 1: the contributions of activation hold a number that is not finite",
                           {"decompose", "m", "--ids", "1,2,3", "--full", "--output", "o"},
                           model("mamba2-hf", overflowing_layer)}),
    test_name);

// ---- places where an output would do harm ----

std::function<void(const fs::path&)> model_and(const std::vector<std::string>& files) {
  return both(model("mamba2-hf"), [files](const fs::path& folder) {
    for (const std::string& file : files) {
      fs::create_directories((folder / file).parent_path());
      write(folder / file, "{}");
    }
  });
}

INSTANTIATE_TEST_SUITE_P(
    OutputPlace, BadInput,
    ::testing::Values(Case{"the_model_itself",
                           kIo,
                           "./m/: is, or lies in, the model that is read, m",
                           {"convert", "m", "--output", "./m/", "--overwrite"},
                           model("mamba2-hf")},
                      Case{"through_a_link",
                           kIo,
                           "link: is, or lies in, the model that is read, m",
                           {"convert", "m", "--output", "link", "--overwrite"},
                           both(model("mamba2-hf"),
                                [](const fs::path& folder) {
                                  fs::create_directory_symlink("m", folder / "link");
                                })},
                      Case{"inside_the_model",
                           kIo,
                           "m/sub/o: is, or lies in, the model that is read, m",
                           {"convert", "m", "--output", "m/sub/o"},
                           model("mamba2-hf")},
                      Case{"of_forward",
                           kIo,
                           "m/model.safetensors: is, or lies in, the model that is read, m",
                           {"forward", "m", "--ids", "1", "--output", "m/model.safetensors", "--overwrite"},
                           model("mamba2-hf")},
                      Case{"of_decompose",
                           kIo,
                           "m/model.safetensors: is, or lies in, the model that is read, m",
                           {"decompose", "m", "--ids", "1", "--output", "m/model.safetensors", "--overwrite"},
                           model("mamba2-hf")},
                      Case{"a_run",
                           kIo,
                           "out: is, or lies in, the folder of a run, ",
                           {"convert", "m", "--output", "out", "--overwrite"},
                           model_and({"out/run.json", "out/stages/train-0/stage.json"})},
                      Case{"among_stages",
                           kIo,
                           "out/stages/sub: is, or lies in, the folder of a run, ",
                           {"convert", "m", "--output", "out/stages/sub"},
                           model_and({"out/run.json", "out/stages/train-0/stage.json"})},
                      Case{"a_tokenizer_in_the_place_of_a_run_s_recipe",
                           kIo,
                           "out/recipe.toml: is, or lies in, the folder of a run, ",
                           {"train-tokenizer", "a.txt", "--vocab-size", "300", "--output", "out/recipe.toml",
                            "--overwrite"},
                           model_and({"a.txt", "out/run.json", "out/recipe.toml"})},
                      Case{"no_name",
                           kUsage,
                           "--output: is empty; give at least one folder",
                           {"convert", "m", "--output", ""},
                           model("mamba2-hf")},
                      Case{"recipe_of_a_run",
                           kIo,
                           "out/recipe.toml: is, or lies in, the folder of a run, ",
                           {"forward", "m", "--ids", "1", "--output", "out/recipe.toml", "--overwrite"},
                           model_and({"out/run.json", "out/recipe.toml"})},
                      Case{"report_of_a_run",
                           kIo,
                           "out/report.json: is, or lies in, the folder of a run, ",
                           {"decompose", "m", "--ids", "1", "--output", "out/report.json", "--overwrite"},
                           model_and({"out/run.json", "out/recipe.toml", "out/report.json"})},
                      Case{"a_link_of_a_run",
                           kIo,
                           "out/recipe.toml: is, or lies in, the folder of a run, ",
                           {"forward", "m", "--ids", "1", "--output", "out/recipe.toml", "--overwrite"},
                           both(model_and({"out/run.json", "out/stages/sub", "elsewhere"}),
                                [](const fs::path& folder) {
                                  fs::create_symlink("../elsewhere", folder / "out/recipe.toml");
                                })},
                      Case{"a_run_as_the_working_folder",
                           kIo,
                           "new: is, or lies in, the folder of a run, ",
                           {"convert", "m", "--output", "new"},
                           model_and({"run.json", "recipe.toml"})},
                      Case{"of_a_training",
                           kIo,
                           "is, or lies in, the folder of a training, ",
                           {"forward", "m", "--ids", "1", "--output", "c/model.safetensors", "--overwrite"},
                           model_and({"c/trainer.json", "c/model.safetensors"})},
                      Case{"of_another_model",
                           kIo,
                           "n/model.safetensors: is, or lies in, the folder of a model, ",
                           {"decompose", "m", "--ids", "1", "--output", "n/model.safetensors", "--overwrite"},
                           model_and({"n/config.json", "n/model.safetensors"})},
                      Case{"a_stage",
                           kIo,
                           "is, or lies in, the folder of a training, ",
                           {"convert", "m", "--output", "out/stages/train-0", "--overwrite"},
                           model_and({"out/run.json", "out/stages/train-0/stage.json"})},
                      Case{"among_checkpoints",
                           kIo,
                           "is, or lies in, the folder of a training, ",
                           {"convert", "m", "--output", "t/checkpoints/step-00000009"},
                           model_and({"t/metrics.jsonl", "t/checkpoints/step-00000003/trainer.json"})},
                      Case{"in_a_training_that_has_begun",
                           kIo,
                           "is, or lies in, the folder of a training, ",
                           {"convert", "m", "--output", "t/published"},
                           model_and({"t/begun.json"})},
                      Case{"a_checkpoint",
                           kIo,
                           "is, or lies in, the folder of a training, ",
                           {"convert", "m", "--output", "c", "--overwrite"},
                           model_and({"c/trainer.json"})}),
    test_name);

}  // namespace
}  // namespace exactmamba::cli
