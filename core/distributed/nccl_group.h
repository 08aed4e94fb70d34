// NCCL among the processes of a job, for tensors on their GPUs.
#pragma once

#include <chrono>
#include <memory>

#include "core/distributed/communicator.h"

namespace exactmamba::core {

/// Sums and broadcasts of tensors on this process's GPU go through NCCL, on a stream of their own, all others
/// through `host`. Each process computes on another GPU; LibTorch's CUDA library has been loaded. When a
/// collective does not end within `timeout`, it is given up, and every later call throws.
/// @throws PeerError when NCCL does not start; InputError in a build without CUDA
std::unique_ptr<Communicator> with_nccl(std::unique_ptr<Communicator> host, std::chrono::seconds timeout);

}  // namespace exactmamba::core
