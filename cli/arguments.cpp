#include "cli/arguments.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include <ATen/Parallel.h>
#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "cli/commands.h"
#include "cli/completion.h"
#include "cli/output.h"
#include "core/device.h"
#include "core/dtype.h"
#include "core/error.h"
#include "core/log.h"
#include "core/nearest.h"
#include "data/line_reader.h"
#include "data/tokenizers/bpe_spec.h"
#include "eval/alignment/files.h"
#include "eval/alignment/symmetrise.h"
#include "eval/bleu.h"
#include "eval/comet/comet_config.h"
#include "models/placement.h"

namespace exactmamba::cli {
namespace {

using Command = std::function<void()>;

/// What data::open_tokenizer() takes.
constexpr const char* kTokenizers =
    "byte, copy, a tokenizer.json (byte-level BPE), a SentencePiece model (.model, .spm), or the folder that "
    "has tokenizer.json or tokenizer.model";

/// What model_of() takes.
constexpr const char* kModelOrRun =
    "Model folder (Hugging Face or state-spaces form), or the folder of a run: the model that it has trained";

/// The program's arguments while they are declared; `selected` is what the parsed subcommand wants to do.
struct Declaration {
  CLI::App app{
      "exactmamba trains Mamba language models and splits their outputs exactly over the input tokens.",
      "exactmamba"};
  std::vector<std::string> command_line;
  Command selected;
};

void apply(const CommonArguments& common) {
  if (common.quiet) core::set_verbosity(core::Verbosity::kQuiet);
  if (common.threads > 0) at::set_num_threads(static_cast<int>(common.threads));
}

template <class Arguments>
CommonArguments& common_of(Arguments& arguments) {
  if constexpr (requires { arguments.common; })
    return arguments.common;
  else if constexpr (requires { arguments.recipe; })
    return common_of(arguments.recipe);
  else if constexpr (requires { arguments.score; })
    return common_of(arguments.score);
  else
    return common_of(arguments.model);
}

/// A subcommand and its struct of arguments, which lives as long as the program's arguments.
template <class Arguments>
struct Subcommand {
  CLI::App& command;
  Arguments& arguments;
};

/// Of the program, or of one of its commands.
template <class Arguments>
Subcommand<Arguments> add_command_to(CLI::App& parent, Declaration& program, const std::string& name,
                                     const std::string& help, const std::string& example,
                                     void (*function)(const Arguments&)) {
  auto arguments = std::make_shared<Arguments>();
  CommonArguments& shared = common_of(*arguments);
  CLI::App& command = *parent.add_subcommand(name, help);
  command.footer("Example:\n  " + example);
  command.add_flag("--quiet", shared.quiet, "No progress and messages; warnings and errors stay");
  command.add_flag("--json", shared.json, "The result as JSON");
  command.callback([&program, arguments, function, &shared] {
    program.selected = [arguments, function, &shared] {
      apply(shared);
      function(*arguments);
    };
  });
  return {command, *arguments};
}

template <class Arguments>
Subcommand<Arguments> add_command(Declaration& program, const std::string& name, const std::string& help,
                                  const std::string& example, void (*function)(const Arguments&)) {
  return add_command_to(program.app, program, name, help, example, function);
}

CLI::Option* add_recipe(CLI::App& command, RecipeArguments& arguments, const std::string& name = "recipe") {
  command
      .add_option("--set", arguments.sets,
                  "KEY=VALUE instead of what the recipe says, e.g. train.lr=1e-3; KEY= takes away what it "
                  "says; may be repeated")
      ->take_all()
      ->allow_extra_args(false);
  return command.add_option(name, arguments.file, "Recipe in TOML; - reads stdin");
}

/// `what` of --output.
void add_overwrite(CLI::App& command, bool& overwrite, const std::string& what = "the file") {
  command.add_flag("--overwrite", overwrite,
                   fmt::format("Replace {} that --output names, if it is there already", what));
}

/// Of commands that compute.
template <class Arguments>
void add_threads(const Subcommand<Arguments>& subcommand) {
  subcommand.command
      .add_option("--threads", common_of(subcommand.arguments).threads, "Threads to use; default: all cores")
      ->check(CLI::Range(int64_t{1}, kMostThreads));
}

void add_on_invalid_utf8(CLI::App& command, std::string& on_invalid_utf8) {
  command
      .add_option("--on-invalid-utf8", on_invalid_utf8,
                  "fail (default), or replace what is not UTF-8 by U+FFFD")
      ->check(CLI::IsMember(core::choices_of(data::kOnInvalidUtf8Names)));
}

/// CLI::PositiveNumber says its range with all digits of the greatest number.
std::string from_1_on(const std::string& text) {
  int64_t value = 0;
  const bool fits = CLI::detail::lexical_cast(text, value) && value >= 1;
  return fits ? "" : fmt::format("{} is no whole number from 1 on", text);
}

/// CLI11 would say "Could not convert", and not what is expected. Number: the type of the option's value.
template <class Number>
std::string from_0_on(const std::string& text) {
  Number value = 0;
  const bool fits = !text.starts_with('-') && CLI::detail::lexical_cast(text, value);
  return fits ? ""
              : fmt::format("{} is no whole number from 0 to {}", text, std::numeric_limits<Number>::max());
}

std::string a_number(const std::string& text) {
  double value = 0;
  return CLI::detail::lexical_cast(text, value) && std::isfinite(value)
             ? ""
             : fmt::format("{} is no number, as 1 or 0.5 is", text);
}

/// For values that must have at least one `thing`.
std::function<std::string(const std::string&)> not_empty(const std::string& thing) {
  return [thing](const std::string& text) {
    return text.empty() ? fmt::format("is empty; give at least one {}", thing) : "";
  };
}

void add_tokens(CLI::App& command, TokenArguments& tokens) {
  auto* ids = command.add_option("--ids", tokens.ids, "Token ids, e.g. 1,2,3; - reads stdin")
                  ->check(not_empty("token id"));
  command.add_option("--text", tokens.text, "Text for --tokenizer")
      ->check(not_empty("character"))
      ->excludes(ids);
  command
      .add_option("--tokenizer", tokens.tokenizer,
                  fmt::format("How text becomes ids; default: the one that the model's folder carries, copy "
                              "for a checkpoint of that task, or byte. {}",
                              kTokenizers))
      ->excludes(ids);
}

void add_cu_seqlens(CLI::App& command, TokenArguments& tokens) {
  command.add_option("--cu-seqlens", tokens.cu_seqlens, "Where packed sequences begin and end, e.g. 0,3,7")
      ->check(not_empty("pair of boundaries"));
}

/// Where a model computes, and in what.
void add_placement(CLI::App& command, ModelArguments& model) {
  command.add_option("--dtype", model.dtype, "float32 (default) or float64")
      ->check(CLI::IsMember(core::choices_of(core::kComputeDtypeNames)));
  command
      .add_option("--device", model.device,
                  "auto (default): a GPU if there is one and --dtype is float32; cpu or cuda")
      ->check(CLI::IsMember(core::choices_of(core::kDeviceNames)));
  command
      .add_option(
          "--compute-dtype", model.compute_dtype,
          "What a GPU multiplies and keeps activations in: float32 (default), tf32, bfloat16 or float16")
      ->check(CLI::IsMember(core::choices_of(models::kGpuComputeNames)));
}

void add_model(CLI::App& command, ModelArguments& model) {
  command.add_option("model", model.model, kModelOrRun)->required();
  add_tokens(command, model.tokens);
  add_placement(command, model);
}

/// A command that trains the models of a recipe in run.output.
void add_training(Declaration& program, const std::string& name, const std::string& help,
                  const std::string& example, void (*function)(const TrainingArguments&)) {
  const auto subcommand = add_command(program, name, help, example, function);
  add_threads(subcommand);
  auto& [command, arguments] = subcommand;
  arguments.command_line = program.command_line;
  add_recipe(command, arguments.recipe)->required();
  command.add_flag(
      "--overwrite", arguments.recipe.overwrite,
      "Use run.output although it holds other files or a changed recipe.toml, which is replaced");
  CLI::Option* processes =
      command.add_option("--processes", arguments.processes, "Train in so many processes, on the CPU")
          ->check(from_1_on);
  command.add_option("--gpus", arguments.gpus, "Train on so many GPUs, or all; a process each")
      ->excludes(processes);
}

void add_run(Declaration& program) {
  add_training(program, "run",
               "Train, decompose, evaluate and report; finished stages are reused, interrupted ones continue",
               "exactmamba run recipes/quickstart.toml --set train.steps=500", run);
}

void add_train(Declaration& program) {
  add_training(program, "train", "Only the training of a recipe; prints the checkpoints",
               "exactmamba train recipe.toml --set train.lr=1e-3", train);
}

void add_decompose(Declaration& program) {
  const auto subcommand = add_command(
      program, "decompose",
      "Split outputs over input tokens, on the CPU: of a recipe's trained models, or of one model folder for "
      "given tokens",
      "exactmamba decompose recipe.toml\n  exactmamba decompose MODEL --ids 5,9,3 --output maps.safetensors "
      "--set 'decompose.methods=[\"alti\"]'\n"
      "  exactmamba decompose MODEL --ids 5,9,3 --full --set decompose.dtype=float64 --output "
      "contributions.safetensors",
      decompose);
  add_threads(subcommand);
  auto& [command, arguments] = subcommand;
  add_recipe(command, arguments.recipe, "recipe-or-model")
      ->required()
      ->description(fmt::format("Recipe in TOML. Or: {}", kModelOrRun));
  add_tokens(command, arguments.model.tokens);
  add_cu_seqlens(command, arguments.model.tokens);
  command.add_option(
      "--targets", arguments.targets,
      "Whose logit alti_logit splits at each position: predicted (default), next, or token ids");
  command.add_flag("--full", arguments.full, "T_i(x_j) itself, for short inputs, as safetensors");
  command.add_option("--output", arguments.model.output, "Safetensors file to write; - for stdout")
      ->check(not_empty("file"));
  add_overwrite(command, arguments.model.overwrite);
}

void add_evaluate(Declaration& program) {
  const auto subcommand = add_command(
      program, "evaluate",
      "Measure a recipe's trained models, or another model on the recipe's validation data, on the CPU",
      "exactmamba evaluate recipe.toml\n  exactmamba evaluate recipe.toml --model MODEL --json", evaluate);
  add_threads(subcommand);
  auto& [command, arguments] = subcommand;
  add_recipe(command, arguments.recipe)->required();
  command.add_option("--model", arguments.model, fmt::format("Measured instead: {}", kModelOrRun))
      ->check(not_empty("model"));
}

void add_report(Declaration& program) {
  auto [command, arguments] =
      add_command(program, "report", "Write report.json, .md, .csv, .tex and .html from finished stages",
                  "exactmamba report recipe.toml --set report.map_rows=4", report);
  add_recipe(command, arguments)->required();
}

void add_validate(Declaration& program) {
  auto [command, arguments] =
      add_command(program, "validate",
                  "Check a recipe; show its effective values with their origin, and what its runs will need",
                  "exactmamba validate recipe.toml --set model.d_model=128", validate);
  add_recipe(command, arguments.recipe);
  command
      .add_flag("--reference", arguments.reference,
                "Print the reference of all options (docs/recipes.md) instead")
      ->excludes(command.get_option("recipe"), command.get_option("--set"), command.get_option("--json"));
}

void add_inspect(Declaration& program) {
  auto [command, arguments] = add_command(
      program, "inspect", "Show what is in a checkpoint: config, tensors, parameters, state of training",
      "exactmamba inspect runs/quickstart/stages/train-0123456789ab/checkpoints/step-00001000", inspect);
  command.add_option("path", arguments.path, fmt::format("{}; or a .safetensors or .bin file", kModelOrRun))
      ->required();
}

void add_convert(Declaration& program) {
  const auto subcommand =
      add_command(program, "convert", "Write a model folder in another form, with a model card",
                  "exactmamba convert MODEL --to state-spaces --dtype float16 --output published", convert);
  add_threads(subcommand);
  auto& [command, arguments] = subcommand;
  command.add_option("model", arguments.model, kModelOrRun)->required();
  command.add_option("--to", arguments.to, "hf (default) or state-spaces")
      ->check(CLI::IsMember({"hf", "state-spaces"}));
  command.add_option("--names", arguments.names, "TOML table of foreign tensor names");
  command
      .add_option("--dtype", arguments.dtype,
                  "float32, float16, bfloat16 or float64; default: as it is stored, float32 if dtypes differ")
      ->check(CLI::IsMember(core::choices_of(core::kStorageDtypeNames)));
  command.add_option("--licence", arguments.licence,
                     "Licence of the weights as model hubs spell it, e.g. apache-2.0; default: not stated");
  command.add_option("--output", arguments.output, "Folder to write")->required()->check(not_empty("folder"));
  add_overwrite(command, arguments.overwrite, "the model folder");
}

/// CLI::Range has its lower bound in it, and nan.
std::function<std::string(const std::string&)> above_0_to(double most) {
  return [most](const std::string& text) {
    double value = 0;
    const bool fits = CLI::detail::lexical_cast(text, value) && value > 0 && value <= most;
    return fits ? "" : fmt::format("{} is no number above 0 and at most {}", text, most);
  };
}

template <class Number>
CLI::Option* add_length_penalty(CLI::App& command, Number& length_penalty) {
  return command
      .add_option("--length-penalty", length_penalty,
                  "α of a hypothesis' score, log p / length^α, its end counted; default 1; 0: log p itself")
      ->check(a_number);
}

/// A beam has no more results than hypotheses.
void limit_n_best(CLI::App& command, const int64_t& n_best, std::function<int64_t()> beam) {
  command.parse_complete_callback([&n_best, beam = std::move(beam)] {
    if (n_best > beam())
      throw CLI::ValidationError(
          "--n-best", fmt::format("a beam of {} has no {} results; give --beam {}", beam(), n_best, n_best));
  });
}

/// Beam search, sampling, or neither.
void add_choices_of_tokens(CLI::App& command, GenerateArguments& arguments) {
  CLI::Option* beam = command
                          .add_option("--beam", arguments.beam,
                                      "Beam search with so many hypotheses, as transformers does it")
                          ->check(CLI::Range(1, 1 << 16))
                          ->excludes("--bfloat16-states");
  add_length_penalty(command, arguments.length_penalty)->needs(beam);
  command
      .add_option("--temperature", arguments.temperature,
                  "Draw tokens, from the logits divided by it; 1 if only --top-k or --top-p is given")
      ->check(a_number)
      ->excludes(beam)
      ->excludes("--bfloat16-states");
  command.add_option("--top-k", arguments.top_k, "Draw one of the so many likeliest tokens")
      ->check(from_1_on)
      ->excludes(beam)
      ->excludes("--bfloat16-states");
  command
      .add_option("--top-p", arguments.top_p,
                  "Draw one of the likeliest tokens that together have this probability")
      ->check(above_0_to(1))
      ->excludes(beam)
      ->excludes("--bfloat16-states");
  command.add_option("--seed", arguments.seed, "Of what is drawn; default 0")
      ->check(from_0_on<int64_t>)
      ->excludes(beam);
  command
      .add_option(
          "--n-best", arguments.n_best,
          "So many results: the best of the beam with their scores before them, or samples; default 1")
      ->check(CLI::Range(1, 1 << 16));
  limit_n_best(command, arguments.n_best, [&arguments] { return arguments.beam.value_or(arguments.n_best); });
}

/// Many prompts, of a text each, instead of one.
void add_prompts(CLI::App& command, GenerateArguments& arguments) {
  CLI::Option* prompts =
      command
          .add_option(
              "--prompts", arguments.prompts,
              "File with texts to continue, one each line, plain or compressed; - reads stdin. Each has "
              "a line of output, line feeds in it written as blanks; --json: a line of JSON; with "
              "--n-best: NUMBER ||| TEXT, of a beam with ||| SCORE")
          ->excludes("--ids")
          ->excludes("--text");
  command
      .add_option(
          "--batch", arguments.batch,
          "Most prompts that are continued together; where a pipe has no more yet, so many as there are; "
          "default 32, from a terminal 1")
      ->check(from_1_on)
      ->needs(prompts);
  add_on_invalid_utf8(command, arguments.on_invalid_utf8);
  command.get_option("--on-invalid-utf8")->needs(prompts);
}

void add_generate(Declaration& program) {
  const auto subcommand = add_command(
      program, "generate",
      "Continue a prompt, or many: with the most likely tokens, by beam search, or with tokens that are "
      "drawn",
      "exactmamba generate MODEL --text 'Once upon a time' --max-new-tokens 50\n"
      "  exactmamba generate MODEL --prompts beginnings.txt --json > continuations.jsonl\n"
      "  exactmamba generate MODEL --text 'Once upon a time' --temperature 0.8 --top-p 0.95 --seed 1",
      generate);
  add_threads(subcommand);
  auto& [command, arguments] = subcommand;
  add_model(command, arguments.model);
  add_prompts(command, arguments);
  command.add_option("--max-new-tokens", arguments.max_new_tokens, "Most tokens to add; default 100")
      ->check(CLI::Range(1, 1 << 30));
  command
      .add_option("--max-ratio", arguments.max_ratio,
                  "Also at most so many tokens for each token of the prompt; rounded up")
      ->check(above_0_to(1e6));
  command.add_option("--stop", arguments.stop, "Token id that ends the text; -1: none")
      ->check(CLI::Range(int64_t{-1}, int64_t{1} << 40));
  command.add_flag(
      "--bfloat16-states", arguments.bfloat16_states,
      "On a GPU: keep the scan's states in bfloat16 instead of float32, which is faster for large "
      "Mamba-2 models");
  add_choices_of_tokens(command, arguments);
}

void add_translate(Declaration& program) {
  const auto subcommand = add_command(
      program, "translate",
      "Translate stdin to stdout, line by line, with a model that was trained on data.task = \"translation\"",
      "exactmamba translate runs/de-en < test.de > test.en\n  exactmamba translate MODEL --beam 1 --device "
      "cuda",
      translate);
  add_threads(subcommand);
  auto& [command, arguments] = subcommand;
  eval::TranslateOptions& options = arguments.options;
  command.add_option("model", arguments.model.model, kModelOrRun)->required();
  add_placement(command, arguments.model);
  command.add_option("--beam", options.beam, "Hypotheses of the beam search; default 5; 1: greedy")
      ->check(CLI::Range(1, 1 << 16));
  add_length_penalty(command, options.length_penalty);
  command
      .add_option("--max-ratio", options.max_ratio,
                  "Longest translation, in tokens for each token of its source; default 2.5")
      ->check(above_0_to(1e6));
  command
      .add_option("--n-best", options.n_best,
                  "So many translations of each line, as Moses writes them: NUMBER ||| TEXT ||| SCORE; "
                  "at most --beam")
      ->check(CLI::Range(1, 1 << 16));
  limit_n_best(command, options.n_best, [&options] { return options.beam; });
  command
      .add_option("--batch-tokens", options.batch_tokens,
                  "Lines translated together, times the tokens of the longest; default 2048")
      ->check(from_1_on);
  command
      .add_option(
          "--window", arguments.window,
          "Most lines that are read before they are translated, by length, and written; where a pipe has no "
          "more yet, so many as there are; default: 1000, from a terminal 1")
      ->check(from_1_on);
  add_on_invalid_utf8(command, arguments.on_invalid_utf8);
}

void add_forward(Declaration& program) {
  const auto subcommand = add_command(
      program, "forward", "Logits for given tokens, with --blocks every block's output, as safetensors",
      "exactmamba forward MODEL --ids 5,9,3 --blocks --dtype float64 --output out.safetensors", forward);
  add_threads(subcommand);
  auto& [command, arguments] = subcommand;
  add_model(command, arguments.model);
  add_cu_seqlens(command, arguments.model.tokens);
  command.add_flag("--blocks", arguments.blocks,
                   "Also the residual stream: hidden.0 is the embedding, hidden.k what block k leaves");
  command.add_option("--output", arguments.model.output, "File to write; - for stdout")
      ->required()
      ->check(not_empty("file"));
  add_overwrite(command, arguments.model.overwrite);
}

void add_texts(CLI::App& command, TextArguments& in) {
  command.add_option("--text-key", in.text_key,
                     "The key that holds the text in .jsonl files, the column of .parquet; default: text");
  add_on_invalid_utf8(command, in.on_invalid_utf8);
  command
      .add_option("--on-bad-record", in.on_bad_record,
                  "Lines and rows that cannot be used: fail (default), or skip and count them")
      ->check(CLI::IsMember(core::choices_of(data::kOnBadRecordNames)));
}

void add_tokenize(Declaration& program) {
  const auto subcommand =
      add_command(program, "tokenize", "Texts to token ids with their offsets, as JSON lines, and back",
                  "exactmamba tokenize tokenizer.json text.txt > ids.jsonl\n  exactmamba tokenize "
                  "tokenizer.json --decode ids.jsonl",
                  tokenize);
  add_threads(subcommand);
  auto& [command, arguments] = subcommand;
  command.add_option("tokenizer", arguments.tokenizer, kTokenizers)->required();
  command.add_option(
      "files", arguments.in.files,
      "Texts: each line, or of .jsonl files each object's, of .parquet each row's; .gz, .xz and .zst are "
      "decompressed; default: stdin, as - is");
  add_texts(command, arguments.in);
  CLI::Option* decode =
      command
          .add_flag("--decode", arguments.decode,
                    "Read JSON lines with \"ids\", print their texts, a line feed behind each; with --json "
                    "as lines of JSON, {\"text\": …}, since a text may have line feeds of its own; ids "
                    "beyond the vocabulary of a tokenizer.json give nothing, as with Hugging Face")
          ->excludes("--text-key", "--on-invalid-utf8", "--on-bad-record");
  command.add_flag("--skip-special", arguments.skip_special, "Leave special tokens out of decoded texts")
      ->needs(decode);
}

void add_train_tokenizer(Declaration& program) {
  auto [command, arguments] =
      add_command(program, "train-tokenizer", "Make a tokenizer.json, byte-level BPE, from texts",
                  "exactmamba train-tokenizer train.de train.en --vocab-size 8000 --special '<eos>' '<sep>' "
                  "--output tokenizer.json",
                  train_tokenizer);
  command
      .add_option(
          "files", arguments.in.files,
          "Texts, as of tokenize, but a .txt or .text is one text, with the ends of its lines, as in "
          "recipes; - for stdin; of 'name.{de,en}', .tsv and '.tsv{2,1}' both sides; of IWSLT's train.tags.* "
          "and .xml the sentences; rows of .parquet without a text are left out and counted")
      ->required();
  add_texts(command, arguments.in);
  command.add_option("--vocab-size", arguments.vocab_size, "Tokens, with the special ones and the 256 bytes")
      ->required()
      ->check(CLI::Range(int64_t{1}, data::kMostTokens));
  command.add_option("--special", arguments.special,
                     "Special tokens, ids from 0, e.g. '<|endoftext|>', which ends documents; default: none");
  command.add_option("--min-frequency", arguments.min_frequency, "Of a pair that becomes a token; default 0")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40));
  command.add_flag("--nfc", arguments.nfc,
                   "Texts in Unicode's normalisation form C, here and whenever they are encoded");
  command.add_option("--output", arguments.output, "File to write; - for stdout")
      ->required()
      ->check(not_empty("file"));
  add_overwrite(command, arguments.overwrite);
}

void add_translations(CLI::App& command, ScoreArguments& score) {
  command.add_option(
      "hypotheses", score.hypotheses,
      "Translations to score, a line each, not tokenised; plain or compressed; default: stdin, as - is");
  command
      .add_option("--reference", score.references, "Right translations of the same lines; may be repeated")
      ->required()
      ->take_all()
      ->allow_extra_args(false);
  CLI::Option* each = command.add_flag("--sentence-level", score.sentence_level,
                                       "A score for each line; with --json an object a line");
  CLI::Option* compare =
      command
          .add_option(
              "--compare", score.compare,
              "Other translations of the same lines: both scores with intervals, and how likely their "
              "difference is chance, by paired bootstrap resampling")
          ->excludes(each);
  command.add_option("--resamples", score.resamples, "Of --compare; default 1000")
      ->check(CLI::Range(1, 1'000'000))
      ->needs(compare);
  command.add_option("--seed", score.seed, "Of --compare; default 12345")
      ->check(from_0_on<uint32_t>)
      ->needs(compare);
  command.add_option("--width", score.digits, "Digits after the point; default 1")->check(CLI::Range(0, 17));
}

void add_score_bleu(CLI::App& parent, Declaration& program) {
  const auto subcommand = add_command_to(
      parent, program, "bleu", "BLEU, equal to sacreBLEU's",
      "exactmamba score bleu output.en --reference newstest.en\n"
      "  exactmamba score bleu output.en --reference a.en --reference b.en.gz --tokenize intl --json\n"
      "  exactmamba score bleu new.en --compare old.en --reference newstest.en",
      score_bleu);
  add_threads(subcommand);
  auto& [command, arguments] = subcommand;
  add_translations(command, arguments.score);
  command
      .add_option("--tokenize", arguments.tokenizer,
                  "How words are found: 13a (default), intl, char, zh or none")
      ->check(CLI::IsMember(core::choices_of(eval::kBleuTokenizerNames)));
  command
      .add_option("--smooth-method", arguments.smoothing,
                  "Of n-gram orders without a match: exp (default), floor, add-k or none")
      ->check(CLI::IsMember(core::choices_of(eval::kSmoothingNames)));
  command
      .add_option("--smooth-value", arguments.smooth_value, "Of floor (default 0.1) and add-k (default 1)")
      ->check(a_number);
  command.add_flag("--lowercase", arguments.lowercase, "Upper and lower case are the same");
}

void add_score_chrf(CLI::App& parent, Declaration& program) {
  const auto subcommand =
      add_command_to(parent, program, "chrf", "chrF and chrF++, equal to sacreBLEU's",
                     "exactmamba score chrf output.en --reference newstest.en\n"
                     "  exactmamba score chrf output.en --reference newstest.en --word-order 2",
                     score_chrf);
  add_threads(subcommand);
  auto& [command, arguments] = subcommand;
  add_translations(command, arguments.score);
  constexpr int kLongest = 100;
  command.add_option("--char-order", arguments.char_order, "Characters of the longest n-gram; default 6")
      ->check(CLI::Range(0, kLongest));
  command
      .add_option("--word-order", arguments.word_order,
                  "Words of the longest n-gram; default 0, chrF++ has 2")
      ->check(CLI::Range(0, kLongest));
  command.parse_complete_callback([&arguments = arguments] {
    if (arguments.char_order + arguments.word_order == 0)
      throw CLI::ValidationError(
          "--char-order",
          "n-grams of 0 characters and, by --word-order, of 0 words; give one of them 1 or more");
  });
  command.add_option("--beta", arguments.beta, "How much more recall counts than precision; default 2")
      ->check(CLI::Range(1, kLongest));
  command.add_flag("--lowercase", arguments.lowercase, "Upper and lower case are the same");
  command.add_flag("--whitespace", arguments.whitespace, "White space counts as characters");
  command.add_flag("--eps-smoothing", arguments.eps_smoothing, "As chrF++.py, instead of effective order");
}

void add_score_ter(CLI::App& parent, Declaration& program) {
  const auto subcommand =
      add_command_to(parent, program, "ter", "Translation edit rate, equal to sacreBLEU's",
                     "exactmamba score ter output.en --reference newstest.en", score_ter);
  add_threads(subcommand);
  auto& [command, arguments] = subcommand;
  add_translations(command, arguments.score);
  command.add_flag("--normalized", arguments.normalized, "Punctuation apart, entities as characters");
  command.add_flag("--no-punct", arguments.no_punct, "Without punctuation");
  command.add_flag("--asian-support", arguments.asian_support, "Both of these for Chinese and Japanese too");
  command.add_flag("--case-sensitive", arguments.case_sensitive, "Upper and lower case differ");
}

CLI::Option* add_base(CLI::App& command, const std::string& name, std::string& base,
                      const std::string& help) {
  return command.add_option(name, base, help)->required()->check(CLI::IsMember({"0", "1"}));
}

CLI::Option* add_alignment_format(CLI::App& command, const std::string& name, std::string& format,
                                  const std::string& help) {
  return command.add_option(name, format, help)
      ->check(CLI::IsMember(core::choices_of(eval::kAlignmentFormatNames)));
}

void add_score_aer(CLI::App& parent, Declaration& program) {
  auto [command, arguments] = add_command_to(
      parent, program, "aer", "Alignment error rate of word alignments, of any aligner",
      "exactmamba score aer forward.align --base 0 --gold alignment.talp --gold-base 1 --sentences "
      "test.{de,en}\n"
      "  exactmamba score aer forward.align --base 0 --reverse reverse.align --reverse-target-first \\\n"
      "    --symmetrise grow_diagonal --output both.align --gold alignment.talp --gold-base 1",
      score_aer);
  command.add_option("alignments", arguments.alignments, "Files of links, a line a sentence pair")
      ->required();
  add_base(command, "--base", arguments.base, "Number of the first word in them: 0 or 1");
  add_alignment_format(command, "--format", arguments.format,
                       "pharaoh (default): 3-4; talp: 3-4 and 3p4, all count; naacl: a line a link, 1 3 4");
  command.add_flag("--target-first", arguments.target_first, "Their links have the target's word first");
  command.add_option("--gold", arguments.gold, "The right links")->required();
  add_base(command, "--gold-base", arguments.gold_base, "Number of the first word in gold: 0 or 1");
  add_alignment_format(command, "--gold-format", arguments.gold_format,
                       "talp (default): 3-4 is sure, 3p4 possible; naacl: 1 3 4 S or P; pharaoh: all sure");
  command.add_flag("--gold-target-first", arguments.gold_target_first, "Gold has the target's word first");
  CLI::Option* reverse = command.add_option("--reverse", arguments.reverse,
                                            "The alignment of the other direction, in the same format");
  command
      .add_flag("--reverse-target-first", arguments.reverse_target_first,
                "It has the target's word first, as aligners write it")
      ->needs(reverse);
  command
      .add_option(
          "--symmetrise", arguments.symmetrise,
          "How both directions become one: intersection, union, grow_diagonal and grow_diagonal_final "
          "(rules of lilt), moses_grow_diag, moses_grow_diag_final_and; default: all")
      ->needs(reverse)
      ->check(CLI::IsMember(core::choices_of(eval::kSymmetrisationNames)));
  command.add_option("--sentences", arguments.sentences,
                     "The tokenised sentences, as name.{source,target} or .tsv: links are checked against "
                     "them, and what no model reaches is shown; without them no word is beyond its sentence");
  command.add_option("--output", arguments.output, "Write the alignment, in --format and --base");
}

void add_score_comet(CLI::App& parent, Declaration& program) {
  const auto subcommand = add_command_to(
      parent, program, "comet", "COMET, equal to unbabel-comet's",
      "exactmamba score comet output.en --source newstest.de --reference newstest.en --model wmt22-comet-da",
      score_comet);
  add_threads(subcommand);
  auto& [command, arguments] = subcommand;
  command.add_option("hypotheses,--hypothesis", arguments.hypotheses,
                     "Translations to score, a line each; plain or compressed; default: stdin, as - is");
  command.add_option("--source", arguments.source, "What they are translations of")->required();
  command.add_option("--reference", arguments.reference, "Right translations of the same lines")->required();
  command
      .add_option(
          "--model", arguments.model,
          "COMET model folder of the kind of wmt22-comet-da: hparams.yaml, checkpoints/model.ckpt; and "
          "encoder/ with the encoder's config.json and sentencepiece.bpe.model")
      ->required();
  command
      .add_option("--dtype", arguments.dtype,
                  "What the encoder computes in: float32 (default), float64 or bfloat16")
      ->check(CLI::IsMember(core::choices_of(eval::kCometDtypeNames)));
  command.add_option("--device", arguments.device, "auto (default): a GPU if there is one; cpu or cuda")
      ->check(CLI::IsMember(core::choices_of(core::kDeviceNames)));
  command.add_flag("--sentence-level", arguments.sentence_level, "A score for each line");
  command.add_option("--width", arguments.digits, "Digits after the point; default 4")
      ->check(CLI::Range(0, 17));
}

void add_score(Declaration& program) {
  CLI::App& command = *program.app.add_subcommand("score", "Score translations and word alignments");
  command.require_subcommand(1);
  command.footer("Example:\n  exactmamba score bleu output.en --reference newstest.en");
  for (auto* add : {add_score_bleu, add_score_chrf, add_score_ter, add_score_aer, add_score_comet})
    add(command, program);
}

void add_completion(Declaration& program) {
  auto shell = std::make_shared<std::string>();
  CLI::App* command = program.app.add_subcommand("completion", "Print a completion script for a shell");
  command->footer("Example:\n  source <(exactmamba completion bash)");
  command->add_option("shell", *shell, "bash")->required()->check(CLI::IsMember({"bash"}));
  command->callback([&program, shell] {  // the option writes into it until here
    const std::string script = bash_completion(program.app);
    program.selected = [script] { write_result(script); };
  });
}

void declare(Declaration& program) {
  program.app.require_subcommand(1);
  program.app.set_help_flag("-h,--help", "Show this help; each command has its own");
  program.app.set_version_flag("--version", std::string(), "Versions of the program, LibTorch and CUDA");
  program.app.footer(
      "Example:\n  exactmamba run recipes/quickstart.toml\n\n"
      "Exit codes: 0 ok, 1 input, 2 usage, 3 I/O, 4 numerical, 5 other process failed, 128 + signal "
      "when one stopped it");
  for (auto* add : {add_run, add_train, add_decompose, add_evaluate, add_report, add_validate, add_inspect,
                    add_convert, add_generate, add_translate, add_forward, add_tokenize, add_train_tokenizer,
                    add_score, add_completion}) {
    add(program);
  }
}

struct NamedCommand {
  const CLI::App* command;
  std::string name;  // "exactmamba score bleu"
};

/// By the first words. CLI11 would call an unknown one an unexpected argument.
NamedCommand command_of(const CLI::App& app, const std::vector<std::string>& words) {
  const CLI::App* command = &app;
  std::string name = "exactmamba";
  for (size_t i = 1; i < words.size() && !words[i].empty() && words[i][0] != '-'; ++i) {
    const std::vector<std::string> names = subcommands_of(*command);
    if (names.empty()) break;
    const std::string near = core::nearest_word(words[i], names);
    core::require<core::UsageError>(
        std::find(names.begin(), names.end(), words[i]) != names.end(), "unknown command '{}'; {}", words[i],
        near.empty() ? name + " --help lists the commands" : fmt::format("did you mean '{}'?", near));
    command = command->get_subcommand(words[i]);
    name += " " + words[i];
  }
  return {command, name};
}

/// A mistyped option, of which CLI11 may say only that the right one is missing; "" without one.
std::string unknown_option(const CLI::App& command) {
  for (const std::string& word : command.remaining()) {
    if (!word.starts_with("--")) continue;
    const std::string option = word.substr(0, word.find('=')),
                      near = core::nearest_word(option, options_of(command));
    return fmt::format("unknown option '{}'{}", option,
                       near.empty() ? "" : fmt::format("; did you mean '{}'?", near));
  }
  return "";
}

/// A KEY=VALUE behind that of a --set, which may have been taken for the recipe; "" without one.
std::string assignment_without_set(const std::vector<std::string>& words) {
  for (size_t i = 2; i < words.size(); ++i) {
    if (words[i - 2] == "--set" && !words[i].starts_with('-') && words[i].find('=') != std::string::npos)
      return fmt::format("'{}' stands without --set; each KEY=VALUE has one of its own: --set {}", words[i],
                         words[i]);
  }
  return "";
}

std::string in_one_line(std::string text) {
  for (char& c : text) {
    if (c == '\n') c = ' ';
  }
  return text;
}

}  // namespace

std::function<void()> parse_arguments(int argc, const char* const* argv) {
  Declaration program;
  program.command_line.assign(argv, argv + argc);
  declare(program);
  const auto [command, name] = command_of(program.app, program.command_line);
  try {
    program.app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    return [text = program.app.help()] { write_result(text); };
  } catch (const CLI::CallForVersion&) {
    return print_version;
  } catch (const CLI::ParseError& error) {
    for (const std::string& problem :
         {unknown_option(*command), assignment_without_set(program.command_line)})
      core::require<core::UsageError>(problem.empty(), "{}; see {} --help", problem, name);
    throw core::UsageError(fmt::format("{}; see {} --help", in_one_line(error.what()), name));
  }
  return program.selected;
}

}  // namespace exactmamba::cli
