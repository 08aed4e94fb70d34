#include "data/data_options.h"

#include <map>
#include <set>
#include <stdlib.h>

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/files.h"
#include "data/datasets.h"
#include "data/parallel_text.h"
#include "data/tokenizers/bpe_trainer.h"
#include "data/tokenizers/open_tokenizer.h"
#include "data/translation_tokenizer.h"
#include "tests/support/files.h"
#include "tests/support/tensors.h"

namespace exactmamba::data {
namespace {

using testing::error_of;
using testing::TemporaryFolder;

DataOptions load(const std::string& toml) {
  DataOptions options;
  core::Schema schema;
  bind(schema, options);
  schema.load(toml, "recipe.toml", {});
  for (const core::Schema::Unused& unused : schema.unused()) throw core::InputError(unused.message);
  return options;
}

TEST(DataOptions, EveryKeyReachesItsMember) {
  const DataOptions copy = load(
      "[data]\ncontext = 99\npack = false\nprefetch = 0\nmax_valid_rows = 5\nalphabet = "
      "9\nmin_length = 3\n"
      "max_length = 4\nheld_out = 7\n");
  EXPECT_EQ(copy.task, "copy");
  EXPECT_EQ(copy.context, 99);
  EXPECT_FALSE(copy.pack);
  EXPECT_EQ(copy.prefetch, 0);
  EXPECT_EQ(copy.max_valid_rows, 5);
  EXPECT_EQ(copy.alphabet, 9);
  EXPECT_EQ(copy.min_length, 3);
  EXPECT_EQ(copy.max_length, 4);
  EXPECT_EQ(copy.held_out, 7);
  const DataOptions text = load(
      "[data]\ntask = \"text\"\ntrain = [\"a\", \"b\"]\nvalid = [\"c\"]\ntext_key = \"body\"\nshuffle = "
      "false\nweights = [0.5, 2]\non_bad_record = \"skip\"\nmin_characters = 3\nmax_characters = 4\n");
  EXPECT_EQ(text.weights, (std::vector<double>{0.5, 2}));
  EXPECT_EQ(text.on_bad_record, "skip");
  EXPECT_EQ(text.min_characters, 3);
  EXPECT_EQ(text.max_characters, 4);
  EXPECT_FALSE(text.shuffle);
  EXPECT_EQ(text.train, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(text.valid, (std::vector<std::string>{"c"}));
  EXPECT_EQ(text.text_key, "body");
  EXPECT_EQ(load("[data]\ntask = \"tokens\"\ntrain = [\"a\"]\nvocab_size = 70\n").vocab_size, 70);
}

TEST(DataOptions, ContradictionsAreNamed) {
  const auto refusal = [](const std::string& toml) {
    return error_of<core::InputError>([&] { load("[data]\n" + toml); });
  };
  EXPECT_CONTAINS(refusal("task = \"cpoy\""), "copy");
  EXPECT_CONTAINS(refusal("context = 42"), "43 tokens");
  EXPECT_CONTAINS(refusal("min_length = 9\nmax_length = 8"), "data.max_length = 8");
  EXPECT_CONTAINS(refusal("min_length = 1\nmax_length = 1"), "data.held_out = 1000");
  EXPECT_CONTAINS(refusal("task = \"text\""), "data.train");
  const std::string two = "task = \"text\"\ntrain = [\"a\", \"b\"]\n";
  EXPECT_CONTAINS(refusal(two + "weights = [1]"), "data.weights has 1 values for the 2 files of data.train");
  EXPECT_CONTAINS(refusal(two + "weights = [1, 0]"), "data.weights holds a 0");
  EXPECT_CONTAINS(refusal(two + "min_characters = 3\nmax_characters = 2"), "data.max_characters is less");
  EXPECT_CONTAINS(refusal("task = \"tokens\"\ntrain = [\"a\"]"), "data.vocab_size");
  EXPECT_CONTAINS(refusal("task = \"translation\""), "data.train");
  EXPECT_CONTAINS(refusal("task = \"translation\"\ntrain = [\"a\"]\nmax_pair_ratio = 0.5"), "at least 1");
  EXPECT_CONTAINS(refusal("task = \"translation\"\ntrain = [\"a\"]\nend = \"<SEP>\""),
                  "data.separator and data.end must be two tokens");
}

TEST(DataOptions, ContradictionsPointAtTheKeysAtFault) {
  const auto refusal = [](const std::string& toml) {
    return error_of<core::InputError>([&] { load("[data]\n" + toml); });
  };
  EXPECT_EQ(
      refusal("min_length = 2\nalphabet = 9\nmax_length = 30\ncontext = 42")
          .rfind("recipe.toml:5:11: data.context = 42 is shorter than an example of data.max_length = 30", 0),
      0u);
  EXPECT_EQ(refusal("context = 99\nheld_out = 7\nmin_length = 9\nmax_length = 8")
                .rfind("recipe.toml:4:14: data.min_length = 9", 0),
            0u);
  EXPECT_EQ(refusal("context = 99\nalphabet = 2\nmin_length = 1\nmax_length = 3\nheld_out = 2")
                .rfind("recipe.toml:6:12: data.held_out = 2 is too many for strings of 1 to 3 of 2 letters "
                       "(at most 1)",
                       0),
            0u);
}

TEST(DataOptions, KeysOfAnotherTaskAreRefused) {
  const std::map<std::string, std::string> tasks = {
      {"copy", ""},
      {"text", "task = 'text'\ntrain = ['a']\n"},
      {"tokens", "task = 'tokens'\ntrain = ['a']\nvocab_size = 9\n"},
      {"translation", "task = 'translation'\ntrain = ['a.{de,en}']\n"}};
  const std::map<std::string, std::set<std::string>> used_by = {
      {"shuffle = true", {"text", "tokens", "translation"}},
      {"pack = true", {"copy", "tokens", "translation"}},
      {"valid = ['b']", {"text", "tokens", "translation"}},
      {"tokenizer = 'byte'", {"text", "translation"}},
      {"separator = '|'", {"translation"}},
      {"end = '.'", {"translation"}},
      {"exclude = ['c']", {"translation"}},
      {"on_long_pair = 'drop'", {"translation"}},
      {"max_pair_ratio = 9", {"translation"}},
      {"min_characters = 2", {"text", "translation"}},
      {"text_key = 'text'", {"text"}},
      {"alphabet = 20", {"copy"}},
      {"min_length = 5", {"copy"}},
      {"max_length = 20", {"copy"}},
      {"held_out = 1000", {"copy"}},
      {"context = 256", {"copy", "text", "tokens", "translation"}}};
  for (const auto& [key, users] : used_by) {
    for (const auto& [task, recipe] : tasks) {
      const std::string toml = "[data]\n" + recipe + key;
      if (users.contains(task))
        EXPECT_NO_THROW(load(toml)) << toml;
      else
        EXPECT_CONTAINS(error_of<core::InputError>([&] { load(toml); }),
                        "has a meaning only with data.task = ");
    }
  }
  EXPECT_CONTAINS(error_of<core::InputError>([&] { load("[data]\nvocab_size = 30"); }), "\"tokens\"");
  EXPECT_CONTAINS(error_of<core::InputError>([&] { load("[data]\ntrain = ['a']"); }),
                  "\"text\" or \"tokens\" or \"translation\"");
}

TEST(Datasets, OfTheCopyTaskAreDisjoint) {
  const DataOptions options = load("[data]\nheld_out = 30\n");
  const Datasets sets = make_datasets(options, 5);
  EXPECT_TRUE(sets.train->endless());
  EXPECT_EQ(sets.train->row(0).input_ids.size(), 256u);
  ASSERT_EQ(sets.valid->size(), 30);
  const auto* train = dynamic_cast<const CopyTask*>(sets.train.get());
  const auto* valid = dynamic_cast<const CopyTask*>(sets.valid.get());
  ASSERT_TRUE(train != nullptr && valid != nullptr);
  EXPECT_EQ(train->held_out(), valid->held_out());
  EXPECT_EQ(vocabulary_of(options), sets.train->vocab_size());
}

TEST(Datasets, OfTextAreReadFromTheEnvironmentsFolder) {
  const TemporaryFolder folder;
  core::write_file(folder / "a.txt", "abcdef");
  core::write_file(folder / "b.jsonl", "{\"body\": \"xyz\"}");
  ::setenv("EXACTMAMBA_TEST_FOLDER", folder.path().c_str(), 1);
  DataOptions options = load(
      "[data]\ntask = 'text'\ncontext = 3\ntrain = ['$EXACTMAMBA_TEST_FOLDER/a.txt']\ntext_key = 'body'\n");
  EXPECT_EQ(make_datasets(options, 0).valid, nullptr);
  options.valid = {"${EXACTMAMBA_TEST_FOLDER}/b.jsonl"};
  const Datasets sets = make_datasets(options, 0);
  EXPECT_EQ(sets.train->row(1).input_ids, (std::vector<int64_t>{'d', 'e', 'f'}));
  EXPECT_EQ(sets.valid->row(0).targets, (std::vector<int64_t>{'y', 'z', 256}));
  EXPECT_EQ(vocabulary_of(options), 257);
  ::unsetenv("EXACTMAMBA_TEST_FOLDER");
  EXPECT_CONTAINS(error_of<core::InputError>([&] { make_datasets(options, 0); }),
                  "EXACTMAMBA_TEST_FOLDER is not set");
}

TEST(Datasets, OfTokens) {
  const TemporaryFolder folder;
  core::write_file(folder / "a.jsonl", "{\"input_ids\": [1, 2]}\n{\"input_ids\": [3, 4]}\n");
  DataOptions options = load("[data]\ntask = 'tokens'\ncontext = 4\ntrain = ['x']\nvocab_size = 5\n");
  options.train = {(folder / "a.jsonl").string()};
  EXPECT_EQ(make_datasets(options, 0).train->size(), 1);
  EXPECT_EQ(vocabulary_of(options), 5);
  options.pack = false;
  EXPECT_EQ(make_datasets(options, 0).train->size(), 2);
  options.train = {(folder / "missing.jsonl").string()};
  EXPECT_CONTAINS(error_of<core::IoError>([&] { make_datasets(options, 0); }), "missing.jsonl");
}

TEST(Datasets, OfTranslation) {
  const TemporaryFolder folder;
  core::write_file(folder / "a.tsv", "ab\tcd\ne\tf\ntest\tx\na longer source\tand its target\n");
  core::write_file(folder / "b.tsv", "ab\tcd\ntest\ty\n");
  DataOptions options = load(
      "[data]\ntask = 'translation'\ncontext = 8\ntrain = ['x']\nseparator = '<to>'\non_long_pair = "
      "'drop'\n");
  options.train = {(folder / "a.tsv").string()};
  options.valid = options.exclude = {(folder / "b.tsv").string()};
  const Datasets sets = make_datasets(options, 0);
  ASSERT_EQ(sets.train->size(), 1);  // one of four pairs
  EXPECT_EQ(sets.train->row(0).input_ids, (std::vector<int64_t>{'e', 256, 'f', 257}));
  EXPECT_EQ(sets.valid->size(), 2);  // never packed, and not excluded
  EXPECT_EQ(vocabulary_of(options), sets.train->vocab_size());
  EXPECT_EQ(sets.tokenizer_files.size(), 2u);
  EXPECT_CONTAINS(sets.tokenizer_files.at("tokenizer_config.json"), "\"sep_token\": \"<to>\"");
  options.max_pair_ratio = 1;  // validation pairs are neither measured by it nor dropped
  EXPECT_EQ(make_datasets(options, 0).valid->size(), 2);
  options.valid = {(folder / "a.tsv").string()};
  EXPECT_CONTAINS(error_of<core::InputError>([&] { make_datasets(options, 0); }), "a.tsv:4: the pair has 31");
  options.valid = {};
  options.max_pair_ratio = 0;
  options.pack = false;
  options.exclude = {};
  EXPECT_EQ(make_datasets(options, 0).train->size(), 3);
  options.on_long_pair = "fail";
  EXPECT_CONTAINS(error_of<core::InputError>([&] { make_datasets(options, 0); }), "a.tsv:4: the pair has 31");
}

TEST(TokenizerFiles, AreThoseOfTheFolder) {
  const TemporaryFolder folder;
  const std::string json = core::read_file(testing::golden("tokenizers/tiny_plain/tokenizer.json"));
  core::write_file(folder / "tokenizer.json", json);
  core::write_file(folder / "a.txt", "abc");
  DataOptions options = load("[data]\ntask = 'text'\ntrain = ['x']\n");
  options.train = {(folder / "a.txt").string()};
  EXPECT_TRUE(make_datasets(options, 0).tokenizer_files.empty());
  options.tokenizer = folder.path().string();
  core::write_file(folder / "tokenizer_config.json", "{}");
  const auto files = make_datasets(options, 0).tokenizer_files;
  EXPECT_EQ(files.at("tokenizer.json"), json);
  EXPECT_EQ(files.at("tokenizer_config.json"), "{}");
  const TemporaryFolder model;
  const auto sentencepiece = testing::golden("comet/softmax/encoder/sentencepiece.bpe.model");
  options.tokenizer = sentencepiece.string();
  const auto carried = make_datasets(options, 0).tokenizer_files;
  EXPECT_EQ(carried,
            (std::map<std::string, std::string>{{"tokenizer.model", core::read_file(sentencepiece)}}));
  EXPECT_EQ(carried_tokenizer(model.path()), nullptr);
  core::write_file(model / "tokenizer.model", carried.at("tokenizer.model"));
  EXPECT_EQ(carried_tokenizer(model.path())->name(), open_tokenizer(options.tokenizer)->name());
  EXPECT_CONTAINS(
      error_of<core::InputError>([&] { TranslationTokenizer::open(options.tokenizer, "<SEP>", "<EOS>"); }),
      "is a SentencePiece model, which takes no new tokens such as <SEP>; translation needs byte-level BPE");
  options.tokenizer = model.path().string();  // as another model's folder carries it
  EXPECT_EQ(make_datasets(options, 0).tokenizer_files, carried);
}

/// With room for one token, that is the most frequent pair of what training reads.
TEST(TrainedTokenizer, IsMadeOfTheTrainingTextOnly) {
  const TemporaryFolder folder;
  core::write_file(folder / "a.tsv", "xyxyxyxyxyxy\tu\nkababab\tvw\nkabab\tvwvwvw\n");
  core::write_file(folder / "test.tsv", "xyxyxyxyxyxy\t\n");
  core::write_file(folder / "a.txt", "cdcdcd ab ab");
  core::write_file(folder / "long.txt", "efefefefefefefefefefefef");
  const auto merges = [](const DataOptions& options) { return train_tokenizer(options).merges; };
  using Merges = decltype(BpeSpec::merges);
  DataOptions options =
      load("[data]\ntask = 'translation'\ntrain = ['x']\ntokenizer = 'bpe'\nvocab_size = 259\n");
  options.train = {(folder / "a.tsv").string()};
  EXPECT_EQ(merges(options), (Merges{{"x", "y"}}));
  options.exclude = {(folder / "test.tsv").string()};
  EXPECT_EQ(merges(options), (Merges{{"a", "b"}}));
  options.train = {(folder / "a.tsv{2,1}").string()};
  EXPECT_EQ(merges(options), (Merges{{"a", "b"}}));  // both sides: five of it, four of v w
  DataOptions text = load("[data]\ntask = 'text'\ntrain = ['x']\ntokenizer = 'bpe'\nvocab_size = 258\n");
  text.train = {(folder / "a.txt").string(), (folder / "long.txt").string()};
  EXPECT_EQ(merges(text), (Merges{{"e", "f"}}));
  text.max_characters = 20;
  EXPECT_EQ(merges(text), (Merges{{"c", "d"}}));
  EXPECT_EQ(vocabulary_of(text), 258);
  const Datasets sets = make_datasets(text, 0);
  EXPECT_EQ(sets.train->row(0).input_ids.size(), 10u);  // cd cd cd _ab _ab, by bytes but for cd, and the end
  EXPECT_EQ(sets.train->row(0).input_ids.back(), 0);
  EXPECT_EQ(sets.tokenizer_files.size(), 1u);
}

/// Of the command train-tokenizer, too: a .txt is one text, whose line ends are part of its words.
TEST(TrainedTokenizer, CountsTheWordsOfWholeDocuments) {
  const TemporaryFolder folder;
  core::write_file(folder / "a.txt", "u\n\n\nv\n\n\nw\n\n\nx\n\n\ny ab");
  DataOptions options = load("[data]\ntask = 'text'\ntrain = ['x']\ntokenizer = 'bpe'\nvocab_size = 258\n");
  options.train = {(folder / "a.txt").string()};
  const auto merges = train_tokenizer(options).merges;
  EXPECT_EQ(merges, (decltype(merges){{"\u010a", "\u010a"}}));
  BpeTrainer trainer({.vocab_size = 257});
  read_all_texts(options.train[0], "text", {},
                 [&](const std::string& text, const std::string&) { trainer.add(text); });
  EXPECT_EQ(trainer.train().merges, merges);
}

TEST(TrainedTokenizer, IsTheSameWhenItIsReadAgain) {
  const TemporaryFolder folder;
  core::write_file(folder / "a.tsv", "der Hund und die Katze\tthe dog and the cat\nund\tand\n");
  DataOptions options =
      load("[data]\ntask = 'translation'\ntrain = ['x']\ntokenizer = 'bpe'\nvocab_size = 270\n");
  options.train = options.valid = {(folder / "a.tsv").string()};
  const Datasets made = make_datasets(options, 0);
  const BpeSpec read = bpe_spec_from_json(
      core::parse_json(made.tokenizer_files.at("tokenizer.json"), "tokenizer.json"), "tokenizer.json");
  const Datasets again = make_datasets(options, 0, &read);
  EXPECT_EQ(again.train->fingerprint(), made.train->fingerprint());
  EXPECT_EQ(again.valid->fingerprint(), made.valid->fingerprint());
  EXPECT_EQ(again.tokenizer_files, made.tokenizer_files);
  EXPECT_EQ(made.train->vocab_size(), 270);
}

TEST(TrainedTokenizer, IsRefusedWithoutRoom) {
  const auto refusal = [](const std::string& toml) {
    return error_of<core::InputError>([&] {
      vocabulary_of(load("[data]\ntask = 'translation'\ntrain = ['x.tsv']\ntokenizer = 'bpe'\n" + toml));
    });
  };
  EXPECT_CONTAINS(refusal(""), "needs data.vocab_size");
  EXPECT_CONTAINS(
      refusal("vocab_size = 257"),
      "recipe.toml:5:14: a vocabulary of 257 tokens is not between 258, for the bytes and 2 special");
  EXPECT_CONTAINS(refusal("vocab_size = 300\nend = 'a'"), "'a' is the token of a byte already");
  EXPECT_CONTAINS(
      error_of<core::InputError>([] { load("[data]\ntask = 'text'\ntrain = ['x']\nvocab_size = 300\n"); }),
      "only with data.tokenizer = \"bpe\"");
}

TEST(TrainedTokenizer, IsNotMadeOfNothing) {
  const TemporaryFolder folder;
  core::write_file(folder / "a.tsv", "zwei\ttwo\n");
  for (const std::string what : {"'translation'\nmin_characters = 4", "'text'\nmin_characters = 10"}) {
    DataOptions options =
        load("[data]\ntrain = ['x']\ntokenizer = 'bpe'\nvocab_size = 261\ntask = " + what + "\n");
    const bool text = options.task == "text";
    if (text) core::write_file(folder / "a.txt", "zwei two\n");
    options.train = {(folder / (text ? "a.txt" : "a.tsv")).string()};
    EXPECT_CONTAINS(error_of<core::InputError>([&] { train_tokenizer(options); }),
                    fmt::format("{}: left out are 1 of other lengths (data.min_characters = {}, ",
                                options.train[0], options.min_characters));
    --options.min_characters;
    EXPECT_EQ(train_tokenizer(options).vocab.size(), 261u);
    core::write_file(options.train[0], text ? "" : "\t\n");
    options.min_characters = 0;
    EXPECT_EQ(error_of<core::InputError>([&] { train_tokenizer(options); }),
              fmt::format("there is no text in {}: left out are {} empty", options.train[0], text ? 1 : 2));
  }
}

TEST(TrainedTokenizer, TellsHowFarItIs) {
  const TemporaryFolder folder;
  core::write_file(folder / "a.tsv", "der Hund und die Katze\tthe dog and the cat\nund\tand\n");
  DataOptions options =
      load("[data]\ntask = 'translation'\ntrain = ['x']\ntokenizer = 'bpe'\nvocab_size = 261\n");
  options.train = {(folder / "a.tsv").string()};
  std::vector<std::pair<int64_t, int64_t>> told;
  train_tokenizer(options, [&told](int64_t texts, int64_t tokens) { told.emplace_back(texts, tokens); });
  EXPECT_EQ(told, (std::vector<std::pair<int64_t, int64_t>>{
                      {1, 0}, {2, 0}, {3, 0}, {4, 0}, {4, 259}, {4, 260}, {4, 261}}));
}

TEST(TokenizerName, MistypedIsNotTakenForAPath) {
  const auto refusal = [](const std::string& name) {
    return error_of<core::InputError>([&name] {
      load("[data]\ntask = 'translation'\ntrain = ['x.tsv']\nvocab_size = 300\ntokenizer = '" + name + "'\n");
    });
  };
  EXPECT_CONTAINS(refusal("bppe"),
                  "'bppe' is neither byte nor bpe, and no file or folder; did you mean 'bpe'?");
  EXPECT_EQ(refusal("bppe").find('\n'), std::string::npos);  // vocab_size is not to blame
  EXPECT_CONTAINS(refusal("a/bppe"), "'data.vocab_size' = 300 has a meaning only");
}

TEST(TrainedTokenizer, DependsOnContent) {
  const TemporaryFolder folder;
  core::write_file(folder / "a.de", "a\n");
  core::write_file(folder / "a.en", "b\n");
  DataOptions options =
      load("[data]\ntask = 'translation'\ntrain = ['x']\ntokenizer = 'bpe'\nvocab_size = 270\n");
  options.train = {(folder / "a.{de,en}").string()};
  const auto before = tokenizer_inputs(options);
  EXPECT_EQ(tokenizer_inputs(options), before);
  core::write_file(folder / "a.en", "c\n");
  EXPECT_NE(tokenizer_inputs(options), before);
}

}  // namespace
}  // namespace exactmamba::data
