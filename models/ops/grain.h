// When it pays to start threads.
#pragma once

#include <algorithm>
#include <cstdint>

namespace exactmamba::ops {

/// The grain for at::parallel_for: tasks that a thread should take at least, given the elements that one task
/// visits.
inline int64_t grain_of(int64_t elements_per_task) {
  constexpr int64_t kElementsOfThread = 16384;
  return std::max<int64_t>(1, kElementsOfThread / std::max<int64_t>(1, elements_per_task));
}

}  // namespace exactmamba::ops
