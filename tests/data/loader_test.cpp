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
  Loader loader(numbers(23), {.batch_size = 4, .seed = 7, .drop_last = false});
  ASSERT_EQ(loader.batches_per_epoch(), 6);
  std::vector<Rows> epochs;
  for (int epoch = 0; epoch < 3; ++epoch) {
    Rows seen;
    for (const Rows& batch : take(loader, epoch * 6, 6)) seen.insert(seen.end(), batch.begin(), batch.end());
    epochs.push_back(seen);
    std::sort(seen.begin(), seen.end());
    Rows all(23);
    std::iota(all.begin(), all.end(), 0);
    EXPECT_EQ(seen, all) << "epoch " << epoch;
  }
  EXPECT_EQ(std::set<Rows>(epochs.begin(), epochs.end()).size(), 3u);
}

TEST(Loader, KeepsTheOrderWithoutShuffle) {
  Loader loader(numbers(7), {.batch_size = 3, .shuffle = false});
  EXPECT_EQ(loader.batches_per_epoch(), 2);  // row 6 is dropped
  EXPECT_EQ(take(loader, 0, 3), (std::vector<Rows>{{0, 1, 2}, {3, 4, 5}, {0, 1, 2}}));
}

struct Case {
  int64_t ranks, prefetch;
  bool drop_last;
};

class Resume : public ::testing::TestWithParam<Case> {
 protected:
  /// Global batches, the slices of the ranks put together, from a loader that starts at `position`.
  std::vector<Rows> global(const std::shared_ptr<const Dataset>& dataset, int64_t position,
                           int64_t count) const {
    const Case c = GetParam();
    std::vector<Rows> batches(static_cast<size_t>(count));
    for (int64_t rank = 0; rank < c.ranks; ++rank) {
      Loader loader(dataset, {.batch_size = 8 / c.ranks,
                              .seed = 3,
                              .prefetch = c.prefetch,
                              .drop_last = c.drop_last,
                              .rank = rank,
                              .ranks = c.ranks});
      const std::vector<Rows> own = take(loader, position, count);
      EXPECT_EQ(loader.position(), position + count);
      for (int64_t k = 0; k < count; ++k) batches[k].insert(batches[k].end(), own[k].begin(), own[k].end());
    }
    return batches;
  }
};

/// What one undisturbed rank without prefetch sees.
std::vector<Rows> undisturbed(const std::shared_ptr<const Dataset>& dataset, int64_t count, bool drop_last) {
  Loader loader(dataset, {.batch_size = 8, .seed = 3, .prefetch = 0, .drop_last = drop_last});
  return take(loader, 0, count);
}

TEST_P(Resume, AtAnyPositionGivesTheUndisturbedBatches) {
  const auto dataset = numbers(45);
  const std::vector<Rows> expected = undisturbed(dataset, 20, GetParam().drop_last);
  for (const int64_t position : {0, 1, 4, 5, 6, 13}) {
    const std::vector<Rows> tail(expected.begin() + position, expected.begin() + position + 7);
    EXPECT_EQ(global(dataset, position, 7), tail) << "from " << position;
  }
}

TEST_P(Resume, OfTheCopyTaskToo) {
  const auto task = std::make_shared<CopyTask>(CopyOptions{.context = 64, .held_out = 50}, 11,
                                               CopyPart::kTrain, RowLayout::kPacked);
  const std::vector<Rows> expected = undisturbed(task, 9, GetParam().drop_last);
  for (const int64_t position : {1, 5}) {
    const std::vector<Rows> tail(expected.begin() + position, expected.begin() + position + 4);
    EXPECT_EQ(global(task, position, 4), tail) << "from " << position;
  }
}

INSTANTIATE_TEST_SUITE_P(All, Resume,
                         ::testing::Values(Case{1, 0, true}, Case{1, 3, true}, Case{2, 0, true},
                                           Case{2, 3, true}, Case{1, 3, false}, Case{2, 0, false},
                                           Case{2, 3, false}, Case{4, 1, true}),
                         [](const auto& test) {
                           return fmt::format("ranks{}prefetch{}{}", test.param.ranks, test.param.prefetch,
                                              test.param.drop_last ? "" : "keep_last");
                         });

TEST(Loader, SeeksBackAndForthWhilePrefetching) {
  Loader loader(numbers(100), {.batch_size = 5, .seed = 1, .prefetch = 4});
  const std::vector<Rows> first = take(loader, 0, 30);
  for (const int64_t position : {29, 0, 17, 18, 3}) {
    EXPECT_EQ(take(loader, position, 1).front(), first[position]);
    EXPECT_EQ(loader.position(), position + 1);
  }
}

TEST(Loader, GivesRanksWithoutARowABatchWithoutTargets) {
  Loader first(numbers(5), {.batch_size = 2, .shuffle = false, .drop_last = false, .rank = 0, .ranks = 2});
  Loader second(numbers(5), {.batch_size = 2, .shuffle = false, .drop_last = false, .rank = 1, .ranks = 2});
  first.seek(1);
  second.seek(1);
  const Batch a = first.next(), b = second.next();  // one row for two ranks
  EXPECT_EQ(a.target_count + b.target_count, 1);
  EXPECT_EQ(a.input_ids.sizes(), at::IntArrayRef({1, 1}));
  EXPECT_EQ(b.input_ids.sizes(), at::IntArrayRef({1, 1}));
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
  EXPECT_THROW(Loader(numbers(0), {.batch_size = 1, .drop_last = false}), core::InputError);
  EXPECT_THROW(Loader(numbers(7), {.batch_size = 1, .rank = 2, .ranks = 2}), core::InputError);
  EXPECT_NO_THROW(Loader(numbers(7), {.batch_size = 8, .drop_last = false}));
}

TEST(BatchesInOrder, TakesEveryRowOnce) {
  const NumberedRows rows(7);
  std::vector<Rows> seen;
  for (const Batch& batch : batches_in_order(rows, 3)) seen.push_back(values(batch.input_ids));
  EXPECT_EQ(seen, (std::vector<Rows>{{0, 1, 2}, {3, 4, 5}, {6}}));
  EXPECT_EQ(batches_in_order(rows, 3, 4).size(), 2u);
  EXPECT_EQ(batches_in_order(rows, 3, 4).back().target_count, 1);
  EXPECT_THROW(batches_in_order(NumberedRows(kEndlessRows), 3), core::InputError);
}

}  // namespace
}  // namespace exactmamba::data
