#include "eval/bleu.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/error.h"
#include "eval/ngrams.h"
#include "eval/text/characters.h"

namespace exactmamba::eval {
namespace {

constexpr double kLogOfZero = -9999999999.0;  // sacreBLEU's

double default_smooth_value(Smoothing smoothing) {
  return smoothing == Smoothing::kFloor ? 0.1 : smoothing == Smoothing::kAddK ? 1.0 : 0.0;
}

bool takes_value(Smoothing smoothing) { return default_smooth_value(smoothing) > 0; }

const char* name_of(Smoothing smoothing) { return kSmoothingNames[static_cast<size_t>(smoothing)]; }

/// The shorter one of two that are equally close.
size_t closest_length(size_t length, const std::vector<Sequence>& references) {
  const auto distance = [length](size_t other) { return other > length ? other - length : length - other; };
  size_t closest = references.front().size();
  for (const Sequence& reference : references) {
    const size_t here = distance(reference.size()), best = distance(closest);
    if (here < best || (here == best && reference.size() < closest)) closest = reference.size();
  }
  return closest;
}

double brevity_penalty(double hypothesis, double reference) {
  if (hypothesis >= reference) return 1.0;
  return hypothesis > 0 ? std::exp(1 - reference / hypothesis) : 0.0;
}

}  // namespace

Bleu::Bleu(const BleuOptions& options)
    : options_(options),
      smooth_value_(options.smooth_value.value_or(default_smooth_value(options.smoothing))) {
  core::require(!options.smooth_value || takes_value(options.smoothing),
                "BLEU: smoothing {} takes no value, but {} was given; floor and add-k do",
                name_of(options.smoothing), smooth_value_);
  core::require(std::isfinite(smooth_value_) && smooth_value_ >= 0,
                "BLEU: the smoothing value {} is no number from 0 on", smooth_value_);
  core::require(options.max_order > 0, "BLEU: n-grams of 0 words; the order is 1 or more");
}

Signature Bleu::settings() const {
  std::string smoothing = name_of(options_.smoothing);
  if (takes_value(options_.smoothing)) smoothing += fmt::format("[{:.2f}]", smooth_value_);
  return {{"case", options_.lowercase ? "lc" : "mixed"},
          {"eff", options_.effective_order ? "yes" : "no"},
          {"tok", kBleuTokenizerNames[static_cast<size_t>(options_.tokenizer)]},
          {"smooth", smoothing}};
}

std::u32string Bleu::tokenized(const std::string& line) const {
  std::u32string text = code_points(line);
  if (options_.lowercase) text = lower_case(text);
  return bleu_tokenized(without_trailing_space(text), options_.tokenizer);
}

std::vector<double> Bleu::segment(const std::string& hypothesis,
                                  const std::vector<std::string>& references) const {
  WordNumbers numbers;
  const std::u32string text = tokenized(hypothesis);
  const Sequence words = numbers(words_of(text));
  std::vector<std::u32string> texts;  // all of them live until the words are counted
  texts.reserve(references.size());
  std::vector<Sequence> others;
  for (const std::string& reference : references)
    others.push_back(numbers(words_of(texts.emplace_back(tokenized(reference)))));
  std::vector<double> statistics = {static_cast<double>(words.size()),
                                    static_cast<double>(closest_length(words.size(), others))};
  for (const int64_t matches : ngram_matches(words, others, options_.max_order))
    statistics.push_back(static_cast<double>(matches));
  for (size_t n = 1; n <= options_.max_order; ++n)
    statistics.push_back(static_cast<double>(ngram_count(words.size(), n)));
  return statistics;
}

BleuScore Bleu::bleu_score(std::span<const double> sums) const {
  const size_t order = options_.max_order;
  BleuScore result;
  result.hypothesis_length = sums[0], result.reference_length = sums[1];
  result.brevity_penalty = brevity_penalty(sums[0], sums[1]);
  result.precisions.assign(order, 0.0);
  const auto matches = sums.subspan(2, order), totals = sums.subspan(2 + order, order);
  result.matches.assign(matches.begin(), matches.end());
  result.totals.assign(totals.begin(), totals.end());
  if (std::all_of(matches.begin(), matches.end(), [](double m) { return m == 0; })) return result;

  double zero_share = 1;  // kExp: of a match
  size_t used = order;
  for (size_t n = 0; n < order; ++n) {
    double &match = result.matches[n], &total = result.totals[n];
    if (options_.smoothing == Smoothing::kAddK && n > 0) match += smooth_value_, total += smooth_value_;
    if (total == 0) break;
    if (options_.effective_order) used = n + 1;
    double smoothed = match;
    if (match == 0 && options_.smoothing == Smoothing::kExp) smoothed = zero_share /= 2;
    if (match == 0 && options_.smoothing == Smoothing::kFloor) smoothed = smooth_value_;
    result.precisions[n] = 100 * smoothed / total;
  }
  double logs = 0;
  for (size_t n = 0; n < used; ++n)
    logs += result.precisions[n] == 0 ? kLogOfZero : std::log(result.precisions[n]);
  result.score = result.brevity_penalty * std::exp(logs / static_cast<double>(used));
  return result;
}

std::string Bleu::detail(std::span<const double> sums) const {
  const BleuScore bleu = bleu_score(sums);
  return fmt::format("{:.1f} (BP = {:.3f} ratio = {:.3f} hyp_len = {:.0f} ref_len = {:.0f})",
                     fmt::join(bleu.precisions, "/"), bleu.brevity_penalty, bleu.ratio(),
                     bleu.hypothesis_length, bleu.reference_length);
}

}  // namespace exactmamba::eval
