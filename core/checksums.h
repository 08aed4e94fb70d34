// checksums.json: the XXH3-128 of every other file of a folder, so that damage is noticed before any of them
// is used.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

namespace exactmamba::core {

/// To be called when all other files are written. @throws IoError
void write_checksums(const std::filesystem::path& folder);

/// What is wrong, in one line, with a folder that write_checksums() completed: a file that is missing or not
/// as it was written. @throws IoError when a file cannot be read, InputError when the list is of a newer
/// format
std::optional<std::string> find_damage(const std::filesystem::path& folder);

}  // namespace exactmamba::core
