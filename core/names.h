// Enumerations by name: the list of names is written once, in the order of the enumerators.
#pragma once

#include <algorithm>
#include <array>
#include <iterator>
#include <string>
#include <vector>

#include "core/error.h"

namespace exactmamba::core {

template <size_t n>
using Names = std::array<const char*, n>;

/// The enumerator whose position in `names` is that of `name`. @throws InputError naming `where` and the
/// names there are
template <class Enum, size_t n>
Enum enum_from_name(const Names<n>& names, const std::string& name, const std::string& where) {
  const auto found = std::find(names.begin(), names.end(), name);
  std::string known;
  for (const char* each : names) known += (known.empty() ? "" : ", ") + std::string(each);
  require(found != names.end(), "{}: unknown name '{}'; use one of: {}", where, name, known);
  return static_cast<Enum>(std::distance(names.begin(), found));
}

/// For Option::choices.
template <size_t n>
std::vector<std::string> choices_of(const Names<n>& names) {
  return {names.begin(), names.end()};
}

}  // namespace exactmamba::core
