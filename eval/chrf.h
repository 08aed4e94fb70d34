// chrF (Popović, 2015) and, with words, chrF++ (Popović, 2017), equal to sacreBLEU 2.6.0.
#pragma once

#include "eval/corpus_metric.h"

namespace exactmamba::eval {

struct ChrfOptions {
  size_t char_order = 6;  // characters of the longest n-gram
  size_t word_order = 0;  // words of the longest n-gram; 2 for chrF++
  size_t beta = 2;        // how much more recall counts than precision
  bool lowercase = false;
  bool whitespace = false;     // counts as characters
  bool eps_smoothing = false;  // the mean of the orders' F, as chrF++.py has it; else F of their means
};

class Chrf final : public CorpusMetric {
 public:
  /// @throws InputError when there are no n-grams at all, or beta is 0
  explicit Chrf(const ChrfOptions& options = {});
  std::string name() const override;
  Signature settings() const override;
  /// By order, characters first: n-grams of the hypothesis, of the reference, of both; with the reference
  /// that gives the best score.
  size_t width() const override { return 3 * (options_.char_order + options_.word_order); }
  std::vector<double> segment(const std::string& hypothesis,
                              const std::vector<std::string>& references) const override;
  double score(std::span<const double> sums) const override;
  std::string detail(std::span<const double>) const override { return ""; }

 private:
  ChrfOptions options_;
};

}  // namespace exactmamba::eval
