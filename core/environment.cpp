#include "core/environment.h"

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "core/error.h"

namespace exactmamba::core {
namespace {

constexpr std::string_view kNameCharacters =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_";

}  // namespace

std::filesystem::path expand_environment(const std::string& name) {
  if (name == "~" || name.starts_with("~/")) return expand_environment("$HOME" + name.substr(1));
  if (!name.starts_with('$')) return name;
  const bool braces = name.starts_with("${");
  const size_t begin = braces ? 2 : 1;
  const size_t end = std::min(name.find_first_not_of(kNameCharacters, begin), name.size());
  const std::string variable = name.substr(begin, end - begin);
  const bool closed = !braces || name.substr(end).starts_with('}');
  require(!variable.empty() && closed, "'{}': expected $NAME or ${{NAME}} at its start", name);
  const char* value = std::getenv(variable.c_str());
  require(value != nullptr && *value != '\0',
          "'{}': the environment variable {} is not set; set it, or write the path", name, variable);
  return value + name.substr(end + (braces ? 1 : 0));
}

}  // namespace exactmamba::core
