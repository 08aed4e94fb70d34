#include "decomp/interaction_map.h"

#include <map>
#include <set>

#include <fmt/format.h>

#include "core/error.h"
#include "core/json.h"
#include "core/safetensors.h"
#include "core/version.h"
#include "decomp/map_files.h"

namespace exactmamba::decomp {
namespace {

/// The parts of a map that are tensors, with the endings of their names; the values themselves have none.
template <class Map>
auto tensor_parts(Map& map) {
  return std::array{std::pair{"", &map.values},
                    std::pair{".target_tokens", &map.target_tokens},
                    std::pair{".target_logits", &map.target_logits},
                    std::pair{".embedding", &map.embedding},
                    std::pair{".rest", &map.rest},
                    std::pair{".biases", &map.biases}};
}

core::Json map_info(const InteractionMap& map) {
  return {{"row", map.row},
          {"layer", map.layer == kWholeModel ? core::Json() : core::Json(map.layer)},
          {"method", map.method},
          {"approximation", map.approximation},
          {"bias", map.bias},
          {"dtype", map.values.scalar_type() == at::kDouble ? "float64" : "float32"},
          {"model_checksum", map.model_checksum}};
}

core::Json row_info(const InteractionMap& map) {
  return {{"tokens", map.tokens}, {"cu_seqlens", map.cu_seqlens}};
}

InteractionMap read_map(const std::string& name, const core::Json& info, const core::Json& row,
                        const core::SafetensorsFile& file) {
  InteractionMap map;
  map.row = info.at("row").get<int64_t>();
  map.layer = info.at("layer").is_null() ? kWholeModel : info.at("layer").get<int64_t>();
  map.method = info.at("method").get<std::string>();
  map.approximation = info.at("approximation").get<std::string>();
  map.bias = info.at("bias").get<std::string>();
  map.model_checksum = info.at("model_checksum").get<std::string>();
  map.tokens = row.at("tokens").get<std::vector<int64_t>>();
  map.cu_seqlens = row.at("cu_seqlens").get<std::vector<int64_t>>();
  for (const auto& [ending, tensor] : tensor_parts(map))
    if (*ending == '\0' || file.contains(name + ending)) *tensor = file.tensor(name + ending);
  return map;
}

void check_format_version(const core::Json& info, const std::filesystem::path& file) {
  const int64_t version = info.at("format_version").get<int64_t>();
  core::require(version <= core::kFormatVersion,
                "{}: format_version {} is newer than {}, the newest that this program ({}) reads; update it",
                file.string(), version, core::kFormatVersion, core::version());
}

}  // namespace

std::string InteractionMap::name() const {
  const std::string of_layer = layer == kWholeModel ? "" : fmt::format("layer{}.", layer);
  return fmt::format("row{}.{}{}.{}", row, of_layer, approximation, method);
}

void save_maps(const std::vector<InteractionMap>& maps, const std::filesystem::path& folder) {
  core::NamedTensors tensors;
  std::set<std::string> names;
  core::Json info = {{"format_version", core::kFormatVersion},
                     {"rows", core::Json::object()},
                     {"maps", core::Json::object()}};
  for (const InteractionMap& map : maps) {
    const std::string name = map.name();
    core::require(names.insert(name).second, "two maps are called '{}'; give every row its own index", name);
    for (const auto& [ending, tensor] : tensor_parts(map))
      if (tensor->defined()) tensors.emplace_back(name + ending, *tensor);
    info["maps"][name] = map_info(map);
    info["rows"][std::to_string(map.row)] = row_info(map);
  }
  core::write_safetensors(folder / kMapTensorFile, tensors,
                          {{"format_version", std::to_string(core::kFormatVersion)}});
  core::write_json(folder / kMapInfoFile, info);
}

std::vector<InteractionMap> load_maps(const std::filesystem::path& folder) {
  const std::filesystem::path info_file = folder / kMapInfoFile;
  const core::Json info = core::read_json(info_file);
  try {
    check_format_version(info, info_file);
    const core::SafetensorsFile file(folder / kMapTensorFile);
    std::vector<InteractionMap> maps;
    for (const auto& [name, entry] : info.at("maps").items())
      maps.push_back(
          read_map(name, entry, info.at("rows").at(std::to_string(entry.at("row").get<int64_t>())), file));
    return maps;
  } catch (const core::Json::exception& error) {
    throw core::InputError(fmt::format("{}: not a list of maps: {}", info_file.string(), error.what()));
  }
}

}  // namespace exactmamba::decomp
