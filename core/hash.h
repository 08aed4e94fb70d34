// XXH3-128: names of stages, checksums of models. Not for secrets.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace exactmamba::core {

std::string hash_hex(std::string_view bytes);                  // 32 hex digits
std::string hash_file_hex(const std::filesystem::path& file);  // @throws IoError

}  // namespace exactmamba::core
