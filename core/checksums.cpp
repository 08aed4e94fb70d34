#include "core/checksums.h"

#include <algorithm>
#include <vector>

#include "core/error.h"
#include "core/hash.h"
#include "core/json.h"
#include "core/version.h"

namespace exactmamba::core {
namespace {

namespace fs = std::filesystem;
constexpr const char* kList = "checksums.json";

std::optional<std::string> damage_of_file(const fs::path& file, const Json& expected) {
  if (!fs::is_regular_file(file)) return fmt::format("{} is missing", file.string());
  const std::string found = hash_file_hex(file);
  if (expected == found) return std::nullopt;
  return fmt::format("{} is damaged: its checksum is {}, but it was written with {}", file.string(), found,
                     printable(json_text(expected)));
}

}  // namespace

void write_checksums(const fs::path& folder) {
  std::vector<std::string> names;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  Json files = Json::object();
  for (const std::string& name : names) files[name] = hash_file_hex(folder / name);
  write_json(folder / kList, {{"format_version", kFormatVersion}, {"files", files}});
}

std::optional<std::string> find_damage(const fs::path& folder) {
  const fs::path file = folder / kList;
  if (!fs::is_regular_file(file)) return fmt::format("{} is missing", file.string());
  Json list;
  try {
    list = read_json(file);
  } catch (const InputError& error) {
    return error.what();
  }
  const bool is_list = list.is_object() && list.contains("format_version") &&
                       list["format_version"].is_number_integer() && list.contains("files") &&
                       list["files"].is_object();
  if (!is_list) return fmt::format("{}: not a list of checksums", file.string());
  const int64_t version = list["format_version"].get<int64_t>();
  require(version <= kFormatVersion,
          "{}: format_version is {}, but this program reads up to {}; use a newer exactmamba", file.string(),
          version, kFormatVersion);
  for (const auto& [name, checksum] : list["files"].items())
    if (auto damage = damage_of_file(folder / name, checksum)) return damage;
  return std::nullopt;
}

}  // namespace exactmamba::core
