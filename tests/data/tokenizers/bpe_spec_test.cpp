// What is refused in a tokenizer.json, by the name of the component and where it is.
#include "data/tokenizers/bpe_spec.h"

#include <functional>

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
using testing::TemporaryFolder;

Json small() { return core::read_json(golden("tokenizers/tiny_nfc/tokenizer.json")); }

struct BadSpec {
  std::string name, message;
  std::function<void(Json&)> edit;
};
void PrintTo(const BadSpec& c, std::ostream* out) { *out << c.name; }

class Refused : public ::testing::TestWithParam<BadSpec> {};

TEST_P(Refused, ByNameAndPlace) {
  Json json = small();
  GetParam().edit(json);
  const std::string message = error_of<core::InputError>([&] { bpe_spec_from_json(json, "t.json"); });
  EXPECT_EQ(message.substr(0, GetParam().message.size()), GetParam().message);
  EXPECT_EQ(message.find('\n'), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(
    TokenizerJson, Refused,
    ::testing::Values(
        BadSpec{"Normalizer", "t.json: normalizer.type: \"Lowercase\" is not supported; only NFC is",
                [](Json& j) {
                  j["normalizer"] = {{"type", "Lowercase"}};
                }},
        BadSpec{"PreTokenizer",
                "t.json: pre_tokenizer.type: \"Whitespace\" is not supported; only ByteLevel is",
                [](Json& j) {
                  j["pre_tokenizer"] = {{"type", "Whitespace"}};
                }},
        BadSpec{"NoPreTokenizer", "t.json: pre_tokenizer: null is not supported; only ByteLevel is",
                [](Json& j) { j["pre_tokenizer"] = nullptr; }},
        BadSpec{"PostProcessor", "t.json: post_processor.type: \"TemplateProcessing\" is not supported",
                [](Json& j) {
                  j["post_processor"] = {{"type", "TemplateProcessing"}};
                }},
        BadSpec{"Decoder", "t.json: decoder.type: \"WordPiece\" is not supported",
                [](Json& j) { j["decoder"]["type"] = "WordPiece"; }},
        BadSpec{"NoDecoder", "t.json: decoder: null is not supported", [](Json& j) { j.erase("decoder"); }},
        BadSpec{"Model", "t.json: model.type: \"Unigram\" is not supported; only BPE is",
                [](Json& j) { j["model"]["type"] = "Unigram"; }},
        BadSpec{"NoModel", "t.json: model: is of type null, not an object",
                [](Json& j) { j.erase("model"); }},
        BadSpec{"ModelKey", "t.json: model.max_input_chars: is not supported",
                [](Json& j) { j["model"]["max_input_chars"] = 100; }},
        BadSpec{"Dropout", "t.json: model.dropout: 0.1 is not supported",
                [](Json& j) { j["model"]["dropout"] = 0.1; }},
        BadSpec{"IgnoreMerges", "t.json: model.ignore_merges: true is not supported",
                [](Json& j) { j["model"]["ignore_merges"] = true; }},
        BadSpec{"Affix", "t.json: model.end_of_word_suffix: \"</w>\" is not supported",
                [](Json& j) { j["model"]["end_of_word_suffix"] = "</w>"; }},
        BadSpec{"Truncation", "t.json: truncation: {\"max_length\":512} is not supported; only null is",
                [](Json& j) {
                  j["truncation"] = {{"max_length", 512}};
                }},
        BadSpec{"TopKey", "t.json: extra: is not supported", [](Json& j) { j["extra"] = 1; }},
        BadSpec{"Version", "t.json: version: \"2.0\" is not supported",
                [](Json& j) { j["version"] = "2.0"; }},
        BadSpec{"AddedStrip", "t.json: added_tokens[1].lstrip: true is not supported",
                [](Json& j) { j["added_tokens"][1]["lstrip"] = true; }},
        BadSpec{"AddedEmpty", "t.json: added_tokens[0].content: is empty",
                [](Json& j) { j["added_tokens"][0]["content"] = ""; }},
        BadSpec{"AddedTwice", "t.json: added_tokens[1]: '<pad>' is given twice",
                [](Json& j) { j["added_tokens"][1] = j["added_tokens"][0]; }},
        BadSpec{"AddedIdOfAnother", "t.json: added_tokens[1]: '<eos>' has id 7, but 1 in model.vocab",
                [](Json& j) { j["added_tokens"][1]["id"] = 7; }},
        BadSpec{"AddedIdTaken", "t.json: added_tokens[1]: '!' and 'new' both have id 2",
                [](Json& j) { j["added_tokens"][1]["content"] = "new", j["added_tokens"][1]["id"] = 2; }},
        BadSpec{"VocabIdTwice", "t.json: model.vocab: '<pad>' and '!' both have id 0",
                [](Json& j) { j["model"]["vocab"]["!"] = 0; }},
        BadSpec{"VocabIdFarOut",
                "t.json: model.vocab['!']: is 2000000000, but a token id must be an integer from 0 to",
                [](Json& j) { j["model"]["vocab"]["!"] = 2000000000u; }},
        BadSpec{"VocabIdNegative", "t.json: model.vocab['!']: is -1",
                [](Json& j) { j["model"]["vocab"]["!"] = -1; }},
        BadSpec{"VocabIsAList", "t.json: model.vocab: is []",
                [](Json& j) { j["model"]["vocab"] = Json::array(); }},
        BadSpec{"MergeUnknown", "t.json: model.merges[3]: 'zq' is no token of model.vocab",
                [](Json& j) {
                  j["model"]["merges"][3] = {"z", "q"};
                }},
        BadSpec{"MergeOfThree", "t.json: model.merges[0]: is \"a b c\", but it must be two tokens",
                [](Json& j) { j["model"]["merges"][0] = "a b c"; }},
        BadSpec{"MergesMissing", "t.json: model.merges: is of type null, not a list",
                [](Json& j) { j["model"].erase("merges"); }}),
    [](const auto& tested) { return tested.param.name; });

TEST(BpeSpec, IsWrittenAsItIsRead) {
  for (const std::string name : {"neox", "tiny_nfc", "tiny_plain"}) {
    const BpeSpec spec = read_bpe_spec(golden("tokenizers/" + name + "/tokenizer.json"));
    const Json again = core::parse_json(core::json_text(json_of(spec)), "again");
    EXPECT_EQ(json_of(bpe_spec_from_json(again, "again")), json_of(spec)) << name;
  }
}

TEST(BpeSpec, OlderSpellingsAreRead) {
  Json json = small();
  Json merges = Json::array();
  for (const Json& merge : json["model"]["merges"])
    merges.push_back(merge[0].get<std::string>() + " " + merge[1].get<std::string>());
  json["model"]["merges"] = merges;
  json["model"]["continuing_subword_prefix"] = "";
  json["model"].erase("type");
  json["pre_tokenizer"].erase("use_regex");
  EXPECT_EQ(json_of(bpe_spec_from_json(json, "t.json")), json_of(bpe_spec_from_json(small(), "t.json")));
}

TEST(BpeSpec, AnEndOfDocumentMayStandBeside) {
  const TemporaryFolder folder;
  std::filesystem::copy(golden("tokenizers/tiny_nfc/tokenizer.json"), folder / "tokenizer.json");
  EXPECT_EQ(BpeTokenizer::load(folder.path())->eos_id(), 1);
  testing::put_file(folder / "tokenizer_config.json", R"({"eos_token": {"content": "<pad>"}})");
  EXPECT_EQ(BpeTokenizer::load(folder.path())->eos_id(), 0);
  testing::put_file(folder / "tokenizer_config.json", R"({"eos_token": "<|end|>"})");
  EXPECT_CONTAINS(error_of<core::InputError>([&] { BpeTokenizer::load(folder.path()); }),
                  "'<|end|>', is none of the added tokens");
}

TEST(BpeSpec, BytesWithoutATokenAreNamedWhereTheyAreMet) {
  Json json = small();
  json["model"]["vocab"].erase("z");
  const auto has_z = [](const Json& merge) { return merge.dump().find('z') != std::string::npos; };
  Json merges = Json::array();
  for (const Json& merge : json["model"]["merges"])
    if (!has_z(merge)) merges.push_back(merge);
  json["model"]["merges"] = merges;
  const BpeTokenizer tokenizer(bpe_spec_from_json(json, "t.json"));
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("a y")), "a y");
  EXPECT_CONTAINS(error_of<core::InputError>([&] { tokenizer.encode("a z"); }),
                  "byte 0x7a of the text has no token");
}

}  // namespace
}  // namespace exactmamba::data
