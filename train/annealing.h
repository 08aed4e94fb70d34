// α of φ_α(a) = α·φ(a) + (1−α)·SiLU(a) by the number of updates done, for continued training with another
// activation (models/ops/conv_activation.h). The last 10 % of the updates run at α = 1.
#pragma once

#include <cstdint>
#include <string>

#include "core/names.h"

namespace exactmamba::train {

enum class AnnealingKind { kNone, kLinear, kPower };
inline constexpr core::Names<3> kAnnealingNames = {"none", "linear", "power"};
/// @throws InputError
AnnealingKind annealing_from_name(const std::string& name);

/// linear: min(done / (0.9·total), 1); power: its square; none: 1.
double annealing_alpha(AnnealingKind kind, int64_t updates_done, int64_t total);

}  // namespace exactmamba::train
