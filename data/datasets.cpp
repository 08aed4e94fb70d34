#include "data/datasets.h"

#include <filesystem>
#include <optional>

#include "core/environment.h"
#include "core/error.h"
#include "core/hash.h"
#include "core/log.h"
#include "data/mixture.h"
#include "data/packed_text.h"
#include "data/token_rows.h"
#include "data/tokenizers/bpe_trainer.h"
#include "data/tokenizers/open_tokenizer.h"
#include "data/translation.h"

namespace exactmamba::data {
namespace {

namespace fs = std::filesystem;

bool translates(const DataOptions& o) { return o.task == "translation"; }

RowLayout layout(const DataOptions& o) { return o.pack ? RowLayout::kPacked : RowLayout::kOneExample; }

std::vector<fs::path> expand_all(const std::vector<std::string>& names) {
  std::vector<fs::path> files;
  for (const std::string& name : names) files.push_back(core::expand_environment(name));
  return files;
}

TranslationSource translation_source(const DataOptions& o, const std::vector<std::string>& names) {
  return {expand_all(names),
          expand_all(o.exclude),
          on_invalid_utf8(o.on_invalid_utf8),
          on_bad_record(o.on_bad_record),
          core::enum_from_name<OnLongPair>(kOnLongPairNames, o.on_long_pair, "data.on_long_pair"),
          {o.min_characters, o.max_characters},
          o.max_pair_ratio};
}

TextSource text_source(const DataOptions& o, const std::vector<std::string>& names) {
  return {expand_all(names),
          o.text_key,
          on_invalid_utf8(o.on_invalid_utf8),
          on_bad_record(o.on_bad_record),
          {o.min_characters, o.max_characters}};
}

/// What turns text into the ids of the task; nothing for others than text and translation.
struct TaskTokenizer {
  std::optional<TranslationTokenizer> translation;
  std::shared_ptr<const Tokenizer> text;  // [nullable]
  std::map<std::string, std::string> files;
};

TaskTokenizer translation_tokenizer(const DataOptions& o, const BpeSpec* trained) {
  const auto tokenizer = trained ? TranslationTokenizer(*trained, o.separator, o.end)
                                 : TranslationTokenizer::open(o.tokenizer, o.separator, o.end);
  return {tokenizer, nullptr, tokenizer.files()};
}

TaskTokenizer text_tokenizer(const DataOptions& o, const BpeSpec* trained) {
  if (trained == nullptr) return {{}, open_tokenizer(o.tokenizer), carried_files(o.tokenizer)};
  return {{},
          std::make_shared<BpeTokenizer>(*trained, kEndOfDocument),
          {{kTokenizerFile, core::json_text(json_of(*trained), 2) + "\n"}}};
}

TaskTokenizer tokenizer_of(const DataOptions& o, const BpeSpec* trained) {
  if (translates(o)) return translation_tokenizer(o, trained);
  return o.task == "text" ? text_tokenizer(o, trained) : TaskTokenizer{};
}

std::shared_ptr<Dataset> open_files(const DataOptions& o, const TaskTokenizer& tokenizer,
                                    const std::vector<std::string>& names) {
  if (translates(o))
    return std::make_shared<TranslationRows>(translation_source(o, names), *tokenizer.translation, o.context,
                                             layout(o));
  if (o.task == "tokens")
    return std::make_shared<TokenRows>(expand_all(names), o.vocab_size, o.context, layout(o));
  return std::make_shared<PackedText>(text_source(o, names), tokenizer.text, o.context,
                                      o.cache.empty() ? "" : core::expand_environment(o.cache));
}

std::shared_ptr<Dataset> open_train(const DataOptions& o, const TaskTokenizer& tokenizer, uint64_t seed) {
  if (o.weights.empty()) return open_files(o, tokenizer, o.train);
  std::vector<std::shared_ptr<const Dataset>> parts;
  for (const std::string& name : o.train) parts.push_back(open_files(o, tokenizer, {name}));
  return std::make_shared<Mixture>(std::move(parts), o.weights, o.shuffle, seed);
}

/// What filters training data is not for the data that measures it, and translations are not packed there.
DataOptions for_validation(DataOptions options) {
  options.min_characters = options.max_characters = 0;
  options.exclude.clear();
  options.max_pair_ratio = 0;
  options.on_long_pair = "fail";
  if (translates(options)) options.pack = false;
  return options;
}

/// `sets`: of files that give rows together.
void check_sets(const DataOptions& o, const std::vector<std::vector<std::string>>& sets) {
  if (!translates(o)) {
    for (const std::vector<std::string>& files : sets)
      o.task == "tokens" ? check_examples(expand_all(files), o.vocab_size, o.context)
                         : check_text(text_source(o, files));
    return;
  }
  std::optional<TranslationTokenizer> tokenizer;
  if (!trains_tokenizer(o)) tokenizer = TranslationTokenizer::open(o.tokenizer, o.separator, o.end);
  for (const std::vector<std::string>& files : sets)
    check_rows(translation_source(o, files), tokenizer ? &*tokenizer : nullptr, o.context);
}

BpeTrainer trainer_for(const DataOptions& o) {
  BpeTrainingOptions training;
  training.vocab_size = o.vocab_size;
  training.special_tokens = made_special_tokens(o);
  return BpeTrainer(training);
}

/// Both sides of pairs.
/// @return empty ones, which are not added
UnwantedTexts add_pairs(const TranslationSource& source, const Tolerance& tolerance, const LeftOut& left_out,
                        const TakeText& add) {
  UnwantedTexts unwanted;
  bool any = false;
  const PairCounts counts =
      read_wanted(source, tolerance, [&](const SentencePair& pair, const std::string& where) {
        any = true;
        for (const std::string& text : {pair.source, pair.target})
          text.empty() ? void(++unwanted.empty) : add(text, where);
      });
  require_pairs(any, source, counts, left_out);
  return unwanted;
}

/// What reading left out is said where the rows are made.
/// @return texts
int64_t add_training_text(BpeTrainer& trainer, const DataOptions& o, const TokenizerProgress& told) {
  const TextSource source = text_source(o, o.train);
  LeftOut left_out;
  const Tolerance tolerance = counting_quietly(left_out, source.on_invalid, source.on_bad_record);
  int64_t texts = 0;
  const auto add = [&](const std::string& text, const std::string&) {
    trainer.add(text);
    ++texts;
    if (told) told(texts, 0);
  };
  const UnwantedTexts unwanted = translates(o)
                                     ? add_pairs(translation_source(o, o.train), tolerance, left_out, add)
                                     : read_wanted(source, tolerance, add);
  require_text(texts > 0, source, left_out, unwanted);
  return texts;
}

/// Names without their folders count: they say how a file is read.
std::string hash_of_files(const DataOptions& o, const std::vector<std::string>& names) {
  std::string hashes;
  for (const fs::path& name : expand_all(names)) {
    hashes += name.filename().string() + '\n';
    for (const std::string& file : translates(o) ? pair_files(name.string()) : std::vector{name.string()})
      hashes += core::hash_file_hex(file) + '\n';
  }
  return core::hash_hex(hashes);
}

}  // namespace

void check_training_files(const DataOptions& o) {
  if (o.weights.empty()) return check_sets(o, {o.train});
  std::vector<std::vector<std::string>> sets;
  for (const std::string& name : o.train) sets.push_back({name});
  check_sets(o, sets);
}

void check_validation_files(const DataOptions& o) { check_sets(for_validation(o), {o.valid}); }

BpeSpec train_tokenizer(const DataOptions& o, const TokenizerProgress& told) {
  BpeTrainer trainer = trainer_for(o);
  const int64_t texts = add_training_text(trainer, o, told);
  BpeSpec spec = trainer.train([&](int64_t tokens) {
    if (told) told(texts, tokens);
  });
  if (static_cast<int64_t>(spec.vocab.size()) < o.vocab_size)
    core::log_warning(fmt::format(
        "the tokenizer has {} tokens instead of data.vocab_size = {}: the training text has no further pairs",
        spec.vocab.size(), o.vocab_size));
  return spec;
}

std::vector<std::pair<std::string, std::string>> tokenizer_inputs(const DataOptions& options) {
  return {{"data.train", hash_of_files(options, options.train)},
          {"data.exclude", hash_of_files(options, options.exclude)}};
}

int64_t vocabulary_of(const DataOptions& o) {
  if (o.task == "copy") return CopyTokenizer(o.alphabet).vocab_size();
  if (o.task == "tokens") return o.vocab_size;
  if (trains_tokenizer(o)) {
    trainer_for(o);  // refuses what it cannot make
    return o.vocab_size;
  }
  const TaskTokenizer tokenizer = tokenizer_of(o, nullptr);
  if (tokenizer.text) tokenizer.text->eos_id();  // every document ends with it
  return (tokenizer.text ? tokenizer.text : tokenizer.translation->tokenizer())->vocab_size();
}

Datasets make_datasets(const DataOptions& options, uint64_t seed, const BpeSpec* trained,
                       const MakePart& make_part) {
  if (options.task == "copy") {
    const CopyOptions copy = copy_options(options);
    return {std::make_shared<CopyTask>(copy, seed, CopyPart::kTrain, layout(options)),
            std::make_shared<CopyTask>(copy, seed, CopyPart::kHeldOut, RowLayout::kOneExample)};
  }
  core::require(options.task == "text" || options.task == "tokens" || translates(options),
                "data.task = \"{}\" is not copy, text, tokens or translation", options.task);
  std::optional<BpeSpec> own;
  if (trains_tokenizer(options) && trained == nullptr) trained = &own.emplace(train_tokenizer(options));
  const TaskTokenizer tokenizer = tokenizer_of(options, trained);
  Datasets result{nullptr, nullptr, tokenizer.files};
  const auto make = [&make_part](const std::string& key, const std::function<void()>& part) {
    make_part ? make_part(key, part) : part();
  };
  make("data.train", [&] { result.train = open_train(options, tokenizer, seed); });
  if (!options.valid.empty())
    make("data.valid", [&] { result.valid = open_files(for_validation(options), tokenizer, options.valid); });
  return result;
}

}  // namespace exactmamba::data
