#include "data/example_rows.h"

#include "core/error.h"

namespace exactmamba::data {

ExampleRows::ExampleRows(int64_t vocab_size, int64_t context, RowLayout layout)
    : vocab_size_(vocab_size), context_(context), layout_(layout), ids_(vocab_size) {}

void ExampleRows::append(const std::vector<int64_t>& ids, const std::vector<int64_t>& targets) {
  ids_.append(ids);
  for (const int64_t target : targets) targets_.push_back(static_cast<int32_t>(target));
  example_begins_.push_back(ids_.size());
}

void ExampleRows::pack() {
  const auto examples = static_cast<int64_t>(example_begins_.size()) - 1;
  for (int64_t i = 1; i < examples; ++i) {
    const bool fits = example_begins_[i + 1] - example_begins_[row_begins_.back()] <= context_;
    if (layout_ == RowLayout::kOneExample || !fits) row_begins_.push_back(i);
  }
  row_begins_.push_back(examples);
}

Row ExampleRows::row(int64_t index, const std::string& name) const {
  core::require(index >= 0 && index < size(), "row {} is outside {}, which has {} rows", index, name, size());
  const int64_t begin = example_begins_[row_begins_[index]], end = example_begins_[row_begins_[index + 1]];
  Row row{ids_.slice(begin, end), {targets_.begin() + begin, targets_.begin() + end}, {}};
  for (int64_t i = row_begins_[index]; i < row_begins_[index + 1]; ++i)
    row.starts.push_back(example_begins_[i] - begin);
  return row;
}

std::string ExampleRows::identity() const {
  return fmt::format("vocabulary {}; context {}; layout {}; ids {}; targets {}; examples {}", vocab_size_,
                     context_, static_cast<int>(layout_), ids_.hash(), hash_of(targets_),
                     hash_of(example_begins_));
}

}  // namespace exactmamba::data
