// JSON of tests/golden that is large, and so kept as .xz.
#pragma once

#include <string>

#include "core/json.h"
#include "data/byte_source.h"
#include "tests/support/tensors.h"

namespace exactmamba::testing {

/// `relative` without the ending .xz. @throws as data::open_bytes, core::parse_json
inline core::Json golden_json(const std::string& relative) {
  const std::filesystem::path file = golden(relative + ".xz");
  const auto source = data::open_bytes(file);
  std::string text(size_t{1} << 16, '\0');
  size_t used = 0;
  while (const size_t read = source->read(text.data() + used, text.size() - used)) {
    used += read;
    if (used == text.size()) text.resize(2 * used);
  }
  text.resize(used);
  return core::parse_json(text, file.string());
}

}  // namespace exactmamba::testing
