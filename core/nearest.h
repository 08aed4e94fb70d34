// "Did you mean …?"
#pragma once

#include <string>
#include <vector>

namespace exactmamba::core {

/// The candidate with the fewest edits (insert, delete, replace, swap neighbours) from `word`, whatever their
/// case; where none is near, the only one that begins with it; else "".
std::string nearest_word(const std::string& word, const std::vector<std::string>& candidates);

}  // namespace exactmamba::core
