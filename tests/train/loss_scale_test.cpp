// The scale's own rule, and updates with a scaled loss against updates without.
#include "train/loss_scale.h"

#include <cmath>

#include <ATen/ops/equal.h>
#include <gtest/gtest.h>

#include "core/distributed/communicator.h"
#include "tests/support/random_model.h"
#include "tests/train/thread_communicator.h"
#include "tests/train/tiny_training.h"
#include "train/update.h"

namespace exactmamba::train {
namespace {

TEST(LossScale, DoublesAfterEveryIntervalOfFiniteUpdates) {
  LossScale scale;
  for (int64_t update = 1; update <= 3 * LossScale::kGrowthInterval; ++update) {
    scale.adapt(true);
    EXPECT_EQ(scale.value, std::ldexp(65536, static_cast<int>(update / 2000))) << update;
    EXPECT_EQ(scale.finite_updates, update % 2000);
  }
}

TEST(LossScale, HalvesWithEveryOverflowDownToItsFloorAndCountsAnew) {
  LossScale scale;
  for (int64_t update = 1; update < 2000; ++update) scale.adapt(true);
  for (int overflows = 1; overflows <= 20; ++overflows) {
    scale.adapt(false);
    EXPECT_EQ(scale.value, std::max(std::ldexp(65536, -overflows), 1.0));
    EXPECT_EQ(scale.finite_updates, 0);
    EXPECT_EQ(scale.can_fall(), overflows < 16);
  }
}

data::Batch tiny_batch() {
  return testing::random_batch(3, 13, testing::kTinyVocabulary, {0, 13, 20, 26}, 5);
}

/// One after the other, with a batch that has little to do with the model.
struct Updates {
  models::MambaLM model = testing::tiny_model(testing::tiny_config());
  AdamW optimizer{model.parameters(), {}};
  std::unique_ptr<core::Communicator> communicator = core::single_process_communicator();

  UpdateResult next(LossScale* scale) {
    return run_update(model, optimizer, {tiny_batch()}, 1e-2, 0.5, *communicator, scale);
  }
};

TEST(LossScale, LeavesNoTraceInAnUpdate) {
  Updates scaled, plain;
  LossScale scale;
  for (int update = 0; update < 5; ++update) {
    const UpdateResult with = scaled.next(&scale), without = plain.next(nullptr);
    EXPECT_EQ(with.loss, without.loss);
    EXPECT_EQ(with.grad_norm, without.grad_norm);
    EXPECT_EQ(with.clip_coefficient, without.clip_coefficient);
    EXPECT_EQ(with.loss_scale, 65536);
    EXPECT_EQ(scaled.model.parameters().checksum(), plain.model.parameters().checksum());
  }
  EXPECT_EQ(scale.finite_updates, 5);
}

TEST(LossScale, AnOverflowIsSkippedAndTriedAgainWithHalfTheScale) {
  Updates updates;
  const std::string before = updates.model.parameters().checksum();
  LossScale scale{0x1p140, 9};  // float ends at 2^128
  while (scale.value > 0x1p135) {
    const double value = scale.value;
    EXPECT_EQ(updates.next(&scale).outcome, Outcome::kOverflow);
    EXPECT_EQ(scale.value, value / 2);
  }
  EXPECT_EQ(updates.model.parameters().checksum(), before);
  EXPECT_EQ(updates.optimizer.steps(), 0);
}

TEST(LossScale, IsNotLoweredWhereItHasNoPart) {
  Updates updates;
  updates.model.parameters().parameter("backbone.norm_f.weight").fill_(NAN);
  LossScale scale{1024, 9};
  EXPECT_EQ(updates.next(&scale).outcome, Outcome::kNotFinite);
  EXPECT_EQ(scale.value, 1024);
}

TEST(LossScale, FallsOnAllRanksWhenTheGradientOfOneOverflows) {
  testing::ThreadGroup(2).run([](core::Communicator& communicator) {
    models::MambaLM model = testing::tiny_model(testing::tiny_config());
    AdamW optimizer(model.parameters(), {});
    const std::string before = model.parameters().checksum();
    data::Batch batch = tiny_batch();
    if (communicator.rank() == 1) {
      batch.targets.fill_(data::kIgnoredTarget);
      batch.target_count = 0;
    }
    LossScale scale{0x1p140, 9};
    const auto update = [&] {
      return run_update(model, optimizer, {batch}, 1e-2, 0.5, communicator, &scale).outcome;
    };
    EXPECT_EQ(update(), Outcome::kOverflow);
    EXPECT_EQ(scale.value, 0x1p139);
    EXPECT_EQ(model.parameters().checksum(), before);
    scale.value = 1024;
    EXPECT_EQ(update(), Outcome::kApplied);
    const at::Tensor own = model.parameters().flat(models::Decay::kYes), first = own.clone();
    communicator.broadcast(first, 0);
    EXPECT_TRUE(own.equal(first));
  });
}

}  // namespace
}  // namespace exactmamba::train
