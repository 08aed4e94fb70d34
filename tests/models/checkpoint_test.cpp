#include "models/checkpoint.h"

#include <algorithm>
#include <map>

#include <ATen/TensorOperators.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/files.h"
#include "core/safetensors.h"
#include "core/torch_file.h"
#include "tests/support/files.h"
#include "tests/support/tensors.h"

namespace exactmamba::models {
namespace {

using testing::golden;
using testing::relative_difference;
using testing::TemporaryFolder;

// ---- logits of every golden model ----

struct GoldenModel {
  const char* folder;
  const char* expected;  // the folder whose expected.safetensors holds the logits
  bool first_row_only;
};
void PrintTo(const GoldenModel& model, std::ostream* out) { *out << model.folder; }

class GoldenModels : public ::testing::TestWithParam<GoldenModel> {
 protected:
  /// Largest difference of the logits, relative to their largest value.
  static double logits_error(at::ScalarType dtype) {
    const core::SafetensorsFile expected(golden("models") / GetParam().expected / "expected.safetensors");
    const MambaLM model = load_model(golden("models") / GetParam().folder, {dtype, {}});
    at::Tensor ids = expected.tensor("input_ids"), want = expected.tensor("logits");
    if (GetParam().first_row_only) ids = ids.narrow(0, 0, 1), want = want.narrow(0, 0, 1);
    return relative_difference(model.logits(ids, {}), want);
  }
};

TEST_P(GoldenModels, LogitsInDouble) { EXPECT_LE(logits_error(at::kDouble), 1e-12); }
TEST_P(GoldenModels, LogitsInFloat) { EXPECT_LE(logits_error(at::kFloat), 1e-4); }

INSTANTIATE_TEST_SUITE_P(, GoldenModels,
                         ::testing::Values(GoldenModel{"mamba1-hf", "mamba1-hf", false},
                                           GoldenModel{"mamba2-hf", "mamba2-hf", false},
                                           GoldenModel{"mamba2-g2-hf", "mamba2-g2-hf", false},
                                           GoldenModel{"mamba1-hf-fp16", "mamba1-hf-fp16", true},
                                           GoldenModel{"mamba1-hf-bf16", "mamba1-hf-bf16", true},
                                           GoldenModel{"mamba1-hf-sharded", "mamba1-hf-fp16", true},
                                           GoldenModel{"mamba1-ss", "mamba1-hf", false},
                                           GoldenModel{"mamba2-ss", "mamba2-hf", false},
                                           GoldenModel{"mamba1-ss-legacy", "mamba1-ss-legacy", true},
                                           GoldenModel{"mamba2-ss-legacy", "mamba2-ss-legacy", true}),
                         [](const auto& test) {
                           std::string name = test.param.folder;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

// ---- a trained model with foreign names ----

constexpr const char* kForeignNames = R"(
"embedding.weight" = "backbone.embeddings.weight"
"norm_f.weight" = "backbone.norm_f.weight"
"mamba.layers.*.norm.weight" = "backbone.layers.*.norm.weight"
"mamba.layers.*.mixer.A_log" = "backbone.layers.*.mixer.A_log"
"mamba.layers.*.mixer.D" = "backbone.layers.*.mixer.D"
"mamba.layers.*.mixer.in_proj.weight" = "backbone.layers.*.mixer.in_proj.weight"
"mamba.layers.*.mixer.conv1d.weight" = "backbone.layers.*.mixer.conv1d.weight"
"mamba.layers.*.mixer.conv1d.bias" = "backbone.layers.*.mixer.conv1d.bias"
"mamba.layers.*.mixer.x_proj.weight" = "backbone.layers.*.mixer.x_proj.weight"
"mamba.layers.*.mixer.dt_proj.weight" = "backbone.layers.*.mixer.dt_proj.weight"
"mamba.layers.*.mixer.dt_proj.bias" = "backbone.layers.*.mixer.dt_proj.bias"
"mamba.layers.*.mixer.out_proj.weight" = "backbone.layers.*.mixer.out_proj.weight"
)";

/// `reference` may hold a part of the last dimension.
at::Tensor numbers(const core::Json& list) {
  const auto values = list.get<std::vector<double>>();
  return at::tensor(values, at::kDouble);
}

TEST(Checkpoint, ATrainedModelWithForeignNames) {
  const std::filesystem::path folder = testing::external_data() / "mamba1-tiny-lm";
  if (!std::filesystem::exists(folder))
    GTEST_SKIP() << "set EXACTMAMBA_DATA to the folder with mamba1-tiny-lm";
  const TemporaryFolder temporary;
  core::write_file(temporary / "map.toml", kForeignNames);
  const core::Json reference = core::read_json(folder / "reference-logits.json");
  const at::Tensor ids = at::tensor(reference["ids"].get<std::vector<int64_t>>(), at::kLong).unsqueeze(0);

  for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
    const MambaLM model = load_model(folder, {dtype, temporary / "map.toml"});
    const at::Tensor logits = model.logits(ids, {})[0];
    const auto [best, argmax] = logits.max(1);
    const double tolerance = dtype == at::kFloat ? 1e-4 : 1e-12;
    EXPECT_LE(
        relative_difference(logits[-1].narrow(0, 0, 16), numbers(reference["last_position_logits_first16"])),
        tolerance);
    EXPECT_LE(relative_difference(best, numbers(reference["per_position_max_logit"])), tolerance);
    EXPECT_TRUE(
        argmax.equal(at::tensor(reference["per_position_argmax"].get<std::vector<int64_t>>(), at::kLong)));
  }
}

// ---- round trips ----

void expect_bit_equal(const MambaLM& a, const MambaLM& b) {
  ASSERT_EQ(a.parameters().specs().size(), b.parameters().specs().size());
  for (const ParameterSpec& spec : a.parameters().specs()) {
    const at::Tensor x = a.parameters().parameter(spec.name), y = b.parameters().parameter(spec.name);
    EXPECT_TRUE(x.scalar_type() == y.scalar_type() && x.equal(y)) << spec.name;
  }
}

class RoundTrips : public ::testing::TestWithParam<const char*> {};

TEST_P(RoundTrips, HuggingFaceFloat) {
  const TemporaryFolder folder;
  const MambaLM model = load_model(golden("models") / GetParam());
  save_model(model, folder.path());
  expect_bit_equal(load_model(folder.path()), model);
}

TEST_P(RoundTrips, HuggingFaceDouble) {
  const TemporaryFolder folder;
  MambaLM model = load_model(golden("models") / GetParam(), {at::kDouble, {}});
  model.parameters().flat(Decay::kYes).mul_(1.0 / 3.0);  // numbers that only double holds
  save_model(model, folder.path(), at::kDouble);
  expect_bit_equal(load_model(folder.path(), {at::kDouble, {}}), model);
}

TEST_P(RoundTrips, StateSpaces) {
  const TemporaryFolder folder;
  const MambaLM model = load_model(golden("models") / GetParam());
  save_state_spaces(model, folder.path());
  expect_bit_equal(load_model(folder.path()), model);
}

TEST_P(RoundTrips, HalfPrecisionKeepsWhatItCanHold) {
  const MambaLM model = load_model(golden("models") / GetParam());
  for (const at::ScalarType storage : {at::kHalf, at::kBFloat16}) {
    const TemporaryFolder folder;
    save_model(model, folder.path(), storage);
    const MambaLM rounded = load_model(folder.path());
    for (const ParameterSpec& spec : model.parameters().specs()) {
      const at::Tensor want = model.parameters().parameter(spec.name).to(storage).to(at::kFloat);
      EXPECT_TRUE(rounded.parameters().parameter(spec.name).equal(want)) << spec.name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, RoundTrips, ::testing::Values("mamba1-hf", "mamba2-hf", "mamba2-g2-hf"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(Checkpoint, ActivationAndItsAlphaBelongToTheModel) {
  const TemporaryFolder folder;
  MambaLM model = load_model(golden("models/mamba2-hf"));
  model.set_activation({ActivationKind::kIdentity, 0.75});
  save_model(model, folder.path());
  const ModelConfig config = load_config(folder.path());
  EXPECT_EQ(config.activation.kind, ActivationKind::kIdentity);
  EXPECT_EQ(config.activation.alpha, 0.75);
}

TEST(Checkpoint, SavedTensorsHaveTheNamesAndShapesOfTheGoldenFile) {
  const TemporaryFolder folder;
  save_model(load_model(golden("models/mamba2-hf")), folder.path());
  const core::SafetensorsFile ours(folder / "model.safetensors"),
      theirs(golden("models/mamba2-hf/model.safetensors"));
  EXPECT_EQ(ours.metadata().at("format"), "pt");
  ASSERT_EQ(ours.names().size(), theirs.names().size());
  for (const std::string& name : theirs.names())
    EXPECT_TRUE(ours.tensor(name).equal(theirs.tensor(name))) << name;
}

TEST(Checkpoint, StateSpacesFilesHaveTheNamesOfTheGoldenFileAndATiedHead) {
  const TemporaryFolder folder;
  save_state_spaces(load_model(golden("models/mamba1-ss")), folder.path());
  std::map<std::string, at::Tensor> ours, theirs;
  for (const auto& [name, values] : core::read_torch_state_dict(folder / "pytorch_model.bin"))
    ours[name] = values;
  for (const auto& [name, values] :
       core::read_torch_state_dict(golden("models/mamba1-ss/pytorch_model.bin"))) {
    theirs[name] = values;
  }
  ASSERT_EQ(ours.size(), theirs.size());
  for (const auto& [name, values] : theirs) EXPECT_TRUE(ours.at(name).equal(values)) << name;
  EXPECT_EQ(ours.at("lm_head.weight").const_data_ptr(),
            ours.at("backbone.embedding.weight").const_data_ptr());
}

TEST(Checkpoint, ASafetensorsFolderMayHaveStateSpacesNames) {
  const TemporaryFolder folder;
  core::NamedTensors tensors;
  for (const auto& [name, values] :
       core::read_torch_state_dict(golden("models/mamba2-ss/pytorch_model.bin"))) {
    tensors.emplace_back(name, values);
  }
  core::write_safetensors(folder / "model.safetensors", tensors);
  std::filesystem::copy_file(golden("models/mamba2-ss/config.json"), folder / "config.json");
  expect_bit_equal(load_model(folder.path()), load_model(golden("models/mamba2-hf")));
}

}  // namespace
}  // namespace exactmamba::models
