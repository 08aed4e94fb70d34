#include "data/byte_tokenizer.h"

#include <set>

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/utf8.h"

namespace exactmamba::data {
namespace {

TEST(ByteTokenizer, GivesBytesBack) {
  const ByteTokenizer tokenizer;
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all.push_back(static_cast<char>(byte));
  const std::vector<int64_t> ids = tokenizer.encode(all);
  ASSERT_EQ(ids.size(), 256u);
  for (int64_t byte = 0; byte < 256; ++byte) EXPECT_EQ(ids[byte], byte);
  EXPECT_EQ(tokenizer.decode(ids), all);
  EXPECT_EQ(tokenizer.encode("é"), (std::vector<int64_t>{0xC3, 0xA9}));
  EXPECT_EQ(tokenizer.vocab_size(), 257);
  EXPECT_EQ(tokenizer.eos_id(), 256);
  EXPECT_EQ(tokenizer.decode({'a', 256, 'b'}), "ab");
  EXPECT_THROW(tokenizer.decode({257}), core::InputError);
  EXPECT_THROW(tokenizer.decode({-1}), core::InputError);
}

TEST(ByteTokenizer, LabelsAreDistinctAndPrintable) {
  const ByteTokenizer tokenizer;
  std::set<std::string> labels;
  for (int64_t id = 0; id < 257; ++id) {
    const std::string label = tokenizer.token_text(id);
    EXPECT_FALSE(label.empty()) << id;
    EXPECT_EQ(core::find_invalid_utf8(label), std::nullopt) << id;
    for (const char c : label) EXPECT_TRUE(static_cast<unsigned char>(c) >= 0x20 && c != 0x7f) << id;
    labels.insert(label);
  }
  EXPECT_EQ(labels.size(), 257u);
  EXPECT_EQ(tokenizer.token_text('a'), "a");
  EXPECT_EQ(tokenizer.token_text(' '), "␣");
  EXPECT_EQ(tokenizer.token_text(0xE9), "<0xE9>");
  EXPECT_EQ(tokenizer.token_text(257), "");
  EXPECT_EQ(tokenizer.token_text(-1), "");
}

}  // namespace
}  // namespace exactmamba::data
