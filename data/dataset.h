// A dataset gives rows by index; a batch is defined globally by its index, so any position can be resumed
// exactly and any number of ranks sees the same data.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/json.h"
#include "data/batch.h"

namespace exactmamba::data {

/// A packed row: `input_ids` and `targets` of equal length; sequences begin at `starts` (the first is 0).
struct Row {
  std::vector<int64_t> input_ids, targets, starts;
};

/// As many as a RandomStream has steps.
inline constexpr int64_t kEndlessRows = int64_t{1} << 48;

/// How examples become rows: as many whole ones as the context holds, or one each.
enum class RowLayout { kPacked, kOneExample };

class Dataset {
 public:
  virtual ~Dataset() = default;
  virtual std::string name() const = 0;
  /// Rows in one epoch; kEndlessRows for a task that generates its rows.
  virtual int64_t size() const = 0;
  bool endless() const { return size() == kEndlessRows; }
  virtual Row row(int64_t index) const = 0;  // thread-safe
  virtual int64_t vocab_size() const = 0;    // token ids are below it
  /// For labels in maps; an id without text: "", or the id.
  virtual std::string token_text(int64_t id) const = 0;
  /// Hash of content and settings: part of the name of every stage that reads it.
  virtual std::string fingerprint() const = 0;
};

/// Rows of unequal length are padded on the right with `pad_id`, targets -100; padding is a sequence of its
/// own.
/// @throws InputError when there is no row, or a row is empty or contradicts itself.
Batch collate(const std::vector<Row>& rows, int64_t pad_id);

}  // namespace exactmamba::data
