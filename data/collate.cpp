#include <algorithm>

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>

#include "core/error.h"
#include "data/dataset.h"

namespace exactmamba::data {
namespace {

void check_row(const Row& row) {
  const auto length = static_cast<int64_t>(row.input_ids.size());
  core::require(length > 0, "a row of the data has no tokens");
  core::require(row.targets.size() == row.input_ids.size(), "a row of the data has {} tokens but {} targets",
                length, row.targets.size());
  const bool ordered = std::is_sorted(row.starts.begin(), row.starts.end(), std::less_equal<>());
  core::require(!row.starts.empty() && row.starts.front() == 0 && row.starts.back() < length && ordered,
                "the sequences of a row of {} tokens do not begin at 0 and rise below its length", length);
}

std::vector<int32_t> sequence_bounds(const std::vector<Row>& rows, int64_t length) {
  std::vector<int32_t> bounds;
  for (size_t b = 0; b < rows.size(); ++b) {
    const int64_t begin = static_cast<int64_t>(b) * length;
    for (const int64_t start : rows[b].starts) bounds.push_back(static_cast<int32_t>(begin + start));
    const auto own = static_cast<int64_t>(rows[b].input_ids.size());
    if (own < length) bounds.push_back(static_cast<int32_t>(begin + own));
  }
  bounds.push_back(static_cast<int32_t>(static_cast<int64_t>(rows.size()) * length));
  return bounds;
}

}  // namespace

Batch collate(const std::vector<Row>& rows, int64_t pad_id) {
  core::require(!rows.empty(), "a batch needs at least one row");
  int64_t length = 0;
  for (const Row& row : rows) {
    check_row(row);
    length = std::max(length, static_cast<int64_t>(row.input_ids.size()));
  }
  const auto count = static_cast<int64_t>(rows.size());
  core::require(length <= INT32_MAX / count, "a batch of {} rows of {} tokens is larger than 2^31 - 1 tokens",
                count, length);

  Batch batch;
  batch.input_ids = at::full({count, length}, pad_id, at::kLong);
  batch.targets = at::full({count, length}, kIgnoredTarget, at::kLong);
  for (int64_t b = 0; b < count; ++b) {
    const Row& row = rows[b];
    std::copy(row.input_ids.begin(), row.input_ids.end(),
              batch.input_ids.mutable_data_ptr<int64_t>() + b * length);
    std::copy(row.targets.begin(), row.targets.end(), batch.targets.mutable_data_ptr<int64_t>() + b * length);
    batch.target_count += static_cast<int64_t>(row.targets.size()) -
                          std::count(row.targets.begin(), row.targets.end(), kIgnoredTarget);
  }
  const std::vector<int32_t> bounds = sequence_bounds(rows, length);
  batch.cu_seqlens = at::empty({static_cast<int64_t>(bounds.size())}, at::kInt);
  std::copy(bounds.begin(), bounds.end(), batch.cu_seqlens.mutable_data_ptr<int32_t>());
  return batch;
}

}  // namespace exactmamba::data
