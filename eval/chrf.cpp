#include "eval/chrf.h"

#include <fmt/format.h>

#include "core/error.h"
#include "eval/ngrams.h"
#include "eval/text/characters.h"

namespace exactmamba::eval {
namespace {

constexpr double kEpsilon = 1e-16;  // chrF++.py's

/// ASCII's signs: Python's string.punctuation.
bool is_ascii_sign(char32_t c) {
  return (c >= U'!' && c <= U'/') || (c >= U':' && c <= U'@') || (c >= U'[' && c <= U'`') ||
         (c >= U'{' && c <= U'~');
}

/// One sign at the end of a word is a word of its own; where there is none, one at its beginning.
std::vector<std::u32string_view> words_and_signs(std::u32string_view text) {
  std::vector<std::u32string_view> result;
  for (const std::u32string_view word : words_of(text)) {
    size_t cut = word.size();
    if (word.size() > 1 && is_ascii_sign(word.back())) {
      cut = word.size() - 1;
    } else if (word.size() > 1 && is_ascii_sign(word.front())) {
      cut = 1;
    }
    result.push_back(word.substr(0, cut));
    if (cut < word.size()) result.push_back(word.substr(cut));
  }
  return result;
}

Sequence characters_of(std::u32string_view text, bool whitespace) {
  Sequence characters;
  characters.reserve(text.size());
  for (const char32_t c : text)
    if (whitespace || !is_white_space(c)) characters.push_back(c);
  return characters;
}

/// Three numbers for each order.
void append_counts(std::vector<double>& statistics, const Sequence& hypothesis, const Sequence& reference,
                   size_t orders) {
  const std::vector<int64_t> matches = ngram_matches(hypothesis, {&reference, 1}, orders);
  for (size_t n = 1; n <= orders; ++n) {
    const int64_t there = ngram_count(reference.size(), n);
    const int64_t here = there > 0 ? ngram_count(hypothesis.size(), n) : 0;  // none could match
    for (const int64_t number : {here, there, matches[n - 1]})
      statistics.push_back(static_cast<double>(number));
  }
}

/// The weighted harmonic mean of precision and recall; `otherwise` when both are 0.
double f_score(double precision, double recall, double beta, double otherwise) {
  const double factor = beta * beta, denominator = factor * precision + recall;
  return denominator > 0 ? (1 + factor) * precision * recall / denominator : otherwise;
}

}  // namespace

Chrf::Chrf(const ChrfOptions& options) : options_(options) {
  core::require(options.char_order + options.word_order > 0,
                "chrF: n-grams of 0 characters and 0 words; one of the orders is 1 or more");
  core::require(options.beta > 0, "chrF: beta is 0; it is 1 or more");
}

std::string Chrf::name() const {
  return fmt::format("chrF{}{}", options_.beta, std::string(options_.word_order, '+'));
}

Signature Chrf::settings() const {
  return {{"case", options_.lowercase ? "lc" : "mixed"},
          {"eff", options_.eps_smoothing ? "no" : "yes"},
          {"nc", std::to_string(options_.char_order)},
          {"nw", std::to_string(options_.word_order)},
          {"space", options_.whitespace ? "yes" : "no"}};
}

std::vector<double> Chrf::segment(const std::string& hypothesis,
                                  const std::vector<std::string>& references) const {
  const auto prepared = [this](const std::string& line) {
    const std::u32string text = code_points(line);
    return options_.lowercase ? lower_case(text) : text;
  };
  WordNumbers numbers;
  const std::u32string text = prepared(hypothesis);
  const Sequence characters = characters_of(text, options_.whitespace),
                 words = numbers(words_and_signs(text));
  std::vector<std::u32string> texts;  // all of them live until the words are counted
  texts.reserve(references.size());
  std::vector<double> best;
  for (const std::string& reference : references) {
    const std::u32string& other = texts.emplace_back(prepared(reference));
    std::vector<double> statistics;
    append_counts(statistics, characters, characters_of(other, options_.whitespace), options_.char_order);
    append_counts(statistics, words, numbers(words_and_signs(other)), options_.word_order);
    if (best.empty() || score(statistics) > score(best)) best = statistics;
  }
  return best;
}

double Chrf::score(std::span<const double> sums) const {
  const auto beta = static_cast<double>(options_.beta);
  double f_sum = 0, precision_sum = 0, recall_sum = 0, used = 0;
  for (size_t i = 0; i < sums.size(); i += 3) {
    const double hypothesis = sums[i], reference = sums[i + 1], both = sums[i + 2];
    const double precision = hypothesis > 0 ? both / hypothesis : kEpsilon;
    const double recall = reference > 0 ? both / reference : kEpsilon;
    f_sum += f_score(precision, recall, beta, kEpsilon);
    if (hypothesis == 0 || reference == 0) continue;
    precision_sum += precision;
    recall_sum += recall;
    ++used;
  }
  if (options_.eps_smoothing) return 100 * f_sum / static_cast<double>(sums.size() / 3);
  return used > 0 ? 100 * f_score(precision_sum / used, recall_sum / used, beta, 0.0) : 0.0;
}

}  // namespace exactmamba::eval
