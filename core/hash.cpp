#include "core/hash.h"

#define XXH_INLINE_ALL
#include <fmt/format.h>
#include <xxhash.h>

#include "core/mapped_file.h"

namespace exactmamba::core {

std::string hash_hex(std::string_view bytes) {
  const XXH128_hash_t h = XXH3_128bits(bytes.data(), bytes.size());
  return fmt::format("{:016x}{:016x}", h.high64, h.low64);
}

std::string hash_file_hex(const std::filesystem::path& file) { return hash_hex(MappedFile(file).bytes()); }

}  // namespace exactmamba::core
