// Starting weights: the rules of state-spaces/mamba as distributions, mimetic initialisation against
// golden/training.
#include "models/initialisation.h"

#include <cmath>

#include <ATen/ops/arange.h>
#include <ATen/ops/expm1.h>
#include <ATen/ops/log.h>
#include <ATen/ops/softplus.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/json.h"
#include "tests/support/golden_model.h"

namespace exactmamba::models {
namespace {

ModelConfig small_config(Architecture architecture) {
  ModelConfig config;
  config.architecture = architecture;
  config.vocab_size = 101;
  config.vocab_rows = 112;
  config.d_model = 64;
  config.n_layer = 3;
  config.d_state = 16;
  config.dt_rank = 4;
  config.headdim = 8;
  config.tie_embeddings = false;
  config.use_bias = true;
  return config;
}

MambaLM initialised(const ModelConfig& config, uint64_t seed, at::ScalarType dtype = at::kDouble) {
  MambaLM model(config, dtype);
  initialise(model, seed);
  return model;
}

const std::string kMixer = "backbone.layers.1.mixer.";

at::Tensor of_mixer(const MambaLM& model, const std::string& name) {
  return model.parameters().parameter(kMixer + name);
}

/// Values inside ±bound, with the mean and the standard deviation of U(±bound), to five standard errors.
void expect_uniform(const at::Tensor& values, double bound) {
  const auto n = static_cast<double>(values.numel());
  EXPECT_LE(values.abs().max().item<double>(), bound);
  EXPECT_NEAR(values.mean().item<double>(), 0.0, 5 * bound / std::sqrt(3 * n));
  EXPECT_NEAR(values.square().mean().item<double>(), bound * bound / 3,
              5 * bound * bound * std::sqrt(4.0 / 45 / n));
}

TEST(Initialisation, ProjectionsAreUniform) {
  for (const Architecture architecture : {Architecture::kMamba1, Architecture::kMamba2}) {
    const MambaLM model = initialised(small_config(architecture), 3);
    expect_uniform(of_mixer(model, "in_proj.weight"), 1 / std::sqrt(64.0));
    expect_uniform(of_mixer(model, "out_proj.weight"), 1 / std::sqrt(128.0) / std::sqrt(3.0));
    expect_uniform(of_mixer(model, "conv1d.weight"), 0.5);
    expect_uniform(of_mixer(model, "conv1d.bias"), 0.5);
    expect_uniform(model.parameters().parameter("lm_head.weight"), 1 / std::sqrt(64.0));
    EXPECT_EQ(of_mixer(model, "in_proj.bias").abs().max().item<double>(), 0.0);
    EXPECT_EQ(of_mixer(model, "out_proj.bias").abs().max().item<double>(), 0.0);
  }
  const MambaLM mamba1 = initialised(small_config(Architecture::kMamba1), 3);
  expect_uniform(of_mixer(mamba1, "x_proj.weight"), 1 / std::sqrt(128.0));
  expect_uniform(of_mixer(mamba1, "dt_proj.weight"), 1 / std::sqrt(4.0));
}

TEST(Initialisation, EmbeddingIsNormal) {
  const at::Tensor values = initialised(small_config(Architecture::kMamba2), 4)
                                .parameters()
                                .parameter("backbone.embeddings.weight");
  const auto n = static_cast<double>(values.numel());
  EXPECT_NEAR(values.mean().item<double>(), 0.0, 5 * 0.02 / std::sqrt(n));
  EXPECT_NEAR(values.square().mean().item<double>(), 4e-4, 5 * 4e-4 * std::sqrt(2 / n));
  EXPECT_NEAR(values.pow(4).mean().item<double>() / 16e-8, 3.0, 5 * std::sqrt(96 / n));
}

TEST(Initialisation, StateAndStepSize) {
  const MambaLM mamba1 = initialised(small_config(Architecture::kMamba1), 5),
                mamba2 = initialised(small_config(Architecture::kMamba2), 5);
  const at::Tensor expected = at::arange(1, 17, at::kDouble).log().expand({128, 16});
  EXPECT_TRUE(of_mixer(mamba1, "A_log").equal(expected));
  const at::Tensor decay = of_mixer(mamba2, "A_log").exp();
  EXPECT_GE(decay.min().item<double>(), 1.0);
  EXPECT_LE(decay.max().item<double>(), 16.0);
  EXPECT_GT(decay.max().item<double>() - decay.min().item<double>(), 5.0);
  for (const at::Tensor& bias : {of_mixer(mamba1, "dt_proj.bias"), of_mixer(mamba2, "dt_bias")}) {
    const at::Tensor logarithm = at::softplus(bias).log();
    EXPECT_GE(logarithm.min().item<double>(), std::log(1e-3) - 1e-9);
    EXPECT_LE(logarithm.max().item<double>(), std::log(1e-1) + 1e-9);
    const double deviation = std::log(100.0) / std::sqrt(12.0 * static_cast<double>(bias.numel()));
    EXPECT_NEAR(logarithm.mean().item<double>(), std::log(1e-2), 5 * deviation);
  }
}

TEST(Initialisation, StepSizeHasAFloor) {
  ModelConfig config = small_config(Architecture::kMamba1);
  config.dt_init_floor = 0.05;
  const at::Tensor step = at::softplus(of_mixer(initialised(config, 5), "dt_proj.bias"));
  EXPECT_NEAR(step.min().item<double>(), 0.05, 1e-12);
  EXPECT_GT(step.max().item<double>(), 0.06);
}

TEST(Initialisation, NormsAndSkipAreOne) {
  const MambaLM model = initialised(small_config(Architecture::kMamba2), 6);
  for (const std::string name : {"backbone.layers.2.norm.weight", "backbone.layers.0.mixer.norm.weight",
                                 "backbone.layers.0.mixer.D", "backbone.norm_f.weight"}) {
    EXPECT_EQ(model.parameters().parameter(name).min().item<double>(), 1.0) << name;
    EXPECT_EQ(model.parameters().parameter(name).max().item<double>(), 1.0) << name;
  }
}

TEST(Initialisation, DependsOnSeedNameAndElementOnly) {
  ModelConfig config = small_config(Architecture::kMamba1);
  const MambaLM model = initialised(config, 7);
  EXPECT_EQ(initialised(config, 7).parameters().checksum(), model.parameters().checksum());
  EXPECT_NE(initialised(config, 8).parameters().checksum(), model.parameters().checksum());
  EXPECT_EQ(initialised(config, 7, at::kFloat).parameters().checksum(),
            model.to(at::kFloat).parameters().checksum());
  EXPECT_FALSE(of_mixer(model, "in_proj.weight")
                   .equal(model.parameters().parameter("backbone.layers.2.mixer.in_proj.weight")));
  config.n_layer = 5;
  config.vocab_rows = 120;
  const MambaLM deeper = initialised(config, 7);
  EXPECT_TRUE(of_mixer(deeper, "in_proj.weight").equal(of_mixer(model, "in_proj.weight")));
  const auto embedding = [](const MambaLM& m) {
    return m.parameters().parameter("backbone.embeddings.weight").narrow(0, 0, 112);
  };
  EXPECT_TRUE(embedding(deeper).equal(embedding(model)));
}

// ---- mimetic ----

ModelConfig mimetic_config(const core::Json& sizes) {
  ModelConfig config;
  config.architecture = sizes["arch"] == "mamba1" ? Architecture::kMamba1 : Architecture::kMamba2;
  config.vocab_size = config.vocab_rows = 8;
  config.d_model = sizes["d_model"];
  config.n_layer = sizes["n_layer"];
  config.d_state = sizes["d_state"];
  config.d_conv = sizes["d_conv"];
  config.dt_rank = sizes.value("dt_rank", 0);
  config.headdim = sizes.value("headdim", 1);
  config.ngroups = sizes.value("ngroups", 1);
  return config;
}

class Mimetic : public ::testing::TestWithParam<std::string> {
 protected:
  core::SafetensorsFile golden_{testing::golden("training/mimetic.safetensors")};
  ModelConfig config_ = mimetic_config(core::read_json(testing::golden("training/mimetic.json"))[GetParam()]);

  static at::Tensor weight(const MambaLM& model, const std::string& name) {
    return model.parameters().parameter("backbone.layers.0.mixer." + name);
  }
  std::vector<std::string> names(const std::string& stage) const {
    const std::string prefix = GetParam() + "/" + stage + ".";
    std::vector<std::string> found;
    for (const std::string& name : golden_.names()) {
      if (name.rfind(prefix, 0) == 0) found.push_back(name.substr(prefix.size()));
    }
    return found;
  }
  at::Tensor stored(const std::string& stage, const std::string& name) const {
    return golden_.tensor(GetParam() + "/" + stage + "." + name);
  }

  MambaLM before() const {
    MambaLM model(config_, at::kFloat);
    for (const std::string& name : names("before")) weight(model, name).copy_(stored("before", name));
    return model;
  }
};

TEST_P(Mimetic, EqualsTheGoldenRules) {
  MambaLM model = before();
  apply_mimetic(model, {});
  ASSERT_FALSE(names("after").empty());
  for (const std::string& name : names("after")) {
    EXPECT_LE(testing::relative_difference(weight(model, name), stored("after", name)), 1.2e-7) << name;
  }
}

TEST_P(Mimetic, FaithfulForkCutsByHeads) {
  MambaLM model = before();
  MimeticOptions options;
  options.faithful_fork = true;
  apply_mimetic(model, options);
  const bool has_own_rule = !names("after_faithful_fork").empty();
  EXPECT_EQ(has_own_rule, config_.architecture == Architecture::kMamba2);
  for (const std::string& name : names("after")) {
    const std::string stage = has_own_rule && name == "in_proj.weight" ? "after_faithful_fork" : "after";
    EXPECT_LE(testing::relative_difference(weight(model, name), stored(stage, name)), 1.2e-7) << name;
  }
}

TEST_P(Mimetic, EachPartAlone) {
  const std::vector<std::pair<bool MimeticOptions::*, std::vector<std::string>>> parts = {
      {&MimeticOptions::state, {"A_log"}},
      {&MimeticOptions::step_size, {"dt_proj.weight", "dt_proj.bias", "dt_bias"}},
      {&MimeticOptions::convolution, {"conv1d.weight", "conv1d.bias"}},
      {&MimeticOptions::correlate_BC, {"x_proj.weight", "in_proj.weight"}}};
  for (const auto& [part, changed] : parts) {
    MambaLM model = before();
    MimeticOptions options{false, false, false, false, false, {}};
    options.*part = true;
    apply_mimetic(model, options);
    for (const std::string& name : names("after")) {
      const bool is_changed = std::find(changed.begin(), changed.end(), name) != changed.end();
      EXPECT_LE(
          testing::relative_difference(weight(model, name), stored(is_changed ? "after" : "before", name)),
          1.2e-7)
          << name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, Mimetic, ::testing::Values("mamba1", "mamba2-g1", "mamba2-g2"));

TEST(Mimetic, OnlyTheListedLayers) {
  MambaLM model = initialised(small_config(Architecture::kMamba2), 9);
  const MambaLM untouched = model.to(at::kDouble);
  MimeticOptions options;
  options.layers = {1};
  apply_mimetic(model, options);
  for (const ParameterSpec& spec : model.parameters().specs()) {
    if (spec.name.rfind(kMixer, 0) == 0) continue;
    EXPECT_TRUE(model.parameters().parameter(spec.name).equal(untouched.parameters().parameter(spec.name)))
        << spec.name;
  }
  EXPECT_FALSE(of_mixer(model, "A_log").equal(of_mixer(untouched, "A_log")));
}

TEST(Mimetic, RefusesMissingLayersAndForkSlicesThatDoNotFit) {
  ModelConfig config = small_config(Architecture::kMamba2);
  config.d_state = 4;
  MambaLM model = initialised(config, 9);
  MimeticOptions options;
  options.layers = {0, 3};
  EXPECT_THROW(apply_mimetic(model, options), core::InputError);
  options.layers = {};
  options.faithful_fork = true;
  EXPECT_THROW(apply_mimetic(model, options), core::InputError);  // 2·16 rows behind row 256 of 280
}

}  // namespace
}  // namespace exactmamba::models
