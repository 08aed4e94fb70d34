#include "decomp/row_file.h"

#include <array>

#include <fmt/format.h>

#include "core/dtype.h"
#include "core/error.h"
#include "core/hash.h"
#include "core/json.h"
#include "core/version.h"

namespace exactmamba::decomp {
namespace {

using core::Json;

constexpr const char *kInfo = "info", *kHash = "content_hash", *kVersion = "format_version";

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

Json map_json(const InteractionMap& map) {
  return {{"layer", map.layer == kWholeModel ? Json() : Json(map.layer)},
          {"method", map.method},
          {"approximation", map.approximation},
          {"bias", map.bias},
          {"dtype", core::dtype_name(map.values.scalar_type())}};
}

InteractionMap read_map(const std::string& name, const Json& json, const RowOrigin& origin,
                        const core::SafetensorsFile& file) {
  InteractionMap map;
  map.row = origin;
  map.layer = json.at("layer").is_null() ? kWholeModel : json.at("layer").get<int64_t>();
  map.method = json.at("method").get<std::string>();
  map.approximation = json.at("approximation").get<std::string>();
  map.bias = json.at("bias").get<std::string>();
  for (const auto& [ending, tensor] : tensor_parts(map))
    if (*ending == '\0' || file.contains(name + ending)) *tensor = file.tensor(name + ending);
  return map;
}

Json errors_json(const ErrorTable& table) {
  Json by_approximation = Json::object();
  for (size_t a = 0; a < table.approximations.size(); ++a) {
    Json& layers = by_approximation[table.approximations[a]] = Json::array();
    for (const ApproximationError& error : table.errors[a]) layers.push_back(error.sums());
  }
  return {{"bias", table.bias}, {"dtype", table.dtype}, {"approximations", by_approximation}};
}

ErrorTable read_errors(const Json& json) {
  ErrorTable table;
  table.bias = json.at("bias").get<std::string>();
  table.dtype = json.at("dtype").get<std::string>();
  for (const auto& [approximation, layers] : json.at("approximations").items()) {
    table.approximations.push_back(approximation);
    std::vector<ApproximationError>& errors = table.errors.emplace_back();
    for (const Json& sums : layers)
      errors.push_back(ApproximationError::from_sums(sums.get<std::map<std::string, double>>()));
  }
  return table;
}

Json origin_json(const RowOrigin& origin) {
  return {{"row", origin.index},
          {"tokens", origin.tokens},
          {"cu_seqlens", origin.cu_seqlens},
          {"model_checksum", origin.model_checksum}};
}

Json info_json(const DecomposedRow& row) {
  Json maps = Json::object();
  for (const InteractionMap& map : row.maps) {
    const std::string name = map.name();
    core::require(!maps.contains(name), "two maps of row {} are called '{}'", row.origin.index, name);
    maps[name] = map_json(map);
  }
  Json info = origin_json(row.origin);
  info["maps"] = maps;
  info["errors"] = errors_json(row.errors);
  return info;
}

DecomposedRow read_row(const Json& info, const core::SafetensorsFile& file) {
  DecomposedRow row;
  row.origin = {info.at("row").get<int64_t>(), info.at("tokens").get<std::vector<int64_t>>(),
                info.at("cu_seqlens").get<std::vector<int64_t>>(),
                info.at("model_checksum").get<std::string>()};
  for (const auto& [name, json] : info.at("maps").items())
    row.maps.push_back(read_map(name, json, row.origin, file));
  row.errors = read_errors(info.at("errors"));
  return row;
}

std::string content_hash(const std::string& info, const core::NamedTensors& tensors) {
  std::string parts = core::hash_hex(info);
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor plain = tensor.contiguous();
    parts += name + core::hash_hex({static_cast<const char*>(plain.const_data_ptr()), plain.nbytes()});
  }
  return core::hash_hex(parts);
}

std::map<std::string, std::string> metadata_for(const Json& info, const core::NamedTensors& tensors) {
  const std::string text = core::json_text(info);
  return {
      {kVersion, std::to_string(core::kFormatVersion)}, {kInfo, text}, {kHash, content_hash(text, tensors)}};
}

/// "" when the file has no such metadata.
std::string metadata_of(const core::SafetensorsFile& file, const char* key) {
  const auto found = file.metadata().find(key);
  return found == file.metadata().end() ? "" : found->second;
}

void check_format_version(const core::SafetensorsFile& file) {
  const std::string text = metadata_of(file, kVersion), path = file.path().string();
  core::require(!text.empty(), "{}: not a decomposed row: its metadata lacks '{}'", path, kVersion);
  const auto version = core::parse_json(text, path).get<int64_t>();
  core::require(version <= core::kFormatVersion,
                "{}: format_version {} is newer than {}, the newest that this program ({}) reads; update it",
                path, version, core::kFormatVersion, core::version());
}

void check_content(const core::SafetensorsFile& file) {
  core::NamedTensors tensors;
  for (const std::string& name : file.names()) tensors.emplace_back(name, file.tensor(name));
  const std::string now = content_hash(metadata_of(file, kInfo), tensors), then = metadata_of(file, kHash);
  core::require(now == then, "{}: damaged: its content has the hash {}, but was written with {}",
                file.path().string(), now, core::printable(then));
}

}  // namespace

RowFile row_file(const DecomposedRow& row) {
  RowFile file;
  const Json info = info_json(row);  // refuses equal names
  for (const InteractionMap& map : row.maps)
    for (const auto& [ending, tensor] : tensor_parts(map))
      if (tensor->defined()) file.tensors.emplace_back(map.name() + ending, *tensor);
  file.metadata = metadata_for(info, file.tensors);
  return file;
}

RowFile contributions_file(const RowOrigin& origin, const RowContributions& contributions,
                           const DecomposeOptions& options) {
  RowFile file;
  file.tensors.emplace_back("pairs", contributions.pairs);
  Json info = origin_json(origin);
  for (const LayerContributions& layer : contributions.layers) {
    const std::string name = fmt::format("layer{}.{}", layer.layer, layer.approximation);
    file.tensors.emplace_back(name, layer.values);
    if (layer.bias.defined()) file.tensors.emplace_back(name + ".bias", layer.bias);
    info["contributions"][name] = {{"layer", layer.layer},
                                   {"method", "full"},
                                   {"approximation", layer.approximation},
                                   {"bias", options.bias},
                                   {"dtype", options.dtype}};
  }
  file.metadata = metadata_for(info, file.tensors);
  return file;
}

DecomposedRow load_row(const std::filesystem::path& path) {
  const core::SafetensorsFile file(path);
  try {
    check_format_version(file);
    check_content(file);
    return read_row(core::parse_json(metadata_of(file, kInfo), path.string()), file);
  } catch (const Json::exception& error) {
    throw core::InputError(fmt::format("{}: not a decomposed row: {}", path.string(), error.what()));
  }
}

}  // namespace exactmamba::decomp
