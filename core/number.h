// Numbers in messages.
#pragma once

#include <cmath>
#include <limits>

namespace exactmamba::core {

/// NaN without its sign, which says nothing and would be shown as "-nan"; other numbers as they are.
inline double shown(double value) {
  return std::isnan(value) ? std::numeric_limits<double>::quiet_NaN() : value;
}

}  // namespace exactmamba::core
