#include "eval/alignment/aer.h"

#include <algorithm>
#include <map>

#include "core/error.h"
#include "eval/optional_json.h"

namespace exactmamba::eval {
namespace {

std::optional<double> ratio(double numerator, int64_t denominator) {
  if (denominator == 0) return std::nullopt;
  return numerator / static_cast<double>(denominator);
}

double hits(const Links& links, const Links& gold) {
  return static_cast<double>(
      std::count_if(links.begin(), links.end(), [&gold](const Link& link) { return gold.contains(link); }));
}

/// A random source word for each target word: the number of links is fixed, the hits are their expectation.
AlignmentScore random_score(const SentenceLengths& lengths, const GoldLinks& gold) {
  AlignmentScore score;
  score.sure = static_cast<int64_t>(gold.sure.size());
  if (lengths.source == 0) return score;
  const auto choices = static_cast<double>(lengths.source);
  score.links = lengths.target;
  score.sure_hits = static_cast<double>(gold.sure.size()) / choices;
  score.possible_hits = static_cast<double>(gold.possible.size()) / choices;
  return score;
}

/// source_word(n, m, j) for every target word j.
template <class SourceWord>
Links one_each(const SentenceLengths& lengths, const SourceWord& source_word) {
  Links links;
  for (int64_t j = 0; lengths.source > 0 && j < lengths.target; ++j)
    links.insert(
        {static_cast<int32_t>(source_word(lengths.source, lengths.target, j)), static_cast<int32_t>(j)});
  return links;
}

int64_t diagonal(int64_t n, int64_t, int64_t j) { return std::min(j, n - 1); }
int64_t scaled_diagonal(int64_t n, int64_t m, int64_t j) { return (2 * j + 1) * n / (2 * m); }

/// The first sure link of each target word, else the first possible one.
Links oracle(const GoldLinks& gold) {
  std::map<int32_t, int32_t> source_of;  // [target]
  for (const Links* links : {&gold.sure, &gold.possible})
    for (const Link& link : *links) source_of.emplace(link.target, link.source);
  Links best;
  for (const auto& [target, source] : source_of) best.insert({source, target});
  return best;
}

/// The same, and a link for the others too, which cannot be right.
Links oracle_all_words(const SentenceLengths& lengths, const GoldLinks& gold) {
  const Links best = oracle(gold);
  Links all = one_each(lengths, [](int64_t, int64_t, int64_t) { return 0; });
  for (const Link& link : best) all.erase({0, link.target});
  all.insert(best.begin(), best.end());
  return all;
}

}  // namespace

std::optional<double> AlignmentScore::aer() const {
  const auto hit = ratio(sure_hits + possible_hits, links + sure);
  return hit ? std::optional(1 - *hit) : std::nullopt;
}
std::optional<double> AlignmentScore::precision() const { return ratio(possible_hits, links); }
std::optional<double> AlignmentScore::recall() const { return ratio(sure_hits, sure); }

AlignmentScore& AlignmentScore::operator+=(const AlignmentScore& other) {
  links += other.links;
  sure += other.sure;
  sure_hits += other.sure_hits;
  possible_hits += other.possible_hits;
  return *this;
}

AlignmentScore alignment_score(const Links& links, const GoldLinks& gold) {
  return {static_cast<int64_t>(links.size()), static_cast<int64_t>(gold.sure.size()), hits(links, gold.sure),
          hits(links, gold.possible)};
}

AlignmentScore alignment_score(const std::vector<Links>& links, const std::vector<GoldLinks>& gold) {
  core::require(links.size() == gold.size(), "{} aligned sentence pairs, but gold has {}", links.size(),
                gold.size());
  AlignmentScore score;
  for (size_t n = 0; n < gold.size(); ++n) score += alignment_score(links[n], gold[n]);
  return score;
}

core::Json alignment_score_json(const AlignmentScore& score) {
  return {{"aer", optional_json(score.aer())},
          {"precision", optional_json(score.precision())},
          {"recall", optional_json(score.recall())},
          {"links", score.links},
          {"sure", score.sure},
          {"sure_hits", score.sure_hits},
          {"possible_hits", score.possible_hits}};
}

std::vector<SanityRow> sanity_rows(const std::vector<SentenceLengths>& lengths,
                                   const std::vector<GoldLinks>& gold) {
  core::require(lengths.size() == gold.size(), "{} sentence pairs, but gold has {}", lengths.size(),
                gold.size());
  std::vector<SanityRow> rows = {
      {"random", "a random source word for each target word, exact expectation", {}},
      {"diagonal", "source word i = j, at most the last", {}},
      {"scaled_diagonal", "source word ⌊(2j+1)n/2m⌋", {}},
      {"oracle", "one gold link for each target word that has one", {}},
      {"oracle_all_words", "the same, where the other target words are linked too", {}}};
  for (size_t n = 0; n < gold.size(); ++n) {
    rows[0].score += random_score(lengths[n], gold[n]);
    rows[1].score += alignment_score(one_each(lengths[n], diagonal), gold[n]);
    rows[2].score += alignment_score(one_each(lengths[n], scaled_diagonal), gold[n]);
    rows[3].score += alignment_score(oracle(gold[n]), gold[n]);
    rows[4].score += alignment_score(oracle_all_words(lengths[n], gold[n]), gold[n]);
  }
  return rows;
}

}  // namespace exactmamba::eval
