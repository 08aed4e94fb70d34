// A new order of the same rows in every epoch.
#pragma once

#include <cstdint>
#include <vector>

namespace exactmamba::data {

class EpochOrder {
 public:
  /// `part`: of several data sets of one seed.
  EpochOrder(uint64_t seed, int64_t rows, uint64_t part = 0) : seed_(seed), rows_(rows), part_(part) {}

  /// The row at `index` of `epoch`. Holds the order of the epoch that was asked for last; not thread-safe.
  int64_t row(int64_t epoch, int64_t index);

 private:
  uint64_t seed_;
  int64_t rows_;
  uint64_t part_;
  int64_t epoch_ = -1;  // of order_
  std::vector<int64_t> order_;
};

}  // namespace exactmamba::data
