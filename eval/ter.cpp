#include "eval/ter.h"

#include <algorithm>
#include <limits>

#include "eval/shifted_edits.h"
#include "eval/text/characters.h"

namespace exactmamba::eval {

Signature Ter::settings() const {
  const auto yes = [](bool value) { return value ? "yes" : "no"; };
  return {{"case", tokenizer_.case_sensitive ? "mixed" : "lc"},
          {"tok", "tercom"},
          {"norm", yes(tokenizer_.normalized)},
          {"punct", yes(!tokenizer_.no_punct)},
          {"asian", yes(tokenizer_.asian_support)}};
}

std::vector<double> Ter::segment(const std::string& hypothesis,
                                 const std::vector<std::string>& references) const {
  const auto tokenized = [this](const std::string& line) {
    const std::u32string text = code_points(line);
    return tokenizer_(without_trailing_space(text));
  };
  WordNumbers numbers;
  const std::u32string text = tokenized(hypothesis);
  const Sequence words = numbers(words_of(text));
  std::vector<std::u32string> texts;  // all of them live until the words are compared
  texts.reserve(references.size());
  auto edits = std::numeric_limits<int64_t>::max();
  size_t length = 0;
  for (const std::string& reference : references) {
    const std::u32string& twice = texts.emplace_back(tokenizer_(tokenized(reference)));  // as sacreBLEU does
    const Sequence other = numbers(words_of(twice));
    edits = std::min(edits, shifted_edits(words, other));
    length += other.size();
  }
  return {static_cast<double>(edits), static_cast<double>(length) / static_cast<double>(references.size())};
}

double Ter::score(std::span<const double> sums) const {
  const double edits = sums[0], length = sums[1];
  if (length > 0) return 100 * (edits / length);
  return edits > 0 ? 100 : 0;
}

}  // namespace exactmamba::eval
