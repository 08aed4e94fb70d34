#include "train/annealing.h"

#include <algorithm>

namespace exactmamba::train {

AnnealingKind annealing_from_name(const std::string& name) {
  return core::enum_from_name<AnnealingKind>(kAnnealingNames, name, "train.annealing");
}

double annealing_alpha(AnnealingKind kind, int64_t updates_done, int64_t total) {
  if (kind == AnnealingKind::kNone) return 1.0;
  // Whole numbers up to the division: α is exactly 1 from 90 % on, whatever `total` is.
  const double linear =
      std::min(10.0 * static_cast<double>(updates_done) / (9.0 * static_cast<double>(total)), 1.0);
  return kind == AnnealingKind::kLinear ? linear : linear * linear;
}

}  // namespace exactmamba::train
