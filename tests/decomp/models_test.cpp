// Models as annealing and unusual configs leave them, traced and taken apart: the exact form must give back
// what the model computed.
#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/tensor.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "decomp/approximation_error.h"
#include "decomp/decompose.h"
#include "tests/support/random_model.h"
#include "tests/support/tensors.h"

namespace exactmamba::decomp {
namespace {

using models::ActivationKind;
using models::Architecture;
using models::LayerTrace;
using models::MambaLM;
using models::ModelConfig;

/// 80 channels: not a multiple of a block of channels; Mamba-2: two heads of 40.
ModelConfig small_config(Architecture architecture) {
  ModelConfig config;
  config.architecture = architecture;
  config.vocab_size = config.vocab_rows = 31;
  config.d_model = 40, config.n_layer = 2;
  config.d_state = 8, config.dt_rank = 3;
  config.headdim = 40;
  return config;
}

class Models : public ::testing::TestWithParam<Architecture> {
 protected:
  at::Tensor ids_ = at::tensor(std::vector<int64_t>{3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 30, 0, 7}, at::kLong);
  at::Tensor cu_seqlens_ = at::tensor(std::vector<int>{0, 4, 5, 13}, at::kInt);

  static MambaLM model(const ModelConfig& config, at::ScalarType dtype = at::kDouble) {
    return testing::random_model(config, dtype, 0.1, 11);
  }

  /// Each layer's own output, and, with all layers' sums on the embedding, the stream below the head.
  void expect_exact(const MambaLM& lm, Approximation approximation, double tolerance) const {
    for (const BiasRule bias : {BiasRule::kOwn, BiasRule::kSeparate}) {
      const models::TopTrace top = lm.top(ids_, cu_seqlens_);
      at::Tensor stream = top.embedding;
      lm.trace(ids_, cu_seqlens_, [&](const LayerTrace& trace) {
        const at::Tensor sum = contribution_sum(trace, approximation, bias);
        EXPECT_LE(approximation_error(trace, approximation, bias, sum).value(ErrorMeasure::kL2Mean),
                  tolerance)
            << "layer " << trace.layer << ", bias " << bias_rule_name(bias);
        stream = stream + sum;
      });
      EXPECT_LE(testing::relative_difference(stream, top.r_top), tolerance) << bias_rule_name(bias);
    }
  }

  /// Tiles, by the public entry: row sums of the logit parts.
  void expect_logits_add_up(const MambaLM& lm, double tolerance) const {
    for (const std::string bias : {"own", "separate"}) {
      DecomposeOptions options;
      options.dtype = "float64";
      options.approximations = {"ratio"};
      options.methods = {"alti_logit"};
      options.bias = bias;
      const Decomposition result = decompose(lm, {Row{ids_, cu_seqlens_, {}, 0}}, options);
      const InteractionMap& map = result.maps.back();
      ASSERT_EQ(map.layer, kWholeModel);
      EXPECT_LE(map.rest.abs().max().item<double>(),
                tolerance * map.target_logits.abs().max().item<double>());
      at::Tensor sum = map.values.sum(1) + map.embedding;
      if (map.biases.defined()) sum = sum + map.biases.sum(1);
      EXPECT_LE(testing::relative_difference(sum, map.target_logits), tolerance) << bias;
    }
  }

  void expect_ratio_exact(const ModelConfig& config) const {
    const MambaLM lm = model(config);
    expect_exact(lm, Approximation::kRatio, 1e-12);
    expect_logits_add_up(lm, 1e-12);
    expect_exact(model(config, at::kFloat), Approximation::kRatio, 1e-5);
  }
};

TEST_P(Models, HalfwayThroughAnnealing) {
  for (const ActivationKind kind : {ActivationKind::kRelu, ActivationKind::kIdentity}) {
    SCOPED_TRACE(models::activation_name(kind));
    ModelConfig config = small_config(GetParam());
    config.activation = {kind, 0.3};
    expect_ratio_exact(config);
  }
}

/// Where φ is still SiLU by 70 %, the form that is exact for the identity is not: α is not ignored.
TEST_P(Models, HalfwayThroughAnnealingIdentityIsNotExact) {
  ModelConfig config = small_config(GetParam());
  config.activation = {ActivationKind::kIdentity, 0.3};
  model(config).trace(ids_, cu_seqlens_, [](const LayerTrace& trace) {
    const at::Tensor sum = contribution_sum(trace, Approximation::kActivation, BiasRule::kOwn);
    EXPECT_GT(approximation_error(trace, Approximation::kActivation, BiasRule::kOwn, sum)
                  .value(ErrorMeasure::kL2Mean),
              1e-3);
  });
}

TEST_P(Models, WithBiasesOfTheProjections) {
  ModelConfig config = small_config(GetParam());
  config.use_bias = true;
  expect_ratio_exact(config);
  config.activation = {ActivationKind::kIdentity, 1.0};
  expect_exact(model(config), Approximation::kActivation, 1e-12);
}

TEST_P(Models, WithoutABiasOfTheConvolution) {
  ModelConfig config = small_config(GetParam());
  config.use_conv_bias = false;
  expect_ratio_exact(config);
}

INSTANTIATE_TEST_SUITE_P(, Models, ::testing::Values(Architecture::kMamba1, Architecture::kMamba2),
                         [](const auto& tested) {
                           return std::string(models::architecture_name(tested.param));
                         });

}  // namespace
}  // namespace exactmamba::decomp
