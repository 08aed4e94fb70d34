// Measures that may be undefined, in results.
#pragma once

#include <optional>

#include "core/json.h"

namespace exactmamba::eval {

/// null where there is no value.
inline core::Json optional_json(const std::optional<double>& value) {
  return value ? core::Json(*value) : core::Json();
}

}  // namespace exactmamba::eval
