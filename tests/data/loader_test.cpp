#include "data/loader.h"

#include <algorithm>
#include <set>

#include <gtest/gtest.h>

#include "core/error.h"
#include "data/copy_task.h"
#include "tests/support/batches.h"

namespace exactmamba::data {
namespace {

using testing::NumberedRows;
using testing::values;

using Rows = std::vector<int64_t>;

std::shared_ptr<const Dataset> numbers(int64_t rows, int64_t broken = -1) {
  return std::make_shared<NumberedRows>(rows, 1, broken);
}

/// The input ids of `count` batches from `position` on.
std::vector<Rows> take(Loader& loader, int64_t position, int64_t count) {
  loader.seek(position);
  std::vector<Rows> batches;
  for (int64_t k = 0; k < count; ++k) batches.push_back(values(loader.next().input_ids));
  return batches;
}

TEST(Loader, ShowsEveryRowOncePerEpochInANewOrder) {
  Loader loader(numbers(24), {.batch_size = 4, .seed = 7});
  std::vector<Rows> epochs;
  for (int epoch = 0; epoch < 3; ++epoch) {
    Rows seen;
    for (const Rows& batch : take(loader, epoch * 6, 6)) seen.insert(seen.end(), batch.begin(), batch.end());
    epochs.push_back(seen);
    std::sort(seen.begin(), seen.end());
    Rows all(24);
    std::iota(all.begin(), all.end(), 0);
    EXPECT_EQ(seen, all) << "epoch " << epoch;
  }
  EXPECT_EQ(std::set<Rows>(epochs.begin(), epochs.end()).size(), 3u);
}

TEST(Loader, KeepsTheOrderWithoutShuffle) {
  Loader loader(numbers(7), {.batch_size = 3, .shuffle = false});
  EXPECT_EQ(take(loader, 0, 3), (std::vector<Rows>{{0, 1, 2}, {3, 4, 5}, {0, 1, 2}}));  // row 6 is left out
}

TEST(Loader, NumbersTheRowsOverRanksAndEpochs) {
  for (const int64_t rank : {0, 1}) {
    Loader loader(numbers(7), {.batch_size = 3, .rank = rank, .ranks = 2});
    for (int64_t k = 0; k < 4; ++k) EXPECT_EQ(loader.next().first_row, 6 * k + 3 * rank);
  }
}

struct ResumeCase {
  int64_t ranks, prefetch;
};

class Resume : public ::testing::TestWithParam<ResumeCase> {
 protected:
  /// Global batches, the slices of the ranks put together, from a loader that starts at `position`.
  std::vector<Rows> global(const std::shared_ptr<const Dataset>& dataset, int64_t position,
                           int64_t count) const {
    const ResumeCase c = GetParam();
    std::vector<Rows> batches(static_cast<size_t>(count));
    for (int64_t rank = 0; rank < c.ranks; ++rank) {
      Loader loader(
          dataset,
          {.batch_size = 8 / c.ranks, .seed = 3, .prefetch = c.prefetch, .rank = rank, .ranks = c.ranks});
      const std::vector<Rows> own = take(loader, position, count);
      EXPECT_EQ(loader.position(), position + count);
      for (int64_t k = 0; k < count; ++k) batches[k].insert(batches[k].end(), own[k].begin(), own[k].end());
    }
    return batches;
  }
};

/// What one undisturbed rank without prefetch sees.
std::vector<Rows> undisturbed(const std::shared_ptr<const Dataset>& dataset, int64_t count) {
  Loader loader(dataset, {.batch_size = 8, .seed = 3, .prefetch = 0});
  return take(loader, 0, count);
}

TEST_P(Resume, AtAnyPositionGivesTheUndisturbedBatches) {
  const auto dataset = numbers(45);
  const std::vector<Rows> expected = undisturbed(dataset, 20);
  for (const int64_t position : {0, 1, 4, 5, 6, 13}) {
    const std::vector<Rows> tail(expected.begin() + position, expected.begin() + position + 7);
    EXPECT_EQ(global(dataset, position, 7), tail) << "from " << position;
  }
}

TEST_P(Resume, OfTheCopyTaskToo) {
  const auto task = std::make_shared<CopyTask>(CopyOptions{.context = 64, .held_out = 50}, 11,
                                               CopyPart::kTrain, RowLayout::kPacked);
  const std::vector<Rows> expected = undisturbed(task, 9);
  for (const int64_t position : {1, 5}) {
    const std::vector<Rows> tail(expected.begin() + position, expected.begin() + position + 4);
    EXPECT_EQ(global(task, position, 4), tail) << "from " << position;
  }
}

INSTANTIATE_TEST_SUITE_P(All, Resume,
                         ::testing::Values(ResumeCase{1, 0}, ResumeCase{1, 3}, ResumeCase{2, 0},
                                           ResumeCase{2, 3}, ResumeCase{4, 1}),
                         [](const auto& test) {
                           return fmt::format("ranks{}prefetch{}", test.param.ranks, test.param.prefetch);
                         });

TEST(Loader, SeeksBackAndForthWhilePrefetching) {
  Loader loader(numbers(100), {.batch_size = 5, .seed = 1, .prefetch = 4});
  const std::vector<Rows> first = take(loader, 0, 30);
  for (const int64_t position : {29, 0, 17, 18, 3}) {
    EXPECT_EQ(take(loader, position, 1).front(), first[position]);
    EXPECT_EQ(loader.position(), position + 1);
  }
}

TEST(Loader, RethrowsWhatARowThrew) {
  for (const int64_t prefetch : {0, 3}) {
    Loader loader(numbers(10, 5), {.batch_size = 2, .shuffle = false, .prefetch = prefetch});
    EXPECT_EQ(values(loader.next().input_ids), (Rows{0, 1}));
    EXPECT_EQ(values(loader.next().input_ids), (Rows{2, 3}));
    for (int attempt = 0; attempt < 2; ++attempt) {
      try {
        loader.next();
        ADD_FAILURE() << "no error with prefetch " << prefetch;
      } catch (const core::InputError& error) {
        EXPECT_STREQ(error.what(), "row 5 is broken");
      }
      EXPECT_EQ(loader.position(), 2);
    }
    loader.seek(3);
    EXPECT_EQ(values(loader.next().input_ids), (Rows{6, 7}));
  }
}

TEST(Loader, RefusesADatasetBelowOneBatch) {
  EXPECT_THROW(Loader(numbers(7), {.batch_size = 8}), core::InputError);
  EXPECT_THROW(Loader(numbers(7), {.batch_size = 4, .rank = 1, .ranks = 2}), core::InputError);
  EXPECT_THROW(Loader(numbers(0), {.batch_size = 1}), core::InputError);
  EXPECT_THROW(Loader(numbers(7), {.batch_size = 1, .rank = 2, .ranks = 2}), core::InputError);
  EXPECT_NO_THROW(Loader(numbers(8), {.batch_size = 8}));
}

TEST(BatchesInOrder, TakesEveryRowOnce) {
  const NumberedRows rows(7);
  std::vector<Rows> seen;
  const BatchesInOrder batches(rows, 3);
  for (int64_t i = 0; i < batches.size(); ++i) seen.push_back(values(batches[i].input_ids));
  EXPECT_EQ(seen, (std::vector<Rows>{{0, 1, 2}, {3, 4, 5}, {6}}));
  const BatchesInOrder first(rows, 3, 4);
  EXPECT_EQ(first.size(), 2);
  EXPECT_EQ(first[1].target_count, 1);
  EXPECT_EQ(BatchesInOrder(rows, 3, 100).size(), 3);
  EXPECT_THROW(BatchesInOrder(NumberedRows(kEndlessRows), 3), core::InputError);
}

/// Data of any size can be evaluated: the row that cannot be read is no trouble before its batch.
TEST(BatchesInOrder, MakesABatchWhenItIsAskedFor) {
  const NumberedRows rows(7, 1, 5);
  const BatchesInOrder batches(rows, 3);
  EXPECT_EQ(values(batches[0].input_ids), (Rows{0, 1, 2}));
  EXPECT_EQ(values(batches[2].input_ids), (Rows{6}));
  EXPECT_THROW(batches[1], core::InputError);
}

}  // namespace
}  // namespace exactmamba::data
