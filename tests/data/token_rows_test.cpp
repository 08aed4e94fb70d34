#include "data/token_rows.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/files.h"
#include "tests/support/files.h"

namespace exactmamba::data {
namespace {

using testing::error_of;
using testing::TemporaryFolder;

using Ids = std::vector<int64_t>;

class TokenRowsTest : public ::testing::Test {
 protected:
  TokenRows rows(const std::string& lines, int64_t context = 8, RowLayout layout = RowLayout::kOneExample,
                 int64_t vocab = 100) {
    core::write_file(folder_ / "a.jsonl", lines);
    return TokenRows({folder_ / "a.jsonl"}, vocab, context, layout);
  }
  std::string refusal(const std::string& lines) {
    return error_of<core::InputError>([&] { rows(lines); });
  }
  TemporaryFolder folder_;
};

TEST_F(TokenRowsTest, LabelsAreShiftedHere) {
  // transformers predicts labels[i + 1] from position i.
  const TokenRows data = rows(
      "{\"input_ids\": [5, 6, 7, 8], \"labels\": [-100, -100, 7, 9], \"x\": [1]}\n{\"input_ids\": [1, 2]}\n");
  ASSERT_EQ(data.size(), 2);
  EXPECT_EQ(data.row(0).input_ids, (Ids{5, 6, 7, 8}));
  EXPECT_EQ(data.row(0).targets, (Ids{-100, 7, 9, -100}));
  EXPECT_EQ(data.row(0).starts, (Ids{0}));
  EXPECT_EQ(data.row(1).targets, (Ids{2, -100}));
  EXPECT_EQ(data.vocab_size(), 100);
  EXPECT_EQ(data.token_text(42), "42");  // labels of maps
  EXPECT_THROW(data.row(2), core::InputError);
}

TEST_F(TokenRowsTest, WholeExamplesArePackedInFileOrder) {
  const std::string lines =
      "{\"input_ids\": [1, 2, 3]}\n{\"input_ids\": [4, 5]}\n{\"input_ids\": [6, 7]}\n{\"input_ids\": [8, 9, "
      "10, 11, 12]}\n";
  const TokenRows data = rows(lines, 5, RowLayout::kPacked);
  ASSERT_EQ(data.size(), 3);
  EXPECT_EQ(data.row(0).input_ids, (Ids{1, 2, 3, 4, 5}));
  EXPECT_EQ(data.row(0).targets, (Ids{2, 3, -100, 5, -100}));
  EXPECT_EQ(data.row(0).starts, (Ids{0, 3}));
  EXPECT_EQ(data.row(1).input_ids, (Ids{6, 7}));
  EXPECT_EQ(data.row(2).input_ids, (Ids{8, 9, 10, 11, 12}));
  EXPECT_NE(data.fingerprint(), rows(lines, 5, RowLayout::kOneExample).fingerprint());
  EXPECT_EQ(data.fingerprint(), rows(lines + "\n", 5, RowLayout::kPacked).fingerprint());
}

TEST_F(TokenRowsTest, LargeVocabulariesKeepTheirIds) {
  const TokenRows data =
      rows("{\"input_ids\": [65535, 65536, 2147483646]}", 8, RowLayout::kOneExample, INT32_MAX);
  EXPECT_EQ(data.row(0).input_ids, (Ids{65535, 65536, 2147483646}));
  EXPECT_EQ(rows("{\"input_ids\": [0, 65535]}", 8, RowLayout::kOneExample, 65536).row(0).input_ids,
            (Ids{0, 65535}));
}

TEST_F(TokenRowsTest, BadLinesAreNamed) {
  const std::string good = "{\"input_ids\": [1, 2]}\n";
  EXPECT_CONTAINS(refusal(good + "{\"input_ids\": [1, 100]}"),
                  "a.jsonl:2: 'input_ids'[1] is 100, outside data.vocab_size = 100");
  EXPECT_CONTAINS(refusal(good + "{\"input_ids\": [1, -1]}"), "a.jsonl:2: 'input_ids'[1] is -1");
  EXPECT_CONTAINS(refusal(good + "{\"input_ids\": [1, -100]}"), "a.jsonl:2: ");
  EXPECT_CONTAINS(refusal(good + "{\"input_ids\": [1, 2.5]}"), "is 2.5, not a token id");
  EXPECT_CONTAINS(refusal(good + "{\"input_ids\": [1, \"2\"]}"), "not a token id");
  EXPECT_CONTAINS(refusal(good + "{\"input_ids\": [1, 18446744073709551615]}"), "a.jsonl:2: ");
  EXPECT_CONTAINS(refusal(good + "{\"input_ids\": [1, 2], \"labels\": [1]}"), "1 'labels' for 2 'input_ids'");
  EXPECT_CONTAINS(refusal(good + "{\"input_ids\": [1, 2], \"labels\": [1, 100]}"), "'labels'[1] is 100");
  EXPECT_CONTAINS(refusal(good + "{\"input_ids\": [1, 2], \"labels\": [1, -99]}"), "'labels'[1] is -99");
  EXPECT_CONTAINS(refusal(good + "{\"input_ids\": [1, 2], \"labels\": [1, -100]}"), "nothing to predict");
  EXPECT_CONTAINS(refusal(good + "{\"input_ids\": [1]}"), "nothing to predict");
  EXPECT_CONTAINS(refusal(good + "{\"input_ids\": []}"), "a.jsonl:2: 'input_ids' is empty");
  EXPECT_CONTAINS(refusal(good + "{\"input_ids\": 3}"), "a.jsonl:2: ");
  EXPECT_CONTAINS(refusal(good + "{\"ids\": [3]}"), "a.jsonl:2: no label after the first");
  EXPECT_CONTAINS(refusal(good + "{\"id\": [3]}"),
                  "a.jsonl:2: there is no key 'input_ids' or 'ids' but 'id'");
  EXPECT_CONTAINS(refusal(good + "{\"ids\": [1, 100]}"), "a.jsonl:2: 'ids'[1] is 100");
  EXPECT_CONTAINS(refusal(good + "{\"input_ids\": [1,2,3,4,5,6,7,8,9]}"),
                  "9 tokens do not fit into data.context = 8");
  EXPECT_CONTAINS(refusal("\n \n"), "no example");
}

TEST_F(TokenRowsTest, OnlyJsonLinesAreRead) {
  core::write_file(folder_ / "a.txt", "1 2 3");
  EXPECT_CONTAINS(
      error_of<core::InputError>([&] { TokenRows({folder_ / "a.txt"}, 9, 8, RowLayout::kPacked); }), "a.txt");
}

}  // namespace
}  // namespace exactmamba::data
