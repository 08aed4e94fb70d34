// Whole rows through a loaded model, single and packed, against golden/decomposition.
#include "decomp/decompose.h"

#include <algorithm>
#include <limits>
#include <map>
#include <string>

#include <ATen/TensorOperators.h>
#include <ATen/ops/argmax.h>
#include <ATen/ops/full.h>
#include <ATen/ops/gather.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/json.h"
#include "core/safetensors.h"
#include "decomp/row_file.h"
#include "models/checkpoint.h"
#include "tests/support/files.h"
#include "tests/support/tensors.h"

namespace exactmamba::decomp {
namespace {

using core::Json;
using core::SafetensorsFile;

/// What golden/decomposition/README.md allows: in float32 ten times what it reached.
struct Tolerances {
  double contributions, norms, others;
  double of(const std::string& method) const {
    return method == "l1" || method == "l2" || method == "linf" ? norms : others;
  }
};
constexpr Tolerances kDouble = {1e-12, 1e-12, 1e-12}, kFloat = {3e-5, 2e-5, 1e-4};

std::string test_name(std::string model) {
  std::replace(model.begin(), model.end(), '-', '_');
  return model;
}

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

  void expect_maps(const Decomposition& result, const std::string& row, const Tolerances& tolerances) const {
    const std::map<std::string, InteractionMap> maps = by_name(result.maps);
    int compared = 0;
    for (const auto& [name, map] : maps) {
      const std::string stored = row + name.substr(name.find('.'));
      if (map.layer == kWholeModel || !maps_.contains(stored)) continue;
      expect_near(map.values, stored, tolerances.of(map.method));
      ++compared;
    }
    EXPECT_GE(compared, static_cast<int>(12 * mapped().size()));
    const double tolerance = tolerances.others;
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

  void expect_contributions(const std::string& dtype, double tolerance) const {
    DecomposeOptions options = all_methods();
    options.dtype = dtype;
    const models::MambaLM loaded = model(options.scalar_type());
    int compared = 0;
    for (const std::string name : {"single", "packed"})
      for (const std::string bias : {"own", "separate"}) {
        options.bias = bias;
        const RowContributions full = full_contributions(loaded, row(name), options);
        for (const auto& [tensor_name, tensor] : contributions_file({}, full, options).tensors) {
          const size_t dot = tensor_name.find('.');
          const std::string stored = tensor_name == "pairs" ? name + ".pairs"
                                                            : name + "." + tensor_name.substr(0, dot) + "." +
                                                                  bias + tensor_name.substr(dot);
          if (tensor_name != "pairs" && !contributions_.contains(stored)) continue;
          EXPECT_LE(testing::relative_difference(tensor, contributions_.tensor(stored)), tolerance) << stored;
          ++compared;
        }
      }
    EXPECT_GE(compared, 10);
  }

  std::filesystem::path folder_;
  SafetensorsFile contributions_, maps_;
  Json meta_;
};

TEST_P(GoldenRows, Maps) {
  const models::MambaLM loaded = model();
  for (const std::string name : {"single", "packed"})
    expect_maps(decompose(loaded, {row(name)}, all_methods()), name, kDouble);
}

TEST_P(GoldenRows, MapsInFloat32) {
  DecomposeOptions options = all_methods();
  options.dtype = "float32";
  const models::MambaLM loaded = model(at::kFloat);
  for (const std::string name : {"single", "packed"}) {
    const Decomposition result = decompose(loaded, {row(name)}, options);
    EXPECT_EQ(result.errors.dtype, "float32");
    expect_maps(result, name, kFloat);
  }
}

/// Models whose comparison methods are stored.
class GoldenMethods : public GoldenRows {};

TEST_P(GoldenMethods, MambaAttention) {
  const SafetensorsFile methods(folder_ / "methods.safetensors");
  for (const auto& [dtype, tolerance] : {std::pair{"float64", 1e-12}, {"float32", 2e-5}}) {
    DecomposeOptions options;
    options.bias = "separate";  // which has no part in them
    options.methods = {"mamba_attention_signed", "mamba_attention", "mamba_attention_rollout"};
    options.dtype = dtype;
    const models::MambaLM loaded = model(options.scalar_type());
    for (const std::string name : {"single", "packed"}) {
      const auto maps = by_name(decompose(loaded, {row(name)}, options).maps);
      EXPECT_EQ(maps.size(), 9u);
      const auto expect = [&](const std::string& map, const std::string& stored) {
        EXPECT_LE(
            testing::relative_difference(maps.at("row0." + map).values, methods.tensor(name + "." + stored)),
            tolerance)
            << name << " " << stored << " " << dtype;
      };
      for (const std::string layer : {"layer0", "layer1", "layer2"}) {
        expect(layer + ".mamba_attention", layer + ".mamba_attention.mean_abs");
        expect(layer + ".mamba_attention_signed", layer + ".mamba_attention.mean");
      }
      expect("layer2.mamba_attention_rollout", "mamba_attention.rollout_abs");
    }
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
            EXPECT_NEAR(ours, reference, reference < 1e-12 ? 1e-12 : 1e-12 * reference)
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

TEST_P(GoldenRows, Contributions) { expect_contributions("float64", kDouble.contributions); }
TEST_P(GoldenRows, ContributionsInFloat32) { expect_contributions("float32", kFloat.contributions); }

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
                         [](const auto& instance) { return test_name(instance.param); });
INSTANTIATE_TEST_SUITE_P(Models, GoldenMethods,
                         ::testing::Values("mamba1-silu", "mamba2-g1-silu", "mamba2-g2-silu"),
                         [](const auto& instance) { return test_name(instance.param); });

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

const auto kIgnore = [](const InteractionMap&) {};

/// Four tokens, and the options that fit small_model().
Row four_tokens() { return {at::tensor(std::vector<int64_t>{3, 1, 4, 1}), {}, {}, 6}; }
DecomposeOptions in_double(const std::vector<std::string>& methods) {
  DecomposeOptions options;
  options.dtype = "float64";
  options.methods = methods;
  return options;
}

TEST(Decompose, RefusesWrongOptions) {
  const models::MambaLM model = small_model();
  DecomposeOptions options;  // float32
  EXPECT_THROW(decompose_row(model, "", four_tokens(), options, kIgnore), core::InputError);
  options.dtype = "float64";
  options.layers = {3};
  EXPECT_THROW(decompose_row(model, "", four_tokens(), options, kIgnore), core::InputError);
}

TEST(Decompose, NamesTheIdThatIsOutsideTheVocabulary) {
  models::MambaLM model = small_model();
  const int64_t rows = model.config().vocab_rows;
  for (const int64_t id : {rows, int64_t{-42}}) {
    Row row = four_tokens();
    row.input_ids[2] = id;
    const std::string message = testing::error_of<core::InputError>(
        [&] { decompose_row(model, "", row, in_double({"l2"}), kIgnore); });
    EXPECT_EQ(message, fmt::format("row 6: input_ids: id {} is outside the vocabulary of {}", id, rows));
  }
}

/// Targets lie in the true vocabulary, which pad rows of the embedding are no part of.
TEST(Decompose, RefusesWrongTargets) {
  models::MambaLM model = small_model();
  model.set_vocab_size(90);
  const auto with_targets = [&](const at::Tensor& targets) {
    Row row = four_tokens();
    row.targets = targets;
    return testing::error_of<core::InputError>(
        [&] { decompose_row(model, "", row, in_double({"alti_logit"}), kIgnore); });
  };
  for (const int64_t id : {90, -100})
    EXPECT_EQ(with_targets(at::tensor(std::vector<int64_t>{1, 2, id, 3})),
              fmt::format("row 6: targets: id {} is outside the vocabulary of 90", id));
  EXPECT_CONTAINS(with_targets(at::tensor(std::vector<int64_t>{1, 2, 3})),
                  "row of 4 int64, not [3] of int64");
  EXPECT_CONTAINS(with_targets(at::tensor(std::vector<int>{1, 2, 3, 4})), "row of 4 int64, not [4] of int32");
}

/// The whole model's alti_logit map of `row`.
InteractionMap logit_map(const models::MambaLM& model, const Row& row) {
  InteractionMap result;
  decompose_row(model, "", row, in_double({"alti_logit"}), [&](const InteractionMap& map) {
    if (map.layer == kWholeModel) result = map;
  });
  return result;
}

TEST(Decompose, SplitsTheLogitsOfTheTokensThatFollow) {
  const models::MambaLM model = small_model();
  Row row{at::tensor(std::vector<int64_t>{3, 1, 4, 1, 5}),
          at::tensor(std::vector<int>{0, 2, 5}, at::kInt),
          {},
          0};
  row.targets = next_tokens(row);
  EXPECT_TRUE(row.targets.equal(at::tensor(std::vector<int64_t>{1, kPredicted, 1, 5, kPredicted})));

  const InteractionMap map = logit_map(model, row);
  const at::Tensor logits = model.logits(row.input_ids.unsqueeze(0), row.cu_seqlens)[0];
  const at::Tensor predicted = logits.narrow(1, 0, model.config().vocab_size).argmax(1);
  const at::Tensor expected = at::where(row.targets.eq(kPredicted), predicted, row.targets);
  EXPECT_TRUE(map.target_tokens.equal(expected));
  const at::Tensor of_targets = logits.gather(1, expected.unsqueeze(1)).squeeze(1);
  EXPECT_LE(testing::relative_difference(map.target_logits, of_targets), 1e-12);
  const at::Tensor sum = map.values.sum(1) + map.embedding + map.rest.sum(1);
  EXPECT_LE(testing::relative_difference(sum, of_targets), 1e-12);
}

TEST(Decompose, NamesTheLayerAndTheRowOfANumberThatIsNotFinite) {
  models::MambaLM model = small_model();
  model.parameters().parameter("backbone.layers.1.mixer.D").fill_(std::numeric_limits<double>::quiet_NaN());
  const std::string message = testing::error_of<core::NumericalError>(
      [&] { decompose_row(model, "", four_tokens(), in_double({"l2"}), kIgnore); });
  EXPECT_CONTAINS(message, "row 6, layer 1: ");
}

TEST(Decompose, GivesEveryMapTheChecksumOfTheModelAsConverted) {
  const models::MambaLM model = small_model();
  DecomposeOptions options;
  Row second = four_tokens();
  second.index = 7;
  const Decomposition result = decompose(model, {four_tokens(), second}, options);
  ASSERT_EQ(result.maps.size(), 6u);
  for (const InteractionMap& map : result.maps)
    EXPECT_EQ(map.row.model_checksum, model.to(at::kFloat).parameters().checksum());
}

/// All layers and approximations count together: 3 × 2, each of 10 pairs and 4 biases.
TEST(FullContributions, AreRefusedBeforeTheyAreTooLarge) {
  const models::MambaLM model = small_model();
  DecomposeOptions options = in_double({});
  options.approximations = {"activation", "ratio"};
  options.bias = "separate";
  int64_t bytes = 0;
  for (const LayerContributions& layer : full_contributions(model, four_tokens(), options).layers)
    bytes += static_cast<int64_t>(layer.values.nbytes() + layer.bias.nbytes());
  EXPECT_EQ(bytes, 3 * 2 * (10 + 4) * model.config().d_model * 8);
  EXPECT_NO_THROW(full_contributions(model, four_tokens(), options, bytes));
  EXPECT_THROW(full_contributions(model, four_tokens(), options, bytes - 1), core::InputError);
  options.layers = {0, 2};
  EXPECT_NO_THROW(full_contributions(model, four_tokens(), options, bytes * 2 / 3));
  EXPECT_THROW(full_contributions(model, four_tokens(), options, bytes * 2 / 3 - 1), core::InputError);
}

}  // namespace
}  // namespace exactmamba::decomp
