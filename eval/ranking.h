// How well scores single out the gold entries among all entries. Definitions with every choice:
// golden/decomposition/README.md.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace exactmamba::eval {

struct RankingMeasures {
  std::optional<double> auc;  // area under ROC, ties ½; none without gold or without non-gold entries
  std::optional<double> ap;   // area under precision–recall, one step per distinct score; none without gold
  std::optional<double>
      recall_at_k;  // share of gold among the K best, K = number of gold entries; ties by expectation
};

/// `scores` and `gold` of equal length. @throws NumericalError for a NaN score
RankingMeasures ranking_measures(const std::vector<double>& scores, const std::vector<bool>& gold);

/// Means over examples; an undefined measure of an example is left out of its mean.
class RankingMeans {
 public:
  void add(const RankingMeasures& measures);
  RankingMeasures means() const;

 private:
  struct Mean {
    double sum = 0;
    int64_t count = 0;
    void add(const std::optional<double>& value);
    std::optional<double> value() const;
  };
  Mean auc_, ap_, recall_at_k_;
};

}  // namespace exactmamba::eval
