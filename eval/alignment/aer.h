// Alignment error rate (Och & Ney 2003) over a set of sentence pairs: counts are summed, then divided.
//     AER = 1 − (|A∩S| + |A∩P|) / (|A| + |S|),  precision = |A∩P| / |A|,  recall = |A∩S| / |S|
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/json.h"
#include "eval/alignment/links.h"

namespace exactmamba::eval {

struct AlignmentScore {
  int64_t links = 0, sure = 0;              // |A|, |S|
  double sure_hits = 0, possible_hits = 0;  // |A∩S|, |A∩P|: whole numbers but for an expectation

  std::optional<double> aer() const;        // none without links and sure links
  std::optional<double> precision() const;  // none without links
  std::optional<double> recall() const;     // none without sure links
  AlignmentScore& operator+=(const AlignmentScore& other);
};

AlignmentScore alignment_score(const Links& links, const GoldLinks& gold);
/// @throws InputError for different numbers of pairs
AlignmentScore alignment_score(const std::vector<Links>& links, const std::vector<GoldLinks>& gold);

/// {"aer", "precision", "recall", "links", "sure", "sure_hits", "possible_hits"}; null where undefined
core::Json alignment_score_json(const AlignmentScore& score);

/// What knows nothing of the words, and what knows the gold: the scale that an AER is read on.
struct SanityRow {
  const char* name;  // "random", "diagonal", "scaled_diagonal", "oracle", "oracle_all_words"
  const char* help;
  AlignmentScore score;
};
/// Each links a target word j of m to one source word of n; a pair without source words has no links.
std::vector<SanityRow> sanity_rows(const std::vector<SentenceLengths>& lengths,
                                   const std::vector<GoldLinks>& gold);

}  // namespace exactmamba::eval
