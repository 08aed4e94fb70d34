#include "cli/model_device.h"

#include "core/device.h"
#include "core/dtype.h"
#include "models/checkpoint.h"

namespace exactmamba::cli {

models::MambaLM load_model_on_device(const ModelArguments& arguments, const std::filesystem::path& folder) {
  models::LoadOptions options;
  options.dtype = core::dtype_from_name(arguments.dtype, "--dtype");
  const bool only_cpu = arguments.device == "auto" && options.dtype == at::kDouble;
  const models::Placement placement =
      models::placement_from_names(options.dtype, core::device_from_name(only_cpu ? "cpu" : arguments.device),
                                   arguments.compute_dtype, "--dtype", "--compute-dtype");
  models::MambaLM model = models::load_model(folder, options);
  return placement.device.is_cpu() ? std::move(model) : model.to(placement);
}

}  // namespace exactmamba::cli
