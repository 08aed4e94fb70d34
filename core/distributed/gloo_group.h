// Processes that talk over TCP, for tensors on the CPU: c10d's ProcessGroupGloo.
#pragma once

#include <chrono>
#include <memory>

#include "core/distributed/job.h"

namespace exactmamba::core {

/// Of several processes. @throws PeerError when they do not meet within `timeout`
std::unique_ptr<Communicator> connect_gloo(const Job& job, std::chrono::seconds timeout);

}  // namespace exactmamba::core
