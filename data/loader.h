// Batches in a fixed global order, prepared ahead by a background thread. The position is one number: batches
// already taken.
#pragma once

#include <memory>

#include "data/dataset.h"

namespace exactmamba::data {

struct LoaderOptions {
  int64_t batch_size = 8;
  bool shuffle = true;  // a new permutation every epoch, from the seed; endless datasets keep their order,
                        // which is random
  uint64_t seed = 0;
  int64_t prefetch = 2;         // batches prepared ahead; 0 = none
  int64_t rank = 0, ranks = 1;  // this rank's slice of every global batch of ranks·batch_size rows
  int64_t pad_id = 0;
};

class Loader {
 public:
  /// @throws InputError when the dataset cannot fill one batch.
  Loader(std::shared_ptr<const Dataset> dataset, LoaderOptions options);
  ~Loader();
  /// Endless: epoch after epoch, an epoch's incomplete last batch left out. Rethrows what the dataset threw
  /// for this batch.
  Batch next();
  int64_t position() const;     // batches taken so far; goes into the checkpoint
  void seek(int64_t position);  // exact

 private:
  class State;
  std::unique_ptr<State> state_;
};

/// All rows once, in order, the last batch possibly smaller: for evaluation. A batch is made when it is asked
/// for, so that no more than one of them need be in memory.
class BatchesInOrder {
 public:
  /// `dataset` must outlive this. `max_rows` = 0: all. @throws InputError for a dataset without end and no
  /// `max_rows`
  BatchesInOrder(const Dataset& dataset, int64_t batch_size, int64_t max_rows = 0, int64_t pad_id = 0);
  int64_t size() const { return (rows_ + batch_size_ - 1) / batch_size_; }
  Batch operator[](int64_t index) const;

 private:
  const Dataset& dataset_;
  int64_t batch_size_, rows_, pad_id_;
};

}  // namespace exactmamba::data
