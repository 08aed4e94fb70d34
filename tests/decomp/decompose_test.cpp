// Whole rows through a loaded model, single and packed, against golden/decomposition.
#include "decomp/decompose.h"

#include <algorithm>
#include <map>
#include <string>

#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/json.h"
#include "core/safetensors.h"
#include "models/checkpoint.h"
#include "tests/support/files.h"
#include "tests/support/tensors.h"

namespace exactmamba::decomp {
namespace {

using core::Json;
using core::SafetensorsFile;

class GoldenRows : public ::testing::TestWithParam<const char*> {
 protected:
  GoldenRows()
      : folder_(testing::golden(std::string("decomposition/") + GetParam())),
        contributions_(folder_ / "contributions.safetensors"),
        maps_(folder_ / "maps.safetensors"),
        meta_(core::read_json(folder_ / "meta.json")) {}

  models::MambaLM model(at::ScalarType dtype = at::kDouble) const {
    models::LoadOptions options;
    options.dtype = dtype;
    return models::load_model(folder_, options);
  }

  Row row(const std::string& name) const {
    const Json& info = meta_.at("rows").at(name);
    return {at::tensor(info.at("input_ids").get<std::vector<int64_t>>()),
            at::tensor(info.at("cu_seqlens").get<std::vector<int>>(), at::kInt),
            at::tensor(info.at("target_tokens").get<std::vector<int64_t>>()), 0};
  }

  /// Approximations whose maps are stored under their own name.
  std::vector<std::string> mapped() const {
    return meta_.at("same_as").contains("ratio") ? std::vector<std::string>{"activation"}
                                                 : std::vector<std::string>{"activation", "ratio"};
  }

  static DecomposeOptions all_methods() {
    DecomposeOptions options;
    options.approximations = {"activation", "identity", "relu", "taylor", "ratio"};
    options.methods = {"l1", "l2", "linf", "alti", "rollout", "alti_logit"};
    options.dtype = "float64";
    return options;
  }

  static std::map<std::string, InteractionMap> by_name(const std::vector<InteractionMap>& maps) {
    std::map<std::string, InteractionMap> result;
    for (const InteractionMap& map : maps) result[map.name()] = map;
    return result;
  }

  /// `stored` is a golden name, `row.` included.
  void expect_near(const at::Tensor& values, const std::string& stored, double tolerance) const {
    EXPECT_LE(testing::relative_difference(values, maps_.tensor(stored)), tolerance) << stored;
  }

  void expect_maps(const Decomposition& result, const std::string& row, double tolerance) const {
    const std::map<std::string, InteractionMap> maps = by_name(result.maps);
    int compared = 0;
    for (const auto& [name, map] : maps) {
      const std::string stored = row + name.substr(name.find('.'));
      if (map.layer == kWholeModel || !maps_.contains(stored)) continue;
      expect_near(map.values, stored, tolerance);
      ++compared;
    }
    EXPECT_GE(compared, static_cast<int>(12 * mapped().size()));
    for (const std::string& approximation : mapped()) {
      const InteractionMap& whole = maps.at("row0." + approximation + ".alti_logit");
      const std::string stored = row + "." + approximation + ".alti_logit_";
      expect_near(whole.values, stored + "total", tolerance);
      expect_near(whole.embedding, stored + "embed", tolerance);
      const at::Tensor logits =
          at::tensor(meta_.at("rows").at(row).at("target_logits").get<std::vector<double>>());
      EXPECT_LE(testing::relative_difference(whole.target_logits, logits), tolerance);
      EXPECT_LE(testing::absolute_difference(whole.rest, maps_.tensor(stored + "rest")),
                tolerance * logits.abs().max().item<double>());
    }
  }

  std::filesystem::path folder_;
  SafetensorsFile contributions_, maps_;
  Json meta_;
};

TEST_P(GoldenRows, Maps) {
  const models::MambaLM loaded = model();
  for (const std::string name : {"single", "packed"})
    expect_maps(decompose(loaded, {row(name)}, all_methods()), name, 1e-11);
}

/// Ten times what golden/decomposition/README.md reached in float32.
TEST_P(GoldenRows, MapsInFloat32) {
  DecomposeOptions options = all_methods();
  options.dtype = "float32";
  const models::MambaLM loaded = model(at::kFloat);
  for (const std::string name : {"single", "packed"}) {
    const Decomposition result = decompose(loaded, {row(name)}, options);
    EXPECT_EQ(result.errors.dtype, "float32");
    expect_maps(result, name, 1e-4);
  }
}

TEST_P(GoldenRows, Errors) {
  const models::MambaLM loaded = model();
  for (const std::string name : {"single", "packed"})
    for (const std::string bias : {"own", "separate"}) {
      DecomposeOptions options = all_methods();
      options.methods = {};
      options.bias = bias;
      const ErrorTable table = decompose(loaded, {row(name)}, options).errors;
      for (size_t a = 0; a < table.approximations.size(); ++a)
        for (size_t layer = 0; layer < table.errors[a].size(); ++layer) {
          const Json& expected = meta_.at("rows")
                                     .at(name)
                                     .at("approximation_error")
                                     .at(table.approximations[a] + "/" + bias)
                                     .at(layer);
          for (const auto& [measure, value] : expected.items()) {
            const double ours = table.errors[a][layer].value(error_measure_from_name(measure, "meta.json"));
            const double reference = value.get<double>();
            EXPECT_NEAR(ours, reference, reference < 1e-12 ? 1e-12 : 1e-11 * reference)
                << table.approximations[a] << " " << measure;
          }
        }
    }
}

TEST_P(GoldenRows, ExactFormsInFloat32) {
  const models::MambaLM loaded = model(at::kFloat);
  DecomposeOptions options;
  options.approximations = {"ratio"};
  options.methods = {};
  for (const std::string name : {"single", "packed"}) {
    const ErrorTable table = decompose(loaded, {row(name)}, options).errors;
    for (const ApproximationError& error : table.errors[0])
      EXPECT_LE(error.value(ErrorMeasure::kL2Mean), 1e-5);
  }
}

TEST_P(GoldenRows, Contributions) {
  const models::MambaLM loaded = model();
  int compared = 0;
  for (const std::string name : {"single", "packed"})
    for (const std::string bias : {"own", "separate"}) {
      DecomposeOptions options = all_methods();
      options.bias = bias;
      for (const auto& [tensor_name, tensor] : full_contributions(loaded, row(name), options)) {
        const size_t dot = tensor_name.find('.');
        const std::string stored = tensor_name == "pairs" ? name + ".pairs"
                                                          : name + "." + tensor_name.substr(0, dot) + "." +
                                                                bias + tensor_name.substr(dot);
        if (tensor_name != "pairs" && !contributions_.contains(stored)) continue;
        EXPECT_LE(testing::relative_difference(tensor, contributions_.tensor(stored)), 1e-11) << stored;
        ++compared;
      }
    }
  EXPECT_GE(compared, 10);
}

/// Values, embedding, rests and biases of every row sum to the logit, whatever the approximation and the bias
/// rule.
TEST_P(GoldenRows, LogitPartsSumToTheLogit) {
  const models::MambaLM loaded = model();
  for (const std::string bias : {"own", "separate"}) {
    DecomposeOptions options = all_methods();
    options.methods = {"alti_logit"};
    options.bias = bias;
    for (const InteractionMap& map : decompose(loaded, {row("packed")}, options).maps) {
      if (map.layer != kWholeModel) continue;
      at::Tensor sum = map.values.sum(1) + map.embedding + map.rest.sum(1);
      if (map.biases.defined()) sum = sum + map.biases.sum(1);
      EXPECT_EQ(map.biases.defined(), bias == "separate");
      EXPECT_LE(testing::relative_difference(sum, map.target_logits), 1e-12) << map.name();
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenRows,
                         ::testing::Values("mamba1-silu", "mamba1-relu", "mamba1-identity", "mamba2-g1-silu",
                                           "mamba2-g1-relu", "mamba2-g1-identity", "mamba2-g2-silu",
                                           "mamba2-g2-relu", "mamba2-g2-identity"),
                         [](const auto& instance) {
                           std::string name = instance.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

models::MambaLM small_model() {
  models::LoadOptions options;
  options.dtype = at::kDouble;
  return models::load_model(testing::golden("decomposition/mamba2-g1-silu"), options);
}

TEST(Decompose, KeepsChosenLayersAndRowsOnly) {
  DecomposeOptions options;
  options.dtype = "float64";
  options.layers = {2};
  options.max_rows = 2;
  const Row row{at::tensor(std::vector<int64_t>{3, 1, 4, 1, 5}), {}, {}, 0};
  Row second = row, third = row;
  second.index = 1;
  third.index = 2;
  const Decomposition result = decompose(small_model(), {row, second, third}, options);
  ASSERT_EQ(result.maps.size(), 2u);
  EXPECT_EQ(result.maps[0].name(), "row0.layer2.activation.l2");
  EXPECT_EQ(result.maps[1].name(), "row1.layer2.activation.l2");
  EXPECT_EQ(result.errors.errors[0].size(), 3u);
  EXPECT_EQ(result.errors.errors[0][0].positions(), 10);
}

TEST(Decompose, RefusesWrongInput) {
  const models::MambaLM model = small_model();
  DecomposeOptions options;
  const auto ignore = [](const InteractionMap&) {};
  const Row row{at::tensor(std::vector<int64_t>{3, 1}), {}, {}, 0},
      unknown{at::tensor(std::vector<int64_t>{3, 101}), {}, {}, 0};
  EXPECT_THROW(decompose_row(model, row, options, ignore),
               core::InputError);  // float64 model, float32 asked for
  options.dtype = "float64";
  EXPECT_THROW(decompose_row(model, unknown, options, ignore), core::InputError);
  options.layers = {3};
  EXPECT_THROW(decompose_row(model, row, options, ignore), core::InputError);
}

}  // namespace
}  // namespace exactmamba::decomp
