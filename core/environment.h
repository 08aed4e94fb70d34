// Environment variables at the start of file names in recipes.
#pragma once

#include <filesystem>
#include <string>

namespace exactmamba::core {

/// `name` with a leading `$NAME` or `${NAME}` replaced by that variable, a leading `~` (alone or before '/')
/// by $HOME; other names are returned as they are.
/// @throws InputError when the variable is unset or empty, or the name is malformed.
std::filesystem::path expand_environment(const std::string& name);

}  // namespace exactmamba::core
