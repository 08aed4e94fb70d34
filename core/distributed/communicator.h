// What the processes of one job say to each other. Everything above talks to this interface; a single process
// looks the same as many, so no caller asks how many there are. All ranks call the same functions in the same
// order. Tensors are contiguous, of float, double or int64, on the CPU or on this process's GPU.
#pragma once

#include <memory>

#include <ATen/core/Tensor.h>

namespace exactmamba::core {

/// A sum that has been started. Must not outlive its communicator; until wait() the tensor's memory is worked
/// on, whether this still lives or not.
class PendingSum {
 public:
  virtual ~PendingSum() = default;
  /// Afterwards work on the tensor sees the sum: on a GPU what is launched on the current stream, without
  /// waiting here. @throws PeerError
  virtual void wait() = 0;
};

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  /// Sums over all ranks, in place, in an order that does not depend on timing; every rank gets the same
  /// bits. The tensor must be left alone until the sum was waited for. @throws PeerError
  virtual std::unique_ptr<PendingSum> start_sum(const at::Tensor& tensor) = 0;
  void all_reduce_sum(const at::Tensor& tensor) { start_sum(tensor)->wait(); }
  /// Every rank gets what `tensor` holds on rank `root`. @throws PeerError
  virtual void broadcast(const at::Tensor& tensor, int root) = 0;
  /// Returns when all ranks have called it. @throws PeerError
  virtual void barrier() = 0;
};

/// A sum that was complete when it was started.
class CompleteSum final : public PendingSum {
 public:
  void wait() override {}
};

/// One process: sums are already complete.
std::unique_ptr<Communicator> single_process_communicator();

}  // namespace exactmamba::core
