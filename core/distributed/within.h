// Calls of libraries that have no timeout of their own.
#pragma once

#include <chrono>
#include <functional>
#include <future>
#include <string>
#include <thread>
#include <utility>

#include "core/error.h"

namespace exactmamba::core {

/// What `work` returns or throws. When that takes longer than `timeout` its thread is left behind, so it must
/// own what it uses. @throws PeerError, which says that `what` did not end
template <class Result>
Result within(std::chrono::milliseconds timeout, const std::string& what, std::function<Result()> work) {
  std::packaged_task<Result()> task(std::move(work));
  std::future<Result> result = task.get_future();
  std::thread(std::move(task)).detach();
  require<PeerError>(result.wait_for(timeout) == std::future_status::ready, "{} did not end within {} s",
                     what, std::chrono::duration<double>(timeout).count());
  return result.get();
}

}  // namespace exactmamba::core
