#include "cli/contents.h"

#include <algorithm>

#include <ATen/ops/isfinite.h>
#include <ATen/ops/sum.h>
#include <c10/core/ScalarType.h>

#include "cli/model_origin.h"
#include "core/dtype.h"
#include "core/error.h"
#include "core/torch_file.h"
#include "models/checkpoint.h"

namespace exactmamba::cli {
namespace {

namespace fs = std::filesystem;
using core::Json;

int64_t count_not_finite(const at::Tensor& values) {
  if (!at::isFloatingType(values.scalar_type())) return 0;
  const bool wide = values.scalar_type() == at::kDouble;
  return values.numel() - at::isfinite(wide ? values : values.to(at::kFloat)).sum().item<int64_t>();
}

Json tensor_json(const std::string& name, const at::Tensor& tensor) {
  Json result = {{"name", name},
                 {"dtype", core::dtype_text(tensor.scalar_type())},
                 {"shape", tensor.sizes().vec()},
                 {"elements", tensor.numel()}};
  if (const int64_t count = count_not_finite(tensor); count > 0) result["not_finite"] = count;
  return result;
}

Json safetensors_json(const fs::path& file) {
  const core::SafetensorsFile tensors(file);
  Json result = {{"file", file.filename().string()}, {"tensors", Json::array()}};
  for (const std::string& name : tensors.names())
    result["tensors"].push_back(tensor_json(name, tensors.tensor(name)));
  return result;
}

/// Folders keep other objects beside their weights: arguments of a training, an optimizer's state.
Json torch_file_json(const fs::path& file) {
  const core::PickleValue root = core::read_torch_file(file);
  Json result = {{"file", file.filename().string()}};
  try {
    result["tensors"] = tensors_json(core::state_dict_tensors(root, file.string()));
  } catch (const core::InputError&) {  // no state dict
    result["object"] = core::class_name(root);
  }
  return result;
}

Json file_json(const fs::path& file) {
  return file.extension() == ".safetensors" ? safetensors_json(file) : torch_file_json(file);
}

/// What keeps a folder's weights from being loaded, or "".
std::string weights_problem(const fs::path& folder) {
  try {
    models::check_weights(folder);
  } catch (const core::Error& error) {
    return error.what();
  }
  return "";
}

Json folder_json(const fs::path& given) {
  const fs::path folder = model_of(given);
  const models::ModelConfig config = models::load_config(folder);
  Json result = {{"folder", folder.string()},
                 {"config", core::read_json(folder / "config.json")},
                 {"parameters", config.parameter_count()},
                 {"files", Json::array()}};
  std::vector<fs::path> files;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".safetensors" || entry.path().extension() == ".bin")
      files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  for (const fs::path& file : files) result["files"].push_back(file_json(file));
  if (const std::string problem = weights_problem(folder); !problem.empty()) result["problem"] = problem;
  if (fs::exists(folder / "trainer.json")) result["training"] = core::read_json(folder / "trainer.json");
  return result;
}

}  // namespace

Json tensors_json(const core::NamedTensors& tensors) {
  Json list = Json::array();
  for (const auto& [name, tensor] : tensors) list.push_back(tensor_json(name, tensor));
  return list;
}

Json contents_of(const fs::path& path) {
  return fs::is_directory(path) ? folder_json(path) : Json{{"files", Json::array({file_json(path)})}};
}

}  // namespace exactmamba::cli
