// Learning rate by update: linear warm-up, then cosine | linear | inverse_sqrt | constant. Updates are
// counted from 1, so the first one has lr/w and not 0. Floor = min_lr_ratio · lr.
#pragma once

#include <cstdint>
#include <string>

#include "core/names.h"

namespace exactmamba::train {

enum class ScheduleKind { kCosine, kLinear, kInverseSqrt, kConstant };
inline constexpr core::Names<4> kScheduleNames = {"cosine", "linear", "inverse_sqrt", "constant"};
/// @throws InputError
ScheduleKind schedule_from_name(const std::string& name);

/// With s the update, w the warm-up, S the steps:
///   s ≤ w         lr · s/w
///   cosine        floor + ½ (lr − floor)(1 + cos(π (s−w)/(S−w)))   exactly the floor at s = S
///   linear        floor + (lr − floor)(S−s)/(S−w)                  exactly the floor at s = S
///   inverse_sqrt  max(floor, lr · √(max(w,1)/s))
///   constant      lr
struct Schedule {
  ScheduleKind kind = ScheduleKind::kCosine;
  double lr = 1e-3;
  double min_lr_ratio = 0.1;
  int64_t steps = 1;
  int64_t warmup_steps = 0;

  double learning_rate(int64_t update) const;  // 1 ≤ update ≤ steps
};

}  // namespace exactmamba::train
