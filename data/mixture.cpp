#include "data/mixture.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"
#include "core/hash.h"

namespace exactmamba::data {
namespace {

constexpr int64_t kBlock = 1024;

/// kBlock rows by largest remainder.
std::vector<int64_t> shares(const std::vector<double>& weights) {
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::vector<int64_t> rows;
  std::vector<std::pair<double, size_t>> remainders;  // negative: the largest comes first
  for (const double weight : weights) {
    const double exact = weight / sum * static_cast<double>(kBlock);
    rows.push_back(static_cast<int64_t>(exact));
    remainders.emplace_back(std::floor(exact) - exact, remainders.size());
  }
  std::sort(remainders.begin(), remainders.end());
  const int64_t left = kBlock - std::accumulate(rows.begin(), rows.end(), int64_t{0});
  for (int64_t i = 0; i < left; ++i) ++rows[remainders[i].second];
  return rows;
}

}  // namespace

Mixture::Mixture(std::vector<std::shared_ptr<const Dataset>> parts, const std::vector<double>& weights,
                 bool shuffle, uint64_t seed)
    : parts_(std::move(parts)), rows_in_block_(shares(weights)), shuffle_(shuffle), seed_(seed) {
  for (size_t part = 0; part < parts_.size(); ++part) {
    core::require(
        rows_in_block_[part] > 0,
        "data.weights[{}] = {} gives {} less than one row of {}; make it larger or leave the file out", part,
        weights[part], parts_[part]->name(), kBlock);
    orders_.emplace_back(seed, parts_[part]->size(), part);
  }
  lay_out_block();
}

/// Smooth weighted round robin: the part that is furthest behind its share comes next.
void Mixture::lay_out_block() {
  std::vector<int64_t> credit(parts_.size(), 0), given(parts_.size(), 0);
  for (int64_t i = 0; i < kBlock; ++i) {
    for (size_t part = 0; part < parts_.size(); ++part) credit[part] += rows_in_block_[part];
    const auto next = static_cast<size_t>(std::max_element(credit.begin(), credit.end()) - credit.begin());
    credit[next] -= kBlock;
    block_.push_back({next, given[next]++});
  }
}

std::string Mixture::name() const {
  return fmt::format("{} and {} more, weighted", parts_.front()->name(), parts_.size() - 1);
}

Row Mixture::row(int64_t index) const {
  core::require(index >= 0 && index < size(), "row {} is outside {}", index, name());
  const auto [part, rank] = block_[index % kBlock];
  const int64_t turn = index / kBlock * rows_in_block_[part] + rank;
  const int64_t rows = parts_[part]->size();
  if (!shuffle_) return parts_[part]->row(turn % rows);
  std::unique_lock lock(mutex_);
  const int64_t row = orders_[part].row(turn / rows, turn % rows);
  lock.unlock();
  return parts_[part]->row(row);
}

std::string Mixture::fingerprint() const {
  std::string identity = fmt::format("mixture 1; shuffle {}; seed {}", shuffle_, seed_);
  for (size_t part = 0; part < parts_.size(); ++part)
    identity += fmt::format("; {} {}", rows_in_block_[part], parts_[part]->fingerprint());
  return core::hash_hex(identity);
}

}  // namespace exactmamba::data
