// Measures that may be undefined, and the numbers of maps, in results.
#pragma once

#include <cmath>
#include <optional>
#include <string>

#include <fmt/format.h>

#include "core/json.h"

namespace exactmamba::eval {

/// null where there is no value.
inline core::Json optional_json(const std::optional<double>& value) {
  return value ? core::Json(*value) : core::Json();
}

/// Four significant digits are more than a colour shows, and keep the page small.
inline double map_number(double value) {
  return std::isfinite(value) ? std::stod(fmt::format("{:.4g}", value)) : 0.0;
}

}  // namespace exactmamba::eval
