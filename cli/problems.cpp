#include "cli/problems.h"

#include <algorithm>
#include <sstream>

#include <fmt/ranges.h>

namespace exactmamba::cli {

void Problems::add(const std::string& message) {
  std::istringstream text(message);
  for (std::string line; std::getline(text, line);) {
    if (std::find(lines_.begin(), lines_.end(), line) == lines_.end()) lines_.push_back(line);
  }
}

void Problems::throw_if_any() const {
  if (empty()) return;
  const std::string all = fmt::format("{}", fmt::join(lines_, "\n"));
  if (any_missing_) throw core::IoError(all);
  throw core::InputError(all);
}

}  // namespace exactmamba::cli
