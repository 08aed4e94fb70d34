// Rows of several data sets, each as often as its weight says.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "data/epoch_order.h"

namespace exactmamba::data {

/// Without end: of every 1024 rows part s gives w_s / Σw, rounded, spread evenly among the others. Each part
/// goes through its own rows again and again, in a new order each time if they are shuffled. Row r depends on
/// the parts, the weights, the seed and r only.
class Mixture final : public Dataset {
 public:
  /// Parts [not null] of one vocabulary; as many weights, above 0. @throws InputError for a weight whose
  /// share is less than one row
  Mixture(std::vector<std::shared_ptr<const Dataset>> parts, const std::vector<double>& weights, bool shuffle,
          uint64_t seed);

  std::string name() const override;
  int64_t size() const override { return kEndlessRows; }
  Row row(int64_t index) const override;
  int64_t vocab_size() const override { return parts_.front()->vocab_size(); }
  std::string token_text(int64_t id) const override { return parts_.front()->token_text(id); }
  std::string fingerprint() const override;

  const std::vector<int64_t>& rows_in_block() const { return rows_in_block_; }  // [part], of 1024

 private:
  /// What stands at one place of a block: row `rank` of those that `part` gives in the block.
  struct Place {
    size_t part;
    int64_t rank;
  };
  void lay_out_block();

  std::vector<std::shared_ptr<const Dataset>> parts_;
  std::vector<int64_t> rows_in_block_;
  std::vector<Place> block_;  // [kBlock]
  bool shuffle_;
  uint64_t seed_;
  mutable std::mutex mutex_;                // of orders_
  mutable std::vector<EpochOrder> orders_;  // [part]
};

}  // namespace exactmamba::data
