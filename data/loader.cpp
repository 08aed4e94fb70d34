#include "data/loader.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

#include "core/error.h"
#include "data/epoch_order.h"

namespace exactmamba::data {
namespace {

void check_options(const LoaderOptions& o) {
  core::require(o.batch_size > 0, "batch_size is {}; it must be at least 1", o.batch_size);
  core::require(o.prefetch >= 0, "prefetch is {}; it must be 0 (none) or more", o.prefetch);
  core::require(o.ranks > 0 && o.rank >= 0 && o.rank < o.ranks, "rank {} of {} ranks does not exist", o.rank,
                o.ranks);
  core::require(o.batch_size <= INT32_MAX / o.ranks, "batch_size {} on {} ranks is too large", o.batch_size,
                o.ranks);
}

}  // namespace

class Loader::State {
 public:
  State(std::shared_ptr<const Dataset> dataset, LoaderOptions options)
      : dataset_(std::move(dataset)), options_(options) {
    check_options(options_);
    rows_ = dataset_->size();
    global_batch_ = options_.batch_size * options_.ranks;
    batches_per_epoch_ = rows_ / global_batch_;
    core::require(
        batches_per_epoch_ > 0,
        "{} has {} rows, too few for one batch of {} rows; make the batch or the context smaller, or "
        "give more data",
        dataset_->name(), rows_, global_batch_);
    order_ = EpochOrder(options_.seed, rows_);
  }
  ~State() { stop(); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  int64_t position() const { return position_; }

  void seek(int64_t position) {
    core::require(position >= 0, "the position of the data is {}; it cannot be negative", position);
    stop();
    position_ = position;
  }

  Batch next() {
    Batch batch = options_.prefetch > 0 ? take() : make(position_);
    ++position_;
    return batch;
  }

 private:
  struct Prepared {
    Batch batch;
    std::exception_ptr error;
  };

  int64_t shuffled(int64_t epoch, int64_t index) {
    return options_.shuffle && !dataset_->endless() ? order_.row(epoch, index) : index;
  }

  Batch make(int64_t position) {
    const int64_t epoch = position / batches_per_epoch_, index = position % batches_per_epoch_;
    const int64_t begin = index * global_batch_ + options_.rank * options_.batch_size;
    std::vector<Row> rows;
    for (int64_t i = begin; i < begin + options_.batch_size; ++i)
      rows.push_back(dataset_->row(shuffled(epoch, i)));
    Batch batch = collate(rows, options_.pad_id);
    batch.first_row = position * global_batch_ + options_.rank * options_.batch_size;
    return batch;
  }

  Prepared prepare(int64_t position) {
    try {
      return {make(position), nullptr};
    } catch (...) {
      return {{}, std::current_exception()};
    }
  }

  Batch take() {
    if (!worker_.joinable()) start();
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return !ready_.empty(); });
    Prepared prepared = std::move(ready_.front());
    ready_.pop_front();
    changed_.notify_all();
    lock.unlock();
    if (prepared.error) {
      stop();  // what was prepared after the failed batch; a further next() tries this position again
      std::rethrow_exception(prepared.error);
    }
    return std::move(prepared.batch);
  }

  void start() {
    worker_ =
        std::jthread([this, position = position_](std::stop_token stopped) { work(stopped, position); });
  }

  void work(const std::stop_token& stopped, int64_t position) {
    while (!stopped.stop_requested()) {
      Prepared prepared = prepare(position++);
      std::unique_lock lock(mutex_);
      const auto room = [&] { return static_cast<int64_t>(ready_.size()) < options_.prefetch; };
      if (!changed_.wait(lock, stopped, room)) return;
      ready_.push_back(std::move(prepared));
      changed_.notify_all();
    }
  }

  void stop() {
    if (worker_.joinable()) {
      worker_.request_stop();
      worker_.join();
    }
    ready_.clear();
  }

  std::shared_ptr<const Dataset> dataset_;
  LoaderOptions options_;
  int64_t rows_, global_batch_, batches_per_epoch_;
  int64_t position_ = 0;

  // Read and written by the one thread that makes batches.
  EpochOrder order_{0, 0};

  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<Prepared> ready_;  // guarded by mutex_ while worker_ runs
  std::jthread worker_;
};

Loader::Loader(std::shared_ptr<const Dataset> dataset, LoaderOptions options)
    : state_(std::make_unique<State>(std::move(dataset), options)) {}
Loader::~Loader() = default;
Batch Loader::next() { return state_->next(); }
int64_t Loader::position() const { return state_->position(); }
void Loader::seek(int64_t position) { state_->seek(position); }

BatchesInOrder::BatchesInOrder(const Dataset& dataset, int64_t batch_size, int64_t max_rows, int64_t pad_id)
    : dataset_(dataset), batch_size_(batch_size), rows_(dataset.size()), pad_id_(pad_id) {
  core::require(batch_size > 0, "batch_size is {}; it must be at least 1", batch_size);
  core::require(max_rows > 0 || !dataset.endless(), "{} has no end: say how many of its rows to take",
                dataset.name());
  if (max_rows > 0) rows_ = std::min(max_rows, rows_);
}

Batch BatchesInOrder::operator[](int64_t index) const {
  const int64_t begin = index * batch_size_, end = std::min(begin + batch_size_, rows_);
  std::vector<Row> rows;
  for (int64_t i = begin; i < end; ++i) rows.push_back(dataset_.row(i));
  return collate(rows, pad_id_);
}

}  // namespace exactmamba::data
