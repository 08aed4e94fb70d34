// BLEU (Papineni et al., 2002), equal to sacreBLEU 2.6.0.
#pragma once

#include <optional>

#include "core/names.h"
#include "eval/corpus_metric.h"
#include "eval/text/score_tokenizers.h"

namespace exactmamba::eval {

/// What an n-gram order without a match counts as (Chen and Cherry, 2014). kExp: half of a match, then a
/// quarter, …; kFloor: `smooth_value` matches; kAddK: `smooth_value` more of everything, but for single
/// words.
enum class Smoothing { kExp, kFloor, kAddK, kNone };
inline constexpr core::Names<4> kSmoothingNames = {"exp", "floor", "add-k", "none"};

struct BleuOptions {
  BleuTokenizer tokenizer = BleuTokenizer::k13a;
  Smoothing smoothing = Smoothing::kExp;
  std::optional<double> smooth_value;  // unset: 0.1 for kFloor, 1 for kAddK
  bool lowercase = false;
  bool effective_order = false;  // only orders that the hypotheses are long enough for; for single sentences
  size_t max_order = 4;          // words of the longest n-gram
};

struct BleuScore {
  double score = 0;                // 0 to 100
  std::vector<double> precisions;  // [n − 1], 0 to 100
  double brevity_penalty = 1;
  double hypothesis_length = 0, reference_length = 0;  // words
  std::vector<double> matches, totals;                 // [n − 1]; smoothed, with kAddK

  double ratio() const { return reference_length > 0 ? hypothesis_length / reference_length : 0; }
};

class Bleu final : public CorpusMetric {
 public:
  /// @throws InputError for a smooth_value that the smoothing does not use, is negative or no number, and for
  /// max_order = 0
  explicit Bleu(const BleuOptions& options = {});
  std::string name() const override { return "BLEU"; }
  Signature settings() const override;
  /// Lengths of the hypothesis and of the reference closest to it; by order, matches, then n-grams.
  size_t width() const override { return 2 + 2 * options_.max_order; }
  std::vector<double> segment(const std::string& hypothesis,
                              const std::vector<std::string>& references) const override;
  double score(std::span<const double> sums) const override { return bleu_score(sums).score; }
  std::string detail(std::span<const double> sums) const override;

  BleuScore bleu_score(std::span<const double> sums) const;

 private:
  std::u32string tokenized(const std::string& line) const;

  BleuOptions options_;
  double smooth_value_ = 0;
};

}  // namespace exactmamba::eval
