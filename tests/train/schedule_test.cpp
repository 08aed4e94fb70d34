#include "train/schedule.h"

#include <cmath>

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/json.h"
#include "tests/support/tensors.h"

namespace exactmamba::train {
namespace {

constexpr ScheduleKind kAll[] = {ScheduleKind::kCosine, ScheduleKind::kLinear, ScheduleKind::kInverseSqrt,
                                 ScheduleKind::kConstant};

TEST(Schedule, CosineAgreesWithTheGoldenValues) {
  const core::Json golden = core::read_json(testing::golden("training/schedule.json"));
  const Schedule schedule = {ScheduleKind::kCosine, golden["lr"], golden["min_lr_ratio"], golden["steps"],
                             golden["warmup_steps"]};
  for (size_t i = 0; i < golden["update"].size(); ++i) {
    const double expected = golden["learning_rate"][i];
    EXPECT_NEAR(schedule.learning_rate(golden["update"][i]), expected, 1e-15 * expected)
        << "update " << golden["update"][i];
  }
}

TEST(Schedule, WarmsUpFromAFractionToThePeak) {
  for (ScheduleKind kind : kAll) {
    const Schedule schedule = {kind, 2e-3, 0.1, 50, 8};
    EXPECT_DOUBLE_EQ(schedule.learning_rate(1), 2e-3 / 8);
    EXPECT_DOUBLE_EQ(schedule.learning_rate(4), 1e-3);
    EXPECT_DOUBLE_EQ(schedule.learning_rate(8), 2e-3);
  }
}

TEST(Schedule, CosineAndLinearEndExactlyAtTheFloor) {
  for (ScheduleKind kind : {ScheduleKind::kCosine, ScheduleKind::kLinear}) {
    for (int64_t steps : {1, 2, 7, 372, 4097}) {
      const Schedule schedule = {kind, 3e-3, 0.25, steps, 0};
      EXPECT_EQ(schedule.learning_rate(steps), 0.25 * 3e-3) << steps << " steps";
    }
  }
}

TEST(Schedule, LinearIsAStraightLine) {
  const Schedule schedule = {ScheduleKind::kLinear, 1.0, 0.0, 110, 10};
  EXPECT_DOUBLE_EQ(schedule.learning_rate(35), 0.75);
  EXPECT_DOUBLE_EQ(schedule.learning_rate(60), 0.5);
  EXPECT_EQ(schedule.learning_rate(110), 0.0);
}

TEST(Schedule, InverseSqrtFallsWithTheRootAndStopsAtTheFloor) {
  const Schedule schedule = {ScheduleKind::kInverseSqrt, 1.0, 0.2, 10000, 16};
  EXPECT_DOUBLE_EQ(schedule.learning_rate(64), 0.5);
  EXPECT_DOUBLE_EQ(schedule.learning_rate(256), 0.25);
  EXPECT_DOUBLE_EQ(schedule.learning_rate(10000), 0.2);
  const Schedule without_warmup = {ScheduleKind::kInverseSqrt, 1.0, 0.0, 100, 0};
  EXPECT_DOUBLE_EQ(without_warmup.learning_rate(1), 1.0);
  EXPECT_DOUBLE_EQ(without_warmup.learning_rate(100), 0.1);
}

TEST(Schedule, ConstantStays) {
  const Schedule schedule = {ScheduleKind::kConstant, 5e-4, 0.1, 100, 3};
  EXPECT_DOUBLE_EQ(schedule.learning_rate(1), 5e-4 / 3);
  for (int64_t update : {3, 4, 50, 100}) EXPECT_EQ(schedule.learning_rate(update), 5e-4);
}

TEST(Schedule, NamesAreChecked) {
  EXPECT_EQ(schedule_from_name("inverse_sqrt"), ScheduleKind::kInverseSqrt);
  EXPECT_THROW(schedule_from_name("cosinus"), core::InputError);
}

}  // namespace
}  // namespace exactmamba::train
