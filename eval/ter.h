// TER (Snover et al., 2006), equal to sacreBLEU 2.6.0, whose limits of the search it has.
#pragma once

#include "eval/corpus_metric.h"
#include "eval/text/score_tokenizers.h"

namespace exactmamba::eval {

class Ter final : public CorpusMetric {
 public:
  explicit Ter(const TerTokenizer& tokenizer = {}) : tokenizer_(tokenizer) {}
  std::string name() const override { return "TER"; }
  Signature settings() const override;
  /// Edits to the nearest reference; mean length of the references in words.
  size_t width() const override { return 2; }
  std::vector<double> segment(const std::string& hypothesis,
                              const std::vector<std::string>& references) const override;
  double score(std::span<const double> sums) const override;
  std::string detail(std::span<const double>) const override { return ""; }

 private:
  TerTokenizer tokenizer_;
};

}  // namespace exactmamba::eval
