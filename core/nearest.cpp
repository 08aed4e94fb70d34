#include "core/nearest.h"

#include <algorithm>
#include <cctype>

namespace exactmamba::core {
namespace {

std::string lower_case(std::string word) {
  std::transform(word.begin(), word.end(), word.begin(), [](unsigned char c) { return std::tolower(c); });
  return word;
}

/// Edits (insert, delete, replace, swap neighbours) between two words.
size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<size_t> before, row(b.size() + 1), next(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    next[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      next[j] = std::min({row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        next[j] = std::min(next[j], before[j - 2] + 1);
    }
    before = row;
    row = next;
  }
  return row[b.size()];
}

/// Of those that begin with `word`, when it is one.
std::string only_longer_word(const std::string& word, const std::vector<std::string>& candidates) {
  const auto is_longer = [&word](const std::string& candidate) { return candidate.starts_with(word); };
  const auto found = std::find_if(candidates.begin(), candidates.end(), is_longer);
  const bool only = std::count_if(candidates.begin(), candidates.end(), is_longer) == 1;
  return only && !word.empty() ? *found : "";
}

}  // namespace

std::string nearest_word(const std::string& word, const std::vector<std::string>& candidates) {
  const std::string last_part = word.substr(word.rfind('.') + 1);
  std::string best;
  size_t least = std::max<size_t>(2, last_part.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    const size_t distance = edit_distance(lower_case(word), lower_case(candidate));
    if (distance < least && distance < candidate.size()) {
      best = candidate;
      least = distance;
    }
  }
  return best.empty() ? only_longer_word(word, candidates) : best;
}

}  // namespace exactmamba::core
