// Memory that ran out, and how much there is.
#pragma once

#include <cstddef>
#include <string>

#include <c10/core/Device.h>

namespace exactmamba::core {

/// In a handler: whether the exception says that there is no memory left, on the CPU or on a GPU.
bool out_of_memory();

/// Bytes that a device has, whether in use or not.
size_t total_memory(const at::Device& device);

/// "77.9 of 79.1 GiB of cuda:0 in use", "24.0 GiB of cpu": what LibTorch's allocator keeps for itself counts
/// as in use.
std::string memory_of(const at::Device& device);

}  // namespace exactmamba::core
