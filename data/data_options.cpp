#include "data/data_options.h"

#include <filesystem>

#include "core/environment.h"
#include "core/error.h"
#include "data/byte_tokenizer.h"
#include "data/packed_text.h"
#include "data/token_rows.h"

namespace exactmamba::data {
namespace {

CopyOptions copy_options(const DataOptions& o) {
  return {.alphabet = o.alphabet,
          .min_length = o.min_length,
          .max_length = o.max_length,
          .context = o.context,
          .held_out = o.held_out};
}

RowLayout layout(const DataOptions& o) { return o.pack ? RowLayout::kPacked : RowLayout::kOneExample; }

std::vector<std::filesystem::path> expand(const std::vector<std::string>& names) {
  std::vector<std::filesystem::path> files;
  for (const std::string& name : names) files.push_back(core::expand_environment(name));
  return files;
}

std::string copy_problem(const DataOptions& o) {
  if (o.task != "copy") return "";
  try {
    check(copy_options(o));
    return "";
  } catch (const core::InputError& error) {
    return error.what();
  }
}

std::string files_problem(const DataOptions& o) {
  if (o.task == "copy")
    return o.train.empty() && o.valid.empty() ? ""
                                              : "data.task = \"copy\" makes its own data and reads no files";
  return o.train.empty() ? fmt::format("data.task = \"{}\" needs files in data.train", o.task) : "";
}

std::string vocabulary_problem(const DataOptions& o) {
  if (o.task == "tokens")
    return o.vocab_size > 0 ? "" : "data.task = \"tokens\" needs data.vocab_size, the number of token ids";
  return o.vocab_size == 0
             ? ""
             : fmt::format("data.vocab_size follows from data.task = \"{}\"; remove it", o.task);
}

std::string packing_problem(const DataOptions& o) {
  return o.task == "text" && !o.pack ? "data.task = \"text\" is always packed; remove data.pack = false" : "";
}

void bind_general(core::Schema& schema, DataOptions& o) {
  schema.option("data.task", &o.task)
      .choices({"copy", "text", "tokens"})
      .help("copy: random strings to repeat; text: documents, byte by byte; tokens: ids made elsewhere.");
  schema.option("data.context", &o.context).range(2, 1 << 24).unit("tokens").help("Length of a row.");
  schema.option("data.shuffle", &o.shuffle)
      .help("A new order of the training rows in every epoch; false keeps the order of the files.");
  schema.option("data.pack", &o.pack)
      .help(
          "copy and tokens: as many whole training examples in a row as fit; false: one each. Examples never "
          "see each other.");
  schema.option("data.prefetch", &o.prefetch)
      .range(0, 1024)
      .unit("batches")
      .cosmetic()
      .help("Batches prepared ahead; 0: none.");
  schema.option("data.max_valid_rows", &o.max_valid_rows)
      .range(0, 1e15)
      .unit("rows")
      .help("Validate on the first so many rows; 0: on all.");
}

void bind_files(core::Schema& schema, DataOptions& o) {
  schema.option("data.train", &o.train)
      .help(
          "text and tokens: files to train on (.jsonl; text also .txt; plain, .gz or .xz). $NAME at the "
          "start is an environment variable.");
  schema.option("data.valid", &o.valid).help("text and tokens: files to validate on, as data.train.");
  schema.option("data.text_key", &o.text_key).help("text: the key that holds the text in .jsonl files.");
  schema.option("data.vocab_size", &o.vocab_size).range(0, INT32_MAX).help("tokens: ids are below it.");
}

void bind_copy(core::Schema& schema, DataOptions& o) {
  schema.option("data.alphabet", &o.alphabet).range(1, CopyTokenizer::kMaxAlphabet).help("copy: letters.");
  schema.option("data.min_length", &o.min_length)
      .range(1, 1 << 20)
      .unit("characters")
      .help("copy: shortest string.");
  schema.option("data.max_length", &o.max_length)
      .range(1, 1 << 20)
      .unit("characters")
      .help("copy: longest string.");
  schema.option("data.held_out", &o.held_out)
      .range(1, 1e7)
      .unit("strings")
      .help("copy: distinct strings that training never shows, to validate on.");
}

}  // namespace

void bind(core::Schema& schema, DataOptions& options) {
  schema.table("data", "What goes in: a generated task, text, or token ids.");
  bind_general(schema, options);
  bind_files(schema, options);
  bind_copy(schema, options);
  schema.rule({"data.min_length", "data.max_length", "data.context", "data.held_out", "data.alphabet"},
              [&options] { return copy_problem(options); });
  schema.rule({"data.task", "data.train", "data.valid"}, [&options] { return files_problem(options); });
  schema.rule({"data.task", "data.vocab_size"}, [&options] { return vocabulary_problem(options); });
  schema.rule({"data.task", "data.pack"}, [&options] { return packing_problem(options); });
}

std::shared_ptr<const Tokenizer> make_tokenizer(const DataOptions& options) {
  if (options.task == "copy") return std::make_shared<CopyTokenizer>(options.alphabet);
  if (options.task == "text") return std::make_shared<ByteTokenizer>();
  return nullptr;
}

Datasets make_datasets(const DataOptions& options, uint64_t seed) {
  if (options.task == "copy") {
    const CopyOptions copy = copy_options(options);
    return {std::make_shared<CopyTask>(copy, seed, CopyPart::kTrain, layout(options)),
            std::make_shared<CopyTask>(copy, seed, CopyPart::kHeldOut, RowLayout::kOneExample)};
  }
  const auto make = [&](const std::vector<std::string>& names) -> std::shared_ptr<Dataset> {
    if (options.task == "text")
      return std::make_shared<PackedText>(expand(names), options.text_key, make_tokenizer(options),
                                          options.context);
    return std::make_shared<TokenRows>(expand(names), options.vocab_size, options.context, layout(options));
  };
  core::require(options.task == "text" || options.task == "tokens",
                "data.task = \"{}\" is not copy, text or tokens", options.task);
  return {make(options.train), options.valid.empty() ? nullptr : make(options.valid)};
}

}  // namespace exactmamba::data
