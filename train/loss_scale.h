// Dynamic loss scaling (Micikevicius et al. 2018): float16 has no numbers below 6e-8, so the gradient of a
// multiple of the loss is computed and divided afterwards. Numbers as in torch.amp.GradScaler, with a floor.
#pragma once

#include <cstdint>

namespace exactmamba::train {

struct LossScale {
  static constexpr double kStart = 65536, kFloor = 1;
  static constexpr int64_t kGrowthInterval = 2000;

  double value = kStart;       // a power of two: multiplying by it rounds nothing
  int64_t finite_updates = 0;  // since it changed

  bool can_fall() const { return value > kFloor; }
  /// After an update: ×2 when the gradients of kGrowthInterval updates in a row were finite, ×0.5 down to the
  /// floor when they were not.
  void adapt(bool finite);
};

}  // namespace exactmamba::train
