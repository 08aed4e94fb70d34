#include "eval/ngrams.h"

#include <algorithm>

namespace exactmamba::eval {
namespace {

/// The items of sequence `owner` from one position on; 0 is the hypothesis.
struct Suffix {
  std::span<const uint32_t> items;
  size_t owner;
};

size_t common_prefix(const Suffix& a, const Suffix& b, size_t most) {
  const size_t end = std::min({a.items.size(), b.items.size(), most});
  size_t n = 0;
  while (n < end && a.items[n] == b.items[n]) ++n;
  return n;
}

/// Of one n-gram, by owner.
class Counts {
 public:
  explicit Counts(size_t owners) : counts_(owners, 0) {}
  void add(size_t owner) { ++counts_[owner]; }
  /// What the n-gram matches; then there is another one.
  int64_t finish() {
    const int64_t most = *std::max_element(counts_.begin() + 1, counts_.end());
    const int64_t matched = std::min(counts_[0], most);
    std::fill(counts_.begin(), counts_.end(), 0);
    return matched;
  }

 private:
  std::vector<int64_t> counts_;
};

std::vector<Suffix> sorted_suffixes(const Sequence& hypothesis, std::span<const Sequence> references,
                                    size_t order) {
  std::vector<Suffix> suffixes;
  const auto append = [&](std::span<const uint32_t> items, size_t owner) {
    for (size_t i = 0; i < items.size(); ++i)
      suffixes.push_back({items.subspan(i, std::min(order, items.size() - i)), owner});
  };
  append(hypothesis, 0);
  for (size_t r = 0; r < references.size(); ++r) append(references[r], r + 1);
  std::sort(suffixes.begin(), suffixes.end(), [](const Suffix& a, const Suffix& b) {
    return std::lexicographical_compare(a.items.begin(), a.items.end(), b.items.begin(), b.items.end());
  });
  return suffixes;
}

}  // namespace

Sequence WordNumbers::operator()(const std::vector<std::u32string_view>& words) {
  Sequence sequence;
  sequence.reserve(words.size());
  for (const std::u32string_view word : words)
    sequence.push_back(numbers_.try_emplace(word, static_cast<uint32_t>(numbers_.size())).first->second);
  return sequence;
}

std::vector<int64_t> ngram_matches(const Sequence& hypothesis, std::span<const Sequence> references,
                                   size_t order) {
  const std::vector<Suffix> suffixes = sorted_suffixes(hypothesis, references, order);
  std::vector<int64_t> matches(order, 0);
  std::vector<Counts> counts(order, Counts(references.size() + 1));  // [n − 1] of the n-gram in hand
  for (size_t i = 0; i < suffixes.size(); ++i) {
    const size_t same = i == 0 ? 0 : common_prefix(suffixes[i - 1], suffixes[i], order);
    const size_t before = i == 0 ? 0 : suffixes[i - 1].items.size();
    for (size_t n = same; n < before; ++n) matches[n] += counts[n].finish();
    for (size_t n = 0; n < suffixes[i].items.size(); ++n) counts[n].add(suffixes[i].owner);
  }
  if (!suffixes.empty())
    for (size_t n = 0; n < suffixes.back().items.size(); ++n) matches[n] += counts[n].finish();
  return matches;
}

}  // namespace exactmamba::eval
