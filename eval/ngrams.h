// The n-grams that a hypothesis shares with its references.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace exactmamba::eval {

/// Words or characters as numbers.
using Sequence = std::vector<uint32_t>;

/// Numbers for words, in the order in which they come.
class WordNumbers {
 public:
  /// The words must live as long as this object.
  Sequence operator()(const std::vector<std::u32string_view>& words);

 private:
  std::unordered_map<std::u32string_view, uint32_t> numbers_;
};

/// [n − 1]: how many n-grams of `hypothesis` occur in a reference, each at most as often as in the reference
/// that has it most often.
std::vector<int64_t> ngram_matches(const Sequence& hypothesis, std::span<const Sequence> references,
                                   size_t order);

inline int64_t ngram_count(size_t length, size_t n) {
  return length < n ? 0 : static_cast<int64_t>(length - n + 1);
}

}  // namespace exactmamba::eval
