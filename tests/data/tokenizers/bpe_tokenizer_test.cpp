// Against Hugging Face's tokenizers 0.23 (tests/golden/tokenizers/README.md): ids, offsets, decoded text.
#include "data/tokenizers/bpe_tokenizer.h"

#include <iterator>
#include <map>
#include <sstream>

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "tests/support/files.h"
#include "tests/support/golden_json.h"
#include "tests/support/tensors.h"

namespace exactmamba::data {
namespace {

using core::Json;
using testing::error_of;
using testing::golden;
using testing::TemporaryFolder;
using Ids = std::vector<int64_t>;

std::shared_ptr<const BpeTokenizer> tokenizer_of(const std::string& folder) {
  static std::map<std::string, std::shared_ptr<const BpeTokenizer>> loaded;
  auto& tokenizer = loaded[folder];
  if (!tokenizer) tokenizer = BpeTokenizer::load(golden("tokenizers/" + folder + "/tokenizer.json"));
  return tokenizer;
}

std::vector<Span> spans_of(const Json& offsets) {
  std::vector<Span> spans;
  for (const Json& offset : offsets) spans.push_back({offset[0], offset[1]});
  return spans;
}

class Golden : public ::testing::TestWithParam<std::string> {};

TEST_P(Golden, EncodingsOffsetsAndDecodedTextsAreEqual) {
  const auto tokenizer = tokenizer_of(GetParam());
  const Json cases = testing::golden_json("tokenizers/" + GetParam() + "/encodings.json")["cases"];
  EXPECT_GE(cases.size(), 130u);
  for (const Json& row : cases) {
    const auto name = row["name"].get<std::string>(), text = row["text"].get<std::string>();
    const Encoding encoding = tokenizer->encode_with_offsets(text);
    EXPECT_EQ(encoding.ids, row["ids"].get<Ids>()) << name;
    EXPECT_EQ(tokenizer->encode(text), encoding.ids) << name;
    EXPECT_EQ(encoding.offsets, spans_of(row["offsets"])) << name;
    const std::string decoded = row["decoded"], skipped = row.value("decoded_skip_special", decoded);
    EXPECT_EQ(tokenizer->decode(encoding.ids, SpecialTokens::kKeep), decoded) << name;
    EXPECT_EQ(tokenizer->decode(encoding.ids), skipped) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Tokenizers, Golden, ::testing::Values("neox", "tiny_nfc", "tiny_plain"));

TEST(BpeTokenizer, DecodesCharactersThatAreCutApart) {
  const auto tokenizer = tokenizer_of("neox");
  const Json cases = core::read_json(golden("tokenizers/neox/decode.json"))["cases"];
  EXPECT_EQ(cases.size(), 138u);
  for (const Json& row : cases) {
    const Ids ids = row["ids"];
    const std::string decoded = row["decoded"], skipped = row["decoded_skip_special"];
    EXPECT_EQ(tokenizer->decode(ids, SpecialTokens::kKeep), decoded) << row.dump();
    EXPECT_EQ(tokenizer->decode(ids), skipped) << row.dump();
  }
}

TEST(BpeTokenizer, LlamaCppsTestVectorsAreEqual) {
  const auto tokenizer = tokenizer_of("neox");
  const std::string separator = "\n__ggml_vocab_test__\n";
  const std::string texts = core::read_file(golden("tokenizers/neox/known-encodings.inp"));
  std::istringstream lines(core::read_file(golden("tokenizers/neox/known-encodings.out")));
  int cases = 0;
  size_t begin = 0;
  for (std::string line; std::getline(lines, line); ++cases) {
    const size_t end = std::min(texts.find(separator, begin), texts.size());
    std::istringstream words(line);
    const Ids expected{std::istream_iterator<int64_t>(words), {}};
    EXPECT_EQ(tokenizer->encode(texts.substr(begin, end - begin)), expected) << cases;
    begin = end + separator.size();
  }
  EXPECT_EQ(cases, 46);
}

TEST(BpeTokenizer, OfAddedTokensWithOneNormalFormTheFirstCounts) {
  BpeSpec spec = read_bpe_spec(golden("tokenizers/tiny_nfc/tokenizer.json"));
  const auto id = static_cast<int64_t>(spec.vocab.size());
  for (const std::string content : {"u\u0308\u0304", "\u01d6"})
    spec.added_tokens.push_back(
        {id + (content.size() == 2), content, /*special=*/false, /*normalized=*/true});
  const BpeTokenizer tokenizer(spec, "");
  EXPECT_EQ(tokenizer.encode("\u01d6u\u0308\u0304"), (Ids{id, id}));
  EXPECT_EQ(tokenizer.decode({id + 1}), "\u01d6");
}

TEST(BpeTokenizer, InvalidUtf8IsRefusedAtItsByte) {
  const auto tokenizer = tokenizer_of("tiny_nfc");
  const Json cases = core::read_json(golden("tokenizers/invalid_utf8.json"))["cases"];
  EXPECT_EQ(cases.size(), 16u);
  for (const Json& row : cases) {
    const std::string hex = row["hex"];
    std::string text;
    for (size_t i = 0; i < hex.size(); i += 2)
      text.push_back(static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
    const std::string message = error_of<core::InputError>([&] { tokenizer->encode(text); });
    EXPECT_TRUE(message.starts_with(fmt::format("byte {} of the text", row["first_bad_byte"].get<int>())))
        << message;
    EXPECT_THROW(tokenizer->encode_with_offsets(text), core::InputError);
  }
}

TEST(BpeTokenizer, SaysWhatItsTokensAre) {
  const auto tokenizer = tokenizer_of("neox");
  EXPECT_EQ(tokenizer->vocab_size(), 50277);
  EXPECT_EQ(tokenizer->eos_id(), 0);
  EXPECT_EQ(tokenizer->token_text(tokenizer->encode(" the").at(0)), "␣the");
  EXPECT_EQ(tokenizer->token_text(tokenizer->encode("\n").at(0)), "\\n");
  EXPECT_EQ(tokenizer->token_text(50276), "␣␣");
  EXPECT_EQ(tokenizer->token_text(50277), "");
  EXPECT_EQ(tokenizer->token_text(-1), "");
  EXPECT_THROW(tokenizer->decode({-1}), core::InputError);
  EXPECT_EQ(tokenizer_of("tiny_nfc")->eos_id(), 1);    // <eos>
  EXPECT_EQ(tokenizer_of("tiny_plain")->eos_id(), 1);  // [EOS]
  EXPECT_NE(tokenizer->name(), tokenizer_of("tiny_nfc")->name());
}

}  // namespace
}  // namespace exactmamba::data
