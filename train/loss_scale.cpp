#include "train/loss_scale.h"

#include <algorithm>

namespace exactmamba::train {

void LossScale::adapt(bool finite) {
  if (finite && ++finite_updates < kGrowthInterval) return;
  value = finite ? 2 * value : std::max(value / 2, kFloor);
  finite_updates = 0;
}

}  // namespace exactmamba::train
