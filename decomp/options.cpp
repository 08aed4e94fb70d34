#include "decomp/options.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/dtype.h"
#include "core/schema.h"
#include "decomp/interaction_map.h"

namespace exactmamba::decomp {
namespace {

template <class Value>
void refuse_repeats(core::Schema& schema, const std::string& key, const std::vector<Value>& values) {
  schema.rule({key}, [key, &values]() -> std::string {
    for (auto value = values.begin(); value != values.end(); ++value) {
      if (std::find(values.begin(), value, *value) != value)
        return fmt::format("{} has {} twice", key, *value);
    }
    return "";
  });
}

}  // namespace

at::ScalarType DecomposeOptions::scalar_type() const {
  return core::dtype_from_name(dtype, "decompose.dtype");
}

BiasRule DecomposeOptions::bias_rule() const { return bias_rule_from_name(bias, "decompose.bias"); }

bool DecomposeOptions::wants(const std::string& method) const {
  return std::find(methods.begin(), methods.end(), method) != methods.end();
}

std::vector<std::string> map_titles(const DecomposeOptions& options) {
  std::vector<std::string> titles;
  for (const std::string& method : options.methods) {
    const bool needs_approximation = !method.starts_with("mamba_attention");
    if (!needs_approximation) titles.push_back(map_title(method, ""));
    for (const std::string& approximation : options.approximations) {
      if (needs_approximation) titles.push_back(map_title(method, approximation));
      if (method == "alti_logit") titles.push_back(map_title("alti_logit_mixed", approximation));
    }
  }
  return titles;
}

void bind(core::Schema& schema, DecomposeOptions& options) {
  schema.table("decompose", "How the mixers' outputs are split over the input tokens.");
  schema.option("decompose.approximations", &options.approximations)
      .choices(core::choices_of(kApproximationNames))
      .help(
          "Additive forms of the activation behind the convolution; activation is exact for conv_activation "
          "= identity, ratio always.");
  schema.option("decompose.bias", &options.bias)
      .choices(core::choices_of(kBiasRuleNames))
      .help("Where biases go: to the token's own contribution, or to a column of their own.");
  schema.option("decompose.methods", &options.methods)
      .choices(core::choices_of(kMethodNames))
      .help("Maps to make: one number per output position and token.");
  schema.option("decompose.error", &options.error)
      .choices(core::choices_of(kErrorMeasureNames))
      .cosmetic()
      .help("Measure of the approximation error that tables show.");
  schema.option("decompose.dtype", &options.dtype)
      .choices(core::choices_of(core::kComputeDtypeNames))
      .help("Precision of the forward pass, the sums and the maps, whatever the model was trained in.");
  schema.option("decompose.layers", &options.layers)
      .range(0, 1e6)
      .help("Layers whose maps are kept, from 0; empty: all.");
  schema.option("decompose.max_rows", &options.max_rows)
      .range(1, 1e9)
      .unit("rows")
      .help("At most so many texts are decomposed.");
  schema.rule({"decompose.approximations"}, [&options]() -> std::string {
    if (!options.approximations.empty()) return "";
    return fmt::format("decompose.approximations is empty; name at least one of: {}",
                       fmt::join(kApproximationNames, ", "));
  });
  refuse_repeats(schema, "decompose.approximations", options.approximations);
  refuse_repeats(schema, "decompose.methods", options.methods);
  refuse_repeats(schema, "decompose.layers", options.layers);
}

}  // namespace exactmamba::decomp
