#include "train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace exactmamba::train {

ScheduleKind schedule_from_name(const std::string& name) {
  return core::enum_from_name<ScheduleKind>(kScheduleNames, name, "train.schedule");
}

double Schedule::learning_rate(int64_t update) const {
  const double s = static_cast<double>(update), w = static_cast<double>(warmup_steps);
  if (update <= warmup_steps) return lr * s / w;
  const double floor = min_lr_ratio * lr;
  const double span = static_cast<double>(steps) - w;
  switch (kind) {
    case ScheduleKind::kCosine:
      return floor + 0.5 * (lr - floor) * (1.0 + std::cos(std::numbers::pi * (s - w) / span));
    case ScheduleKind::kLinear:
      return floor + (lr - floor) * (static_cast<double>(steps) - s) / span;
    case ScheduleKind::kInverseSqrt:
      return std::max(floor, lr * std::sqrt(std::max(w, 1.0) / s));
    case ScheduleKind::kConstant:
      break;
  }
  return lr;
}

}  // namespace exactmamba::train
