// Several ranks as threads of one process: sums in rank order, so that every rank gets the same bits.
#pragma once

#include <barrier>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "core/distributed/communicator.h"

namespace exactmamba::testing {

class ThreadGroup {
 public:
  explicit ThreadGroup(int size) : slots_(size), gate_(size) {}

  /// Runs `work` once per rank, each in a thread of its own.
  void run(const std::function<void(core::Communicator&)>& work) {
    std::vector<std::thread> threads;
    for (int rank = 0; rank < static_cast<int>(slots_.size()); ++rank)
      threads.emplace_back([this, rank, &work] {
        Rank communicator(*this, rank);
        work(communicator);
      });
    for (std::thread& thread : threads) thread.join();
  }

 private:
  class Rank final : public core::Communicator {
   public:
    Rank(ThreadGroup& group, int rank) : group_(group), rank_(rank) {}
    int rank() const override { return rank_; }
    int size() const override { return static_cast<int>(group_.slots_.size()); }
    std::unique_ptr<core::PendingSum> start_sum(const at::Tensor& tensor) override {
      exchange(tensor, [this](at::Tensor& sum) {
        sum = group_.slots_[0].clone();
        for (int other = 1; other < size(); ++other) sum += group_.slots_[other];
      });
      return std::make_unique<core::CompleteSum>();
    }
    void broadcast(const at::Tensor& tensor, int root) override {
      exchange(tensor, [this, root](at::Tensor& value) { value = group_.slots_[root].clone(); });
    }
    void barrier() override { group_.gate_.arrive_and_wait(); }

   private:
    /// Shows `tensor` to all ranks and writes what `combine` makes of theirs.
    void exchange(const at::Tensor& tensor, const std::function<void(at::Tensor&)>& combine) {
      group_.slots_[rank_] = tensor;
      barrier();
      at::Tensor result;
      combine(result);
      barrier();
      tensor.copy_(result);
    }
    ThreadGroup& group_;
    int rank_;
  };

  std::vector<at::Tensor> slots_;  // [rank]
  std::barrier<> gate_;
};

}  // namespace exactmamba::testing
