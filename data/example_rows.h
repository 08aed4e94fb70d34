// Examples as rows: token ids and targets of many, one after the other in little memory, as many whole ones
// in a row as the context holds, or one each. Each is a sequence of its own; their order is kept.
#pragma once

#include <string>
#include <vector>

#include "data/dataset.h"
#include "data/token_store.h"

namespace exactmamba::data {

class ExampleRows {
 public:
  ExampleRows(int64_t vocab_size, int64_t context, RowLayout layout);

  /// `targets` as long as `ids`, which are within the vocabulary and at most `context`.
  void append(const std::vector<int64_t>& ids, const std::vector<int64_t>& targets);
  /// When all are there; before it there are no rows.
  void pack();

  bool empty() const { return example_begins_.size() == 1; }
  int64_t size() const { return static_cast<int64_t>(row_begins_.size()) - 1; }
  /// @throws InputError, naming the data set, when there is no such row
  Row row(int64_t index, const std::string& name) const;
  int64_t vocab_size() const { return vocab_size_; }
  /// Of content and layout, for a fingerprint.
  std::string identity() const;

 private:
  int64_t vocab_size_, context_;
  RowLayout layout_;
  TokenStore ids_;
  std::vector<int32_t> targets_;               // as long as ids_
  std::vector<int64_t> example_begins_ = {0};  // [example + 1]
  std::vector<int64_t> row_begins_ = {0};      // [row + 1], the first example
};

}  // namespace exactmamba::data
