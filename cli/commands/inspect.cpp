#include <algorithm>
#include <filesystem>

#include <c10/core/ScalarType.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/commands.h"
#include "cli/output.h"
#include "core/error.h"
#include "core/json.h"
#include "core/log.h"
#include "core/safetensors.h"
#include "core/torch_file.h"
#include "models/checkpoint.h"

namespace exactmamba::cli {
namespace {

namespace fs = std::filesystem;
using core::Json;

Json tensor_json(const std::string& name, at::ScalarType dtype, const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (const int64_t n : shape) count *= n;
  return {{"name", name}, {"dtype", c10::toString(dtype)}, {"shape", shape}, {"elements", count}};
}

Json safetensors_json(const fs::path& file) {
  const core::SafetensorsFile tensors(file);
  Json result = {{"file", file.filename().string()}, {"tensors", Json::array()}};
  for (const std::string& name : tensors.names()) {
    result["tensors"].push_back(tensor_json(name, tensors.entry(name).dtype, tensors.entry(name).shape));
  }
  return result;
}

Json torch_file_json(const fs::path& file) {
  Json result = {{"file", file.filename().string()}, {"tensors", Json::array()}};
  for (const auto& [name, tensor] : core::read_torch_state_dict(file)) {
    result["tensors"].push_back(tensor_json(name, tensor.scalar_type(), tensor.sizes().vec()));
  }
  return result;
}

Json file_json(const fs::path& file) {
  return file.extension() == ".safetensors" ? safetensors_json(file) : torch_file_json(file);
}

Json folder_json(const fs::path& folder) {
  const models::ModelConfig config = models::load_config(folder);
  Json result = {{"config", core::read_json(folder / "config.json")},
                 {"parameters", config.parameter_count()},
                 {"files", Json::array()}};
  std::vector<fs::path> files;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".safetensors" || entry.path().extension() == ".bin")
      files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  for (const fs::path& file : files) result["files"].push_back(file_json(file));
  if (fs::exists(folder / "trainer.json")) result["training"] = core::read_json(folder / "trainer.json");
  return result;
}

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
  int64_t elements = 0;
  for (const Json& tensor : file["tensors"]) {
    text += fmt::format("  {:<52} {:<9} {}\n", core::printable(tensor["name"].get<std::string>()),
                        tensor["dtype"].get<std::string>(), tensor["shape"].dump());
    elements += tensor["elements"].get<int64_t>();
  }
  return text + fmt::format("  {} tensors, {} elements\n", file["tensors"].size(), elements);
}

std::string as_text(const Json& content) {
  std::string text;
  if (content.contains("config")) {
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
  const Json content =
      fs::is_directory(path) ? folder_json(path) : Json{{"files", Json::array({file_json(path)})}};
  arguments.common.json ? write_json_result(content) : write_result(as_text(content));
}

}  // namespace exactmamba::cli
