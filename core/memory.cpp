#include "core/memory.h"

#include <exception>
#include <new>
#include <string_view>
#include <unistd.h>

#include <c10/core/CachingDeviceAllocator.h>
#include <c10/util/Exception.h>
#include <fmt/format.h>

namespace exactmamba::core {
namespace {

double gib(size_t bytes) { return static_cast<double>(bytes) / (1 << 30); }

}  // namespace

bool out_of_memory() {
  try {
    throw;
  } catch (const std::bad_alloc&) {
    return true;
  } catch (const c10::Error& error) {
    const std::string_view what = error.what_without_backtrace();
    const auto says = [&what](const char* text) { return what.find(text) != std::string_view::npos; };
    return says("out of memory") || says("allocate memory")  // a GPU's allocator, the CPU's
           || says("STATUS_ALLOC_FAILED");                   // cuBLAS, which allocates by itself
  } catch (...) {
    return false;
  }
}

size_t total_memory(const at::Device& device) {
  if (device.is_cpu())
    return static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return c10::getDeviceAllocator(device.type())->getMemoryInfo(device.index()).second;
}

std::string memory_of(const at::Device& device) {
  const size_t total = total_memory(device);
  if (device.is_cpu()) return fmt::format("{:.1f} GiB of {}", gib(total), device.str());
  const size_t available = c10::getDeviceAllocator(device.type())->getMemoryInfo(device.index()).first;
  return fmt::format("{:.1f} of {:.1f} GiB of {} in use", gib(total - available), gib(total), device.str());
}

}  // namespace exactmamba::core
