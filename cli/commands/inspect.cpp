#include <filesystem>

#include <fmt/format.h>

#include "cli/commands.h"
#include "cli/contents.h"
#include "cli/output.h"
#include "core/error.h"
#include "core/json.h"
#include "core/log.h"

namespace exactmamba::cli {
namespace {

namespace fs = std::filesystem;
using core::Json;

std::string members_text(const std::string& title, const Json& object) {
  std::string text = title + "\n";
  for (const auto& [key, value] : object.items()) {
    text += fmt::format("  {:<28} {}\n", core::printable(key),
                        value.is_string() ? core::printable(value.get<std::string>()) : value.dump());
  }
  return text;
}

std::string file_text(const Json& file) {
  std::string text = file["file"].get<std::string>() + "\n";
  if (file.contains("object"))
    return text +
           fmt::format("  no tensors, an object of {}\n", core::printable(file["object"].get<std::string>()));
  int64_t elements = 0;
  for (const Json& tensor : file["tensors"]) {
    text += fmt::format("  {:<52} {:<9} {}\n", core::printable(tensor["name"].get<std::string>()),
                        tensor["dtype"].get<std::string>(), tensor["shape"].dump());
    elements += tensor["elements"].get<int64_t>();
    if (tensor.contains("not_finite"))
      text += fmt::format("    {} of its values are NaN or infinite\n", tensor["not_finite"].dump());
  }
  return text + fmt::format("  {} tensors, {} elements\n", file["tensors"].size(), elements);
}

std::string as_text(const Json& content) {
  std::string text;
  if (content.contains("config")) {
    text += content["folder"].get<std::string>() + "\n";
    text += members_text("config.json", content["config"]);
    const double parameters = content["parameters"].get<double>();
    text += fmt::format("parameters {} ({})\n", content["parameters"].dump(), core::human_count(parameters));
  }
  for (const Json& file : content["files"]) text += file_text(file);
  if (content.contains("training")) text += members_text("training", content["training"]);
  return text;
}

}  // namespace

void inspect(const InspectArguments& arguments) {
  const fs::path path = arguments.path;
  core::require<core::IoError>(fs::exists(path), "{}: no such file or folder", path.string());
  core::require(path.extension() != ".toml",
                "{}: is a recipe, not a checkpoint; exactmamba validate shows it", path.string());
  const Json content = contents_of(path);
  arguments.common.json ? write_json_result(content) : write_result(as_text(content));
  if (content.contains("problem")) throw core::InputError(content["problem"].get<std::string>());
}

}  // namespace exactmamba::cli
