#include "data/epoch_order.h"

#include "core/random.h"

namespace exactmamba::data {

int64_t EpochOrder::row(int64_t epoch, int64_t index) {
  if (epoch != epoch_) {
    order_ =
        core::RandomStream(seed_, "data.shuffle", static_cast<uint64_t>(epoch), part_).permutation(rows_);
    epoch_ = epoch;
  }
  return order_[index];
}

}  // namespace exactmamba::data
