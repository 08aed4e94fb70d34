// Every stored contribution, map and error of golden/decomposition, row `single`: traces come from the golden
// files.
#include <string>

#include <ATen/TensorOperators.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include "core/json.h"
#include "core/safetensors.h"
#include "decomp/aggregators.h"
#include "decomp/approximation_error.h"
#include "decomp/rollout.h"
#include "decomp/tile_producer.h"
#include "tests/decomp/traces.h"
#include "tests/support/tensors.h"

namespace exactmamba::decomp {
namespace {

using core::Json;
using core::SafetensorsFile;
using models::LayerTrace;

constexpr double kTolerance = 1e-12;  // golden/decomposition/README.md, for every value in fp64
constexpr int64_t kLayers = 3;

class GoldenLayers : public ::testing::TestWithParam<const char*> {
 protected:
  GoldenLayers()
      : folder_(std::string("decomposition/") + GetParam()),
        weights_(testing::golden(folder_ + "/model.safetensors")),
        values_(testing::golden(folder_ + "/trace.safetensors")),
        contributions_(testing::golden(folder_ + "/contributions.safetensors")),
        maps_(testing::golden(folder_ + "/maps.safetensors")),
        meta_(core::read_json(testing::golden(folder_ + "/meta.json"))) {}

  bool mamba1() const { return meta_.at("arch") == "mamba1"; }
  at::Tensor weight(const std::string& name) const { return weights_.tensor(name).to(at::kDouble); }

  LayerTrace trace(int64_t layer) const {
    const auto value = [&](const char* name) {
      return values_.tensor("single.layer" + std::to_string(layer) + "." + name).clone();
    };
    const auto mixer = [&](const char* name) {
      return weight("backbone.layers." + std::to_string(layer) + ".mixer." + name);
    };
    LayerTrace trace;
    trace.architecture = mamba1() ? models::Architecture::kMamba1 : models::Architecture::kMamba2;
    trace.layer = layer;
    trace.activation.kind =
        models::activation_from_name(meta_.at("conv_activation").get<std::string>(), "meta.json");
    for (const auto& [name, tensor] : {std::pair{"r", &trace.r},
                                       {"y", &trace.y},
                                       {"x", &trace.x},
                                       {"a", &trace.a},
                                       {"z", &trace.z},
                                       {"delta", &trace.delta},
                                       {"B", &trace.B},
                                       {"C", &trace.C}})
      *tensor = value(name);
    const int64_t D = trace.x.size(1);
    trace.cu_seqlens = at::zeros({2}, at::kInt);
    trace.cu_seqlens[1] = trace.length();
    trace.conv_weight = mixer("conv1d.weight").squeeze(1).narrow(0, 0, D);
    trace.conv_bias = mixer("conv1d.bias").narrow(0, 0, D);
    trace.A = -mixer("A_log").exp();
    trace.D = mixer("D");
    trace.out_weight = mixer("out_proj.weight");
    if (mamba1()) {
      trace.B = trace.B.unsqueeze(1);
      trace.C = trace.C.unsqueeze(1);
    } else {
      trace.rho = value("rho");
      trace.norm_weight = mixer("norm.weight");
    }
    return trace;
  }

  /// Stored under its own name, or as a multiple of another approximation (`same_as`).
  std::pair<double, std::string> stored_as(Approximation approximation) const {
    const std::string name = approximation_name(approximation);
    const Json& same = meta_.at("same_as");
    if (!same.contains(name)) return {1.0, name};
    return {same.at(name).at(0).get<double>(), same.at(name).at(1).get<std::string>()};
  }

  /// g_i = E_v ⊙ w_f · ρ_i
  at::Tensor directions() const {
    const std::string top = "single.layer" + std::to_string(kLayers - 1);
    const at::Tensor r_top = values_.tensor(top + ".r") + values_.tensor(top + ".y");
    const at::Tensor targets =
        at::tensor(meta_.at("rows").at("single").at("target_tokens").get<std::vector<int64_t>>());
    const at::Tensor rho = (r_top.pow(2).mean(1, true) + 1e-5).rsqrt();
    return weight("backbone.embeddings.weight").index_select(0, targets) * weight("backbone.norm_f.weight") *
           rho;
  }

  void expect_map(const at::Tensor& map, const std::string& name) const {
    EXPECT_LE(testing::relative_difference(map, maps_.tensor(name)), kTolerance) << name;
  }

  std::string folder_;
  SafetensorsFile weights_, values_, contributions_, maps_;
  Json meta_;
};

constexpr Approximation kMapped[] = {Approximation::kActivation, Approximation::kRatio};

TEST_P(GoldenLayers, Contributions) {
  int compared = 0;
  for (int64_t layer = 0; layer < kLayers; ++layer)
    for (const BiasRule bias : {BiasRule::kOwn, BiasRule::kSeparate})
      for (const Approximation approximation : testing::kApproximations) {
        const auto [factor, stored] = stored_as(approximation);
        const std::string name =
            "single.layer" + std::to_string(layer) + "." + bias_rule_name(bias) + "." + stored;
        if (!contributions_.contains(name)) continue;
        const LayerTrace layer_trace = trace(layer);
        FullContributions full(layer_trace, bias);
        produce_tiles(layer_trace, approximation, bias, {&full}, {5, 4});
        EXPECT_TRUE(full.pairs().equal(contributions_.tensor("single.pairs")));
        EXPECT_LE(testing::relative_difference(full.contributions(), factor * contributions_.tensor(name)),
                  kTolerance)
            << name;
        if (bias == BiasRule::kSeparate) {
          const at::Tensor expected = factor * contributions_.tensor(name + ".bias");
          EXPECT_LE(testing::relative_difference(full.bias(), expected), kTolerance) << name;
        }
        ++compared;
      }
  EXPECT_GE(compared, 11);
}

TEST_P(GoldenLayers, Errors) {
  for (int64_t layer = 0; layer < kLayers; ++layer) {
    const LayerTrace layer_trace = trace(layer);
    for (const BiasRule bias : {BiasRule::kOwn, BiasRule::kSeparate})
      for (const Approximation approximation : testing::kApproximations) {
        const at::Tensor sum = contribution_sum(layer_trace, approximation, bias);
        const ApproximationError error = approximation_error(layer_trace, approximation, bias, sum);
        const std::string key = std::string(approximation_name(approximation)) + "/" + bias_rule_name(bias);
        const Json& expected = meta_.at("rows").at("single").at("approximation_error").at(key).at(layer);
        for (const auto& [name, value] : expected.items()) {
          const double reference = value.get<double>(),
                       ours = error.value(error_measure_from_name(name, "meta.json"));
          const double tolerance =
              reference < 1e-12 ? 1e-12 : kTolerance * reference;  // an exact cell, or not
          EXPECT_NEAR(ours, reference, tolerance) << key << " " << name;
        }
      }
  }
}

TEST_P(GoldenLayers, Maps) {
  for (const Approximation approximation : kMapped) {
    const std::string stored = stored_as(approximation).second;
    Rollout rollout(17, BiasRule::kOwn, at::kDouble);
    at::Tensor total = at::zeros({17, 17}, at::kDouble);
    for (int64_t layer = 0; layer < kLayers; ++layer) {
      const LayerTrace layer_trace = trace(layer);
      NormMap l1(layer_trace, BiasRule::kOwn, Norm::kL1), l2(layer_trace, BiasRule::kOwn, Norm::kL2);
      NormMap linf(layer_trace, BiasRule::kOwn, Norm::kLinf);
      AltiMap alti(layer_trace, BiasRule::kOwn, false), residual(layer_trace, BiasRule::kOwn, true);
      LogitMap logit(layer_trace, BiasRule::kOwn, directions());
      produce_tiles(layer_trace, approximation, BiasRule::kOwn, {&l1, &l2, &linf, &alti, &residual, &logit},
                    {4, 7});
      const std::string base = "single.layer" + std::to_string(layer) + "." + stored + ".";
      expect_map(l1.map(), base + "l1");
      expect_map(l2.map(), base + "l2");
      expect_map(linf.map(), base + "linf");
      expect_map(alti.finish(), base + "alti");
      const at::Tensor stochastic = residual.finish(), mixed = rollout.mixed(logit.map());
      expect_map(stochastic, base + "alti_residual");
      expect_map(logit.map(), base + "alti_logit");
      expect_map(mixed, base + "alti_logit_mixed");
      expect_map(rollout.add(stochastic), base + "rollout");
      total += mixed;
    }
    expect_map(total, "single." + stored + ".alti_logit_total");
  }
}

TEST_P(GoldenLayers, AltiWithABiasColumn) {
  for (const Approximation approximation : kMapped)
    for (int64_t layer = 0; layer < kLayers; ++layer) {
      const LayerTrace layer_trace = trace(layer);
      AltiMap alti(layer_trace, BiasRule::kSeparate, false);
      produce_tiles(layer_trace, approximation, BiasRule::kSeparate, {&alti});
      expect_map(alti.finish(), "single.layer" + std::to_string(layer) + ".separate." +
                                    stored_as(approximation).second + ".alti");
    }
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenLayers,
                         ::testing::Values("mamba1-silu", "mamba1-relu", "mamba1-identity", "mamba2-g1-silu",
                                           "mamba2-g1-relu", "mamba2-g1-identity", "mamba2-g2-silu",
                                           "mamba2-g2-relu", "mamba2-g2-identity"),
                         [](const auto& instance) {
                           std::string name = instance.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace exactmamba::decomp
