// Batches as plain vectors, and a data set whose rows say which they are.
#pragma once

#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "core/error.h"
#include "data/dataset.h"

namespace exactmamba::testing {

inline std::vector<int64_t> values(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.to(at::kLong).contiguous();
  return {flat.const_data_ptr<int64_t>(), flat.const_data_ptr<int64_t>() + flat.numel()};
}

/// Row r is {r, r, …}, of `length` tokens; row `broken` throws.
class NumberedRows final : public data::Dataset {
 public:
  explicit NumberedRows(int64_t rows, int64_t length = 1, int64_t broken = -1)
      : rows_(rows), length_(length), broken_(broken) {}
  std::string name() const override { return "numbers"; }
  int64_t size() const override { return rows_; }
  data::Row row(int64_t index) const override {
    core::require(index != broken_, "row {} is broken", index);
    const std::vector<int64_t> ids(static_cast<size_t>(length_), index);
    return {ids, ids, {0}};
  }
  int64_t vocab_size() const override { return rows_; }
  std::string token_text(int64_t) const override { return ""; }
  std::string fingerprint() const override { return "numbers"; }

 private:
  int64_t rows_, length_, broken_;
};

}  // namespace exactmamba::testing
