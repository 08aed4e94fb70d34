// What the processes of one job say to each other. Everything above talks to this interface; a single process
// looks the same as many, so no caller asks how many there are.
#pragma once

#include <memory>

#include <ATen/core/Tensor.h>

namespace exactmamba::core {

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  /// Sum over all ranks, in place, in an order that does not depend on timing.
  virtual void all_reduce_sum(at::Tensor& tensor) = 0;
  virtual void broadcast(at::Tensor& tensor, int root) = 0;
  virtual void barrier() = 0;
};

/// One process: sums are already complete.
std::unique_ptr<Communicator> single_process_communicator();

}  // namespace exactmamba::core
