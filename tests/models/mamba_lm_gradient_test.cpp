// Gradients by central differences at odd sizes, with the activation half-way through annealing, biases
// everywhere, a finite dt_limit that is met, packed rows and an untied head; and training steps that do not
// depend on the number of threads.
#include <cmath>

#include <ATen/Parallel.h>
#include <ATen/ops/max.h>
#include <gtest/gtest.h>

#include "tests/support/random_model.h"
#include "tests/support/tensors.h"

namespace exactmamba::models {
namespace {

using testing::random_batch;
using testing::random_model;

ModelConfig odd_config(Architecture architecture, ConvActivation activation) {
  ModelConfig config;
  config.architecture = architecture;
  config.vocab_size = 7;
  config.vocab_rows = 9;
  config.d_model = 5;
  config.n_layer = 1;
  config.d_state = 3;
  config.d_conv = 3;
  config.dt_rank = 2;
  config.headdim = 5;
  config.ngroups = 2;
  config.chunk_size = 4;
  config.dt_limit = {0.005, 0.05};
  config.tie_embeddings = false;
  config.use_bias = true;
  config.activation = activation;
  return config;
}

/// Of validation and, with a scale that leaves the gradients alone, of training.
double mean_loss(MambaLM& model, const data::Batch& batch, bool of_training) {
  const LossOutputs loss = of_training ? model.forward_backward(batch, 0.0) : model.loss(batch);
  return loss.loss_sum.item<double>() / static_cast<double>(batch.target_count);
}

/// d loss / d parameter, element by element. The step is short: ReLU has a kink that a long one would cross.
at::Tensor central_differences(MambaLM& model, const data::Batch& batch, const std::string& name,
                               bool of_training) {
  constexpr double kStep = 1e-5;  // about the cube root of the rounding error
  const at::Tensor values = model.parameters().parameter(name).view({-1});
  at::Tensor result = values.clone();
  for (int64_t i = 0; i < values.numel(); ++i) {
    const double kept = values[i].item<double>();
    values[i] = kept + kStep;
    const double above = mean_loss(model, batch, of_training);
    values[i] = kept - kStep;
    result[i] = (above - mean_loss(model, batch, of_training)) / (2 * kStep);
    values[i] = kept;
  }
  return result.view_as(model.parameters().parameter(name));
}

struct GradientCase {
  Architecture architecture;
  ConvActivation activation;
};
std::ostream& operator<<(std::ostream& out, const GradientCase& c) {
  return out << architecture_name(c.architecture) << " " << activation_name(c.activation.kind) << " "
             << c.activation.alpha;
}

class Gradients : public ::testing::TestWithParam<GradientCase> {
 protected:
  static void check(const Regularisation& regularisation, bool of_training);
};

void Gradients::check(const Regularisation& regularisation, bool of_training) {
  MambaLM model =
      random_model(odd_config(GetParam().architecture, GetParam().activation), at::kDouble, 0.3, 5);
  model.set_regularisation(regularisation);
  const data::Batch batch = random_batch(2, 11, 7, {0, 1, 5, 11, 20}, 6);
  model.forward_backward(batch, 1.0 / static_cast<double>(batch.target_count));
  for (const ParameterSpec& spec : model.parameters().specs()) {
    const at::Tensor gradient = model.parameters().gradient(spec.name);
    EXPECT_GT(gradient.abs().max().item<double>(), 0.0) << spec.name;
    EXPECT_LE(
        testing::relative_difference(gradient, central_differences(model, batch, spec.name, of_training)),
        1e-6)
        << spec.name;
  }
}

TEST_P(Gradients, EqualCentralDifferences) { check({}, false); }
TEST_P(Gradients, EqualCentralDifferencesWithOneMaskOfDropout) { check({0.2, 0.4, 9}, true); }

INSTANTIATE_TEST_SUITE_P(
    OddModels, Gradients,
    ::testing::Values(GradientCase{Architecture::kMamba1, {ActivationKind::kSilu, 1.0}},
                      GradientCase{Architecture::kMamba1, {ActivationKind::kRelu, 0.6}},
                      GradientCase{Architecture::kMamba1, {ActivationKind::kIdentity, 0.3}},
                      GradientCase{Architecture::kMamba2, {ActivationKind::kSilu, 1.0}},
                      GradientCase{Architecture::kMamba2, {ActivationKind::kRelu, 0.6}},
                      GradientCase{Architecture::kMamba2, {ActivationKind::kIdentity, 0.3}}));

class Threads : public ::testing::TestWithParam<Architecture> {
 protected:
  void TearDown() override { at::set_num_threads(threads_); }
  int threads_ = at::get_num_threads();
};

ModelConfig larger_config(Architecture architecture) {
  ModelConfig config = odd_config(architecture, {});
  config.vocab_size = config.vocab_rows = 131;
  config.d_model = 72;
  config.dt_rank = 5;
  config.d_state = 13;
  config.headdim = 18;
  config.chunk_size = 32;
  return config;
}

TEST_P(Threads, DoNotChangeATrainingStep) {
  const data::Batch batch = random_batch(3, 151, 131, {0, 70, 151, 302, 303}, 7);
  std::vector<at::Tensor> gradients;
  std::vector<double> losses;
  for (const int threads : {1, 2, 3}) {
    at::set_num_threads(threads);
    MambaLM model = random_model(larger_config(GetParam()), at::kFloat, 0.05, 8);
    model.set_regularisation({0.1, 0.3, 4});
    losses.push_back(
        model.forward_backward(batch, 1.0 / static_cast<double>(batch.target_count)).loss_sum.item<double>());
    for (const Decay group : {Decay::kYes, Decay::kNo})
      gradients.push_back(model.parameters().flat_gradient(group));
  }
  for (size_t i = 1; i < losses.size(); ++i) {
    EXPECT_EQ(losses[i], losses[0]);
    EXPECT_TRUE(gradients[2 * i].equal(gradients[0]));
    EXPECT_TRUE(gradients[2 * i + 1].equal(gradients[1]));
  }
}

/// Few tokens, so that the first block's gradients have room for the last one's activations.
TEST_P(Threads, FreshGradientsAreThoseAddedToNone) {
  const data::Batch batch = random_batch(1, 19, 131, {0, 7}, 7);
  std::vector<at::Tensor> gradients;
  ModelConfig config = larger_config(GetParam());
  config.n_layer = 3;
  for (const bool fresh : {false, true}) {
    MambaLM model = random_model(config, at::kFloat, 0.05, 8);
    model.set_keep_within(int64_t{1} << 30);
    for (const Decay group : {Decay::kYes, Decay::kNo})
      if (fresh) model.parameters().flat_gradient(group).fill_(std::nan(""));
    model.forward_backward(batch, 1.0 / static_cast<double>(batch.target_count), nullptr, fresh);
    for (const Decay group : {Decay::kYes, Decay::kNo})
      gradients.push_back(model.parameters().flat_gradient(group));
  }
  EXPECT_TRUE(gradients[2].equal(gradients[0]));
  EXPECT_TRUE(gradients[3].equal(gradients[1]));
}

TEST_P(Threads, WhatIsKeptDoesNotChangeATrainingStep) {
  const data::Batch batch = random_batch(3, 151, 131, {0, 70, 151, 302, 303}, 7);
  std::vector<at::Tensor> gradients;
  const auto train_with = [&](const auto& choose) {
    MambaLM model = random_model(larger_config(GetParam()), at::kFloat, 0.05, 8);
    model.set_regularisation({0.1, 0.3, 4});
    choose(model);
    model.forward_backward(batch, 1.0 / static_cast<double>(batch.target_count));
    gradients.push_back(model.parameters().flat_gradient(Decay::kYes));
    gradients.push_back(model.parameters().flat_gradient(Decay::kNo));
  };
  for (const Keep keep : {Keep::kAll, Keep::kMost, Keep::kDelta, Keep::kConvolved, Keep::kCostly,
                          Keep::kProjected, Keep::kMixerInput, Keep::kBlockInput})
    train_with([&](MambaLM& model) { model.set_keep(keep); });
  for (const int64_t bytes : {0, 1'000'000, 2'000'000, 3'000'000})
    train_with([&](MambaLM& model) { model.set_keep_within(bytes); });
  for (size_t i = 2; i < gradients.size(); ++i) EXPECT_TRUE(gradients[i].equal(gradients[i % 2]));
}

INSTANTIATE_TEST_SUITE_P(Architectures, Threads,
                         ::testing::Values(Architecture::kMamba1, Architecture::kMamba2),
                         [](const auto& tested) { return architecture_name(tested.param); });

}  // namespace
}  // namespace exactmamba::models
