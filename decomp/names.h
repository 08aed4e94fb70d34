// Enumerations by name. Internal to decomp/.
#pragma once

#include <algorithm>
#include <array>
#include <iterator>
#include <string>

#include "core/error.h"

namespace exactmamba::decomp {

/// The enumerator whose position in `names` is that of `name`. @throws InputError naming `where` and the
/// names there are
template <class Enum, size_t n>
Enum enum_from_name(const std::array<const char*, n>& names, const std::string& name,
                    const std::string& where) {
  const auto found = std::find(names.begin(), names.end(), name);
  std::string known;
  for (const char* each : names) known += (known.empty() ? "" : ", ") + std::string(each);
  core::require(found != names.end(), "{}: unknown name '{}'; use one of: {}", where, name, known);
  return static_cast<Enum>(std::distance(names.begin(), found));
}

}  // namespace exactmamba::decomp
