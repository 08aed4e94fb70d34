#include "data/data_options.h"

#include <algorithm>
#include <filesystem>

#include "core/error.h"
#include "core/nearest.h"
#include "data/tokenizers/bpe_trainer.h"
#include "data/tolerance.h"
#include "data/translation.h"

namespace exactmamba::data {
namespace {

constexpr const char* kTask = "data.task";

void bind_general(core::Schema& schema, DataOptions& o) {
  schema.option(kTask, &o.task)
      .choices({"copy", "text", "tokens", "translation"})
      .help(
          "copy: random strings to repeat; text: documents; tokens: ids made elsewhere; translation: pairs "
          "of sentences, `source <SEP> target <EOS>`, of which the target is predicted.");
  schema.option("data.context", &o.context).range(2, 1 << 24).unit("tokens").help("Length of a row.");
  schema.option("data.shuffle", &o.shuffle)
      .only_with(kTask, {"text", "tokens", "translation"})
      .help("A new order of the training rows in every epoch; false keeps the order of the files.");
  schema.option("data.pack", &o.pack)
      .only_with(kTask, {"copy", "tokens", "translation"})
      .help(
          "As many whole examples in a row as fit (batches of so many tokens); false: one each (batches of "
          "so many examples). Of the task tokens validation rows are packed, too, of copy and translation "
          "never. Examples never see each other. Text is always packed.");
  schema.option("data.prefetch", &o.prefetch)
      .range(0, 1024)
      .unit("batches")
      .cosmetic()
      .help("Batches prepared ahead; 0: none.");
  schema.option("data.max_valid_rows", &o.max_valid_rows)
      .range(0, 1e15)
      .unit("rows")
      .only_with("data.valid")
      .help("Validate on the first so many rows; 0: on all.");
}

void bind_files(core::Schema& schema, DataOptions& o) {
  schema.option("data.train", &o.train)
      .only_with(kTask, {"text", "tokens", "translation"})
      .help(
          "Files to train on (.jsonl, of the task tokens with input_ids, or ids as exactmamba tokenize "
          "writes them, and labels if they differ; text also .txt; plain, .gz, .xz or .zst; text also "
          ".parquet; "
          "translation name.{de,en}, the source first, .tsv, or IWSLT's train.tags.de-en.{de,en} and .xml). "
          "$NAME at the start is an environment variable, ~ the home folder.");
  schema.option("data.valid", &o.valid)
      .only_with(kTask, {"text", "tokens", "translation"})
      .help("Files to validate on, as data.train.");
  schema.option("data.weights", &o.weights)
      .range(0, 1e9)
      .only_with(kTask, {"text", "tokens", "translation"})
      .help(
          "One weight for each file of data.train: its share of the rows. Each file is gone through again "
          "and again, so that training has no epochs. Empty: every row of every file once an epoch.");
  schema.option("data.text_key", &o.text_key)
      .only_with(kTask, {"text"})
      .help("The key that holds the text in .jsonl files, the column of .parquet files.");
  schema.option("data.tokenizer", &o.tokenizer)
      .only_with(kTask, {"text", "translation"})
      .help(
          "byte; bpe: byte-level BPE of data.vocab_size tokens, made once from the files of data.train as "
          "far as data.exclude and limits of characters leave them, for all runs with the same text, and "
          "kept under run.output; a tokenizer.json of byte-level BPE (GPT-2, GPT-NeoX) or the folder that "
          "has it; of text also a SentencePiece model (.model, .spm). Checkpoints carry it.");
  schema.option("data.on_invalid_utf8", &o.on_invalid_utf8)
      .choices(core::choices_of(kOnInvalidUtf8Names))
      .only_with(kTask, {"text", "translation"})
      .help("Text that is not UTF-8: fail, or replace it by U+FFFD.");
  schema.option("data.on_bad_record", &o.on_bad_record)
      .choices(core::choices_of(kOnBadRecordNames))
      .only_with(kTask, {"text", "translation"})
      .help(
          "A line or row that cannot be used (no JSON, no text under the key, no UTF-8): fail, or skip it "
          "and say how many there were. The damaged rest of a row group of .parquet, and a .txt, are one "
          "record.");
  schema.option("data.min_characters", &o.min_characters)
      .range(0, 1e12)
      .unit("characters")
      .only_with(kTask, {"text", "translation"})
      .help(
          "Training documents that are shorter, or pairs of which a side is, are left out, and counted in "
          "the log.");
  schema.option("data.max_characters", &o.max_characters)
      .range(0, 1e12)
      .unit("characters")
      .only_with(kTask, {"text", "translation"})
      .help("The same of longer ones; 0: none.");
  schema.option("data.cache", &o.cache)
      .cosmetic()
      .only_with(kTask, {"text"})
      .help(
          "Folder for the token ids of texts: made once, by one process of a machine, found again by "
          "content, and mapped into memory; empty: every process makes them and holds them in memory.");
  schema.option("data.vocab_size", &o.vocab_size)
      .range(0, INT32_MAX)
      .only_with(kTask, {"tokens", "text", "translation"})
      .only_with("data.tokenizer", {"bpe"})
      .conditions_help(
          "Only with data.task = \"tokens\", or with data.task = \"text\" or \"translation\" and "
          "data.tokenizer = \"bpe\".")
      .help(
          "Of the task tokens: the ids are below it. Of text and translation: so many tokens has the "
          "tokenizer that is made, the 256 bytes and the special ones included (<|endoftext|>, or "
          "data.separator and data.end).");
}

void bind_translation(core::Schema& schema, DataOptions& o) {
  schema.option("data.separator", &o.separator)
      .only_with(kTask, {"translation"})
      .help(
          "The token between source and target. What the tokenizer does not have is appended to its "
          "vocabulary.");
  schema.option("data.end", &o.end)
      .only_with(kTask, {"translation"})
      .help("The token behind the target, as data.separator.");
  schema.option("data.exclude", &o.exclude)
      .only_with(kTask, {"translation"})
      .help(
          "Files as data.train: training pairs of which the source or the target stands in them, on either "
          "side, are left out, and the log says how many for each file. Only letters and digits are "
          "compared, in Unicode's NFKC without case: how a text is tokenised or punctuated makes no "
          "difference.");
  schema.option("data.on_long_pair", &o.on_long_pair)
      .choices(core::choices_of(kOnLongPairNames))
      .only_with(kTask, {"translation"})
      .help(
          "A training pair of more than data.context tokens: fail, or drop it and say how many there were. "
          "Validation pairs are never dropped; one that is longer is refused.");
  schema.option("data.max_pair_ratio", &o.max_pair_ratio)
      .range(0, 1e6)
      .only_with(kTask, {"translation"})
      .help(
          "Training pairs of which one side has more than so many times the tokens of the other are left "
          "out, and counted in the log, as Moses' clean-corpus-n does with words (9; 1.5 is common for "
          "European languages); a side without tokens too; 0: none. A value from 1 up.");
}

void bind_copy(core::Schema& schema, DataOptions& o) {
  schema.option("data.alphabet", &o.alphabet)
      .range(1, CopyTokenizer::kMaxAlphabet)
      .only_with(kTask, {"copy"})
      .help("Letters.");
  schema.option("data.min_length", &o.min_length)
      .range(1, 1 << 20)
      .unit("characters")
      .only_with(kTask, {"copy"})
      .help("Shortest string.");
  schema.option("data.max_length", &o.max_length)
      .range(1, 1 << 20)
      .unit("characters")
      .only_with(kTask, {"copy"})
      .help("Longest string.");
  schema.option("data.held_out", &o.held_out)
      .range(1, 1e7)
      .unit("strings")
      .only_with(kTask, {"copy"})
      .help("Distinct strings that training never shows, to validate on.");
}

/// "bppe": no path, and nearly one of the two words; or that of generated strings, which has no other
/// letters.
std::string tokenizer_problem(const std::string& name) {
  if (name == "copy")
    return "the tokenizer copy has only the letters of data.task = \"copy\", which takes no data.tokenizer; "
           "give byte, bpe, or the path of a tokenizer.json";
  const std::vector<std::string> words = {"byte", "bpe"};
  const bool is_word = std::find(words.begin(), words.end(), name) != words.end();
  if (is_word || name.find_first_of("/.$~") != std::string::npos || std::filesystem::exists(name)) return "";
  const std::string near = core::nearest_word(name, words);
  if (near.empty()) return "";  // a folder that is not there yet
  return fmt::format("'{}' is neither byte nor bpe, and no file or folder; did you mean '{}'?", name, near);
}

std::string weights_problem(const DataOptions& o) {
  if (o.weights.empty()) return "";
  if (o.weights.size() != o.train.size())
    return fmt::format("data.weights has {} values for the {} files of data.train", o.weights.size(),
                       o.train.size());
  const bool positive = std::all_of(o.weights.begin(), o.weights.end(), [](double w) { return w > 0; });
  return positive ? "" : "data.weights holds a 0; leave that file out of data.train";
}

void add_rules(core::Schema& schema, const DataOptions& o) {
  const auto copy_rule = [&](std::vector<std::string> keys, std::string (*problem)(const CopyOptions&)) {
    schema.rule(std::move(keys), [&o, problem] { return o.task == "copy" ? problem(copy_options(o)) : ""; });
  };
  copy_rule({"data.min_length", "data.max_length"}, lengths_problem);
  copy_rule({"data.context", "data.max_length"}, context_problem);
  copy_rule({"data.held_out", "data.min_length", "data.max_length", "data.alphabet"}, held_out_problem);
  schema.rule({kTask, "data.train"}, [&o] {
    const bool missing = o.task != "copy" && o.train.empty();
    return missing ? fmt::format("data.task = \"{}\" needs files in data.train", o.task) : "";
  });
  schema.rule({"data.weights", "data.train"}, [&o] { return weights_problem(o); });
  schema.rule({"data.max_characters", "data.min_characters"}, [&o]() -> std::string {
    const bool none = o.max_characters > 0 && o.max_characters < o.min_characters;
    return none ? "data.max_characters is less than data.min_characters, so that no document is left" : "";
  });
  schema.rule({"data.max_pair_ratio"}, [&o]() -> std::string {
    const bool none = o.max_pair_ratio > 0 && o.max_pair_ratio < 1;
    return none ? "data.max_pair_ratio is of the longer side to the other, so at least 1; 0 for no limit"
                : "";
  });
  schema.rule({"data.separator", "data.end"}, [&o]() -> std::string {
    const bool two = !o.separator.empty() && !o.end.empty() && o.separator != o.end;
    return two ? "" : "data.separator and data.end must be two tokens, and not empty";
  });
  schema.rule({kTask, "data.vocab_size"}, [&o]() -> std::string {
    const bool missing = o.task == "tokens" && o.vocab_size == 0;
    return missing ? "data.task = \"tokens\" needs data.vocab_size, the number of token ids" : "";
  });
  schema.rule({"data.tokenizer", "data.vocab_size"}, [&o]() -> std::string {
    const bool missing = trains_tokenizer(o) && o.vocab_size == 0;
    return missing ? "data.tokenizer = \"bpe\" needs data.vocab_size, the number of tokens to make" : "";
  });
  schema.rule({"data.vocab_size", "data.tokenizer"}, [&o]() -> std::string {
    const bool given = trains_tokenizer(o) && o.vocab_size > 0;
    return given ? vocab_size_problem(o.vocab_size, made_special_tokens(o)) : "";
  });
  schema.rule({"data.tokenizer", kTask}, [&o]() -> std::string {
    return o.task == "text" || o.task == "translation" ? tokenizer_problem(o.tokenizer) : "";
  });
}

}  // namespace

void bind(core::Schema& schema, DataOptions& options) {
  schema.table("data", "What goes in: a generated task, text, or token ids.");
  bind_general(schema, options);
  bind_files(schema, options);
  bind_translation(schema, options);
  bind_copy(schema, options);
  add_rules(schema, options);
}

CopyOptions copy_options(const DataOptions& o) {
  return {.alphabet = o.alphabet,
          .min_length = o.min_length,
          .max_length = o.max_length,
          .context = o.context,
          .held_out = o.held_out};
}

std::vector<std::string> made_special_tokens(const DataOptions& o) {
  if (o.task == "translation") return {o.separator, o.end};
  return {kEndOfDocument};
}

bool depends_on_seed(const DataOptions& o) { return o.task == "copy" || !o.weights.empty(); }

bool trains_tokenizer(const DataOptions& o) {
  return o.tokenizer == "bpe" && (o.task == "text" || o.task == "translation");
}

}  // namespace exactmamba::data
