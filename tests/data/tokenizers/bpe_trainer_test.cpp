#include "data/tokenizers/bpe_trainer.h"

#include <algorithm>
#include <sstream>

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/files.h"
#include "data/tokenizers/bpe_tokenizer.h"
#include "tests/support/files.h"
#include "tests/support/tensors.h"

namespace exactmamba::data {
namespace {

using core::Json;
using testing::error_of;
using testing::golden;

std::vector<std::string> lines_of(const std::filesystem::path& file) {
  std::istringstream text(core::read_file(file));
  std::vector<std::string> lines;
  for (std::string line; std::getline(text, line);) lines.push_back(line);
  return lines;
}

BpeSpec trained(const BpeTrainingOptions& options, const std::vector<std::string>& texts) {
  BpeTrainer trainer(options);
  for (const std::string& text : texts) trainer.add(text);
  return trainer.train();
}

TEST(BpeTrainer, MakesTheVocabulariesAndMergesOfTheTokenizersLibrary) {
  auto lines = lines_of(golden("tokenizers/bpe_training/corpus.txt"));
  const Json results = core::read_json(golden("tokenizers/bpe_training/expected.json"))["results"];
  EXPECT_EQ(results.size(), 3u);
  for (const Json& expected : results) {
    const BpeTrainingOptions options{.vocab_size = expected["vocab_size"],
                                     .min_frequency = expected["min_frequency"],
                                     .special_tokens = expected["special_tokens"]};
    const BpeSpec spec = trained(options, lines);
    EXPECT_EQ(spec.vocab, expected["vocab"].get<std::vector<std::string>>());
    ASSERT_EQ(spec.merges.size(), expected["merges"].size());
    for (size_t i = 0; i < spec.merges.size(); ++i)
      EXPECT_EQ(Json({spec.merges[i].first, spec.merges[i].second}), expected["merges"][i]) << i;
    std::reverse(lines.begin(), lines.end());
    EXPECT_EQ(json_of(trained(options, lines)), json_of(spec));
  }
}

TEST(BpeTrainer, CountsOverlappingPairs) {
  const BpeSpec spec =
      trained({.vocab_size = 258}, {"aaaa bc bc bc"});  // (a, a) three times, (Ġ, b) too: smaller ids first
  EXPECT_EQ(spec.merges, (std::vector<std::pair<std::string, std::string>>{{"a", "a"}, {"b", "c"}}));
}

TEST(BpeTrainer, ItsTokenizerGivesTheTextBack) {
  const auto lines = lines_of(golden("tokenizers/bpe_training/corpus.txt"));
  const BpeSpec spec = trained({.vocab_size = 500, .special_tokens = {"<eos>"}, .nfc = true}, lines);
  const BpeTokenizer tokenizer(bpe_spec_from_json(json_of(spec), "t.json"));
  EXPECT_EQ(tokenizer.vocab_size(), 500);
  EXPECT_EQ(tokenizer.eos_id(), 0);
  size_t ids = 0, bytes = 0;
  for (const std::string& line : lines) {
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(line)), line);
    ids += tokenizer.encode(line).size();
    bytes += line.size();
  }
  EXPECT_LT(2 * ids, bytes);
}

TEST(BpeTrainer, RefusesWhatCannotWork) {
  const auto message = [](const BpeTrainingOptions& options) {
    return error_of<core::InputError>([&] { BpeTrainer trainer(options); });
  };
  EXPECT_CONTAINS(message({.vocab_size = 257, .special_tokens = {"<a>", "<b>"}}),
                  "a vocabulary of 257 tokens is not between 258, for the bytes and 2 special tokens, and ");
  EXPECT_CONTAINS(message({.special_tokens = {"<a>", "<a>"}}), "'<a>' is given twice");
  EXPECT_CONTAINS(message({.special_tokens = {""}}), "must be text");
  EXPECT_CONTAINS(message({.special_tokens = {"a", "a"}}), "'a' is given twice");
  EXPECT_CONTAINS(message({.special_tokens = {"a"}}), "'a' is the token of a byte already");
  BpeTrainer trainer({});
  EXPECT_THROW(trainer.add("\xFF"), core::InputError);
  EXPECT_EQ(trainer.train().vocab.size(), 256u);
}

}  // namespace
}  // namespace exactmamba::data
