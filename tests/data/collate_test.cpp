#include <gtest/gtest.h>

#include "core/error.h"
#include "data/dataset.h"
#include "tests/support/batches.h"

namespace exactmamba::data {
namespace {

using testing::values;

TEST(Collate, PadsShortRowsAsSequencesOfTheirOwn) {
  const Row longer{{5, 6, 7, 8, 9}, {-100, 7, 8, -100, 1}, {0, 3}};
  const Row shorter{{4, 3}, {3, 2}, {0}};
  const Batch batch = collate({longer, shorter}, 77);
  EXPECT_EQ(batch.input_ids.sizes(), at::IntArrayRef({2, 5}));
  EXPECT_EQ(batch.input_ids.scalar_type(), at::kLong);
  EXPECT_EQ(values(batch.input_ids), (std::vector<int64_t>{5, 6, 7, 8, 9, 4, 3, 77, 77, 77}));
  EXPECT_EQ(values(batch.targets), (std::vector<int64_t>{-100, 7, 8, -100, 1, 3, 2, -100, -100, -100}));
  EXPECT_EQ(batch.cu_seqlens.scalar_type(), at::kInt);
  EXPECT_EQ(values(batch.cu_seqlens), (std::vector<int64_t>{0, 3, 5, 7, 10}));
  EXPECT_EQ(batch.target_count, 5);
}

TEST(Collate, RefusesRowsThatContradictThemselves) {
  EXPECT_THROW(collate({}, 0), core::InputError);
  EXPECT_THROW(collate({Row{{}, {}, {0}}}, 0), core::InputError);
  EXPECT_THROW(collate({Row{{1, 2}, {2}, {0}}}, 0), core::InputError);
  EXPECT_THROW(collate({Row{{1, 2}, {2, 3}, {}}}, 0), core::InputError);
  EXPECT_THROW(collate({Row{{1, 2}, {2, 3}, {1}}}, 0), core::InputError);
  EXPECT_THROW(collate({Row{{1, 2}, {2, 3}, {0, 2}}}, 0), core::InputError);
  EXPECT_THROW(collate({Row{{1, 2}, {2, 3}, {0, 1, 1}}}, 0), core::InputError);
}

}  // namespace
}  // namespace exactmamba::data
