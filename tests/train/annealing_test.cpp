#include "train/annealing.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/json.h"
#include "models/ops/conv_activation.h"
#include "tests/support/tensors.h"

namespace exactmamba::train {
namespace {

core::Json golden() { return core::read_json(testing::golden("training/annealing.json")); }

TEST(Annealing, AlphaAgreesWithTheGoldenValues) {
  const core::Json values = golden();
  const int64_t total = values["total_steps"];
  for (size_t i = 0; i < values["steps_done_before"].size(); ++i) {
    const int64_t done = values["steps_done_before"][i];
    EXPECT_NEAR(annealing_alpha(AnnealingKind::kLinear, done, total), values["alpha_linear"][i], 1e-16)
        << done;
    EXPECT_NEAR(annealing_alpha(AnnealingKind::kPower, done, total), values["alpha_power"][i], 1e-16) << done;
    EXPECT_EQ(annealing_alpha(AnnealingKind::kNone, done, total), 1.0);
  }
}

TEST(Annealing, TheLastTenthRunsAtOne) {
  for (int64_t total : {1, 3, 10, 30, 70, 151, 4096, 1000003}) {
    const int64_t first_at_one = (9 * total + 9) / 10;
    for (AnnealingKind kind : {AnnealingKind::kLinear, AnnealingKind::kPower}) {
      EXPECT_EQ(annealing_alpha(kind, 0, total), 0.0);
      EXPECT_LT(annealing_alpha(kind, first_at_one - 1, total), 1.0) << total;
      EXPECT_EQ(annealing_alpha(kind, first_at_one, total), 1.0) << total;
      EXPECT_EQ(annealing_alpha(kind, total, total), 1.0) << total;
    }
  }
}

TEST(Annealing, TheMixedActivationAgreesWithTheGoldenValues) {
  const core::Json values = golden();
  for (const core::Json& entry : values["values"]) {
    const models::ConvActivation activation = {models::activation_from_name(entry["activation"], "golden"),
                                               entry["alpha"]};
    for (size_t i = 0; i < values["a"].size(); ++i) {
      const double a = values["a"][i], y = entry["y"][i], slope = entry["dy_da"][i];
      EXPECT_NEAR(activation.value(a), y, 1e-14 * std::max(1.0, std::abs(y)))
          << entry["activation"] << " at " << a;
      EXPECT_NEAR(activation.derivative(a), slope, 1e-14) << entry["activation"] << " at " << a;
    }
  }
}

TEST(Annealing, NamesAreChecked) {
  EXPECT_EQ(annealing_from_name("power"), AnnealingKind::kPower);
  EXPECT_THROW(annealing_from_name("cubic"), core::InputError);
}

}  // namespace
}  // namespace exactmamba::train
