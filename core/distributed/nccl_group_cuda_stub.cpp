// Stands in for NCCL in a build without CUDA.
#include "core/distributed/nccl_group.h"
#include "core/error.h"

namespace exactmamba::core {

std::unique_ptr<Communicator> with_nccl(std::unique_ptr<Communicator>, std::chrono::seconds) {
  throw InputError("several processes on GPUs need NCCL, and this build has no CUDA kernels");
}

}  // namespace exactmamba::core
