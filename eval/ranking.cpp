#include "eval/ranking.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"

namespace exactmamba::eval {

namespace {

/// Entries of equal score, from the best.
struct Level {
  double gold, others;
};

std::vector<Level> levels_of(const std::vector<double>& scores, const std::vector<bool>& gold) {
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  std::vector<Level> levels;
  for (size_t k = 0; k < order.size(); ++k) {
    if (k == 0 || scores[order[k]] != scores[order[k - 1]]) levels.push_back({0, 0});
    (gold[order[k]] ? levels.back().gold : levels.back().others) += 1;
  }
  return levels;
}

double area_under_roc(const std::vector<Level>& levels, double gold, double others) {
  double area = 0, gold_above = 0;
  for (const Level& level : levels) {
    area += level.others * (gold_above + 0.5 * level.gold);
    gold_above += level.gold;
  }
  return area / (gold * others);
}

double average_precision(const std::vector<Level>& levels, double gold) {
  double area = 0, found = 0, seen = 0;
  for (const Level& level : levels) {
    found += level.gold;
    seen += level.gold + level.others;
    area += level.gold / gold * found / seen;
  }
  return area;
}

double expected_recall_at_k(const std::vector<Level>& levels, double gold) {
  double found = 0, places = gold;
  for (const Level& level : levels) {
    const double size = level.gold + level.others, taken = std::min(places, size);
    found += level.gold * taken / size;
    places -= taken;
    if (places <= 0) break;
  }
  return found / gold;
}

}  // namespace

RankingMeasures ranking_measures(const std::vector<double>& scores, const std::vector<bool>& gold) {
  core::require(scores.size() == gold.size(), "ranking: {} scores but {} gold marks", scores.size(),
                gold.size());
  core::require<core::NumericalError>(
      std::none_of(scores.begin(), scores.end(), [](double s) { return std::isnan(s); }),
      "ranking: a score is not a number");
  const std::vector<Level> levels = levels_of(scores, gold);
  const auto positives = static_cast<double>(std::count(gold.begin(), gold.end(), true));
  const auto negatives = static_cast<double>(gold.size()) - positives;
  RankingMeasures measures;
  if (positives == 0) return measures;
  if (negatives > 0) measures.auc = area_under_roc(levels, positives, negatives);
  measures.ap = average_precision(levels, positives);
  measures.recall_at_k = expected_recall_at_k(levels, positives);
  return measures;
}

void RankingMeans::Mean::add(const std::optional<double>& value) {
  if (!value) return;
  sum += *value;
  ++count;
}

std::optional<double> RankingMeans::Mean::value() const {
  if (count == 0) return std::nullopt;
  return sum / static_cast<double>(count);
}

void RankingMeans::add(const RankingMeasures& measures) {
  auc_.add(measures.auc);
  ap_.add(measures.ap);
  recall_at_k_.add(measures.recall_at_k);
}

RankingMeasures RankingMeans::means() const { return {auc_.value(), ap_.value(), recall_at_k_.value()}; }

}  // namespace exactmamba::eval
