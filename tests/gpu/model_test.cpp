// Whole models on the GPU: losses and gradients against double on the CPU, training runs against the CPU's,
// steps against the forward pass.
#include <cmath>
#include <filesystem>

#include <ATen/Context.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/max.h>
#include <ATen/ops/normal.h>
#include <fmt/format.h>

#include "core/distributed/communicator.h"
#include "models/mamba_lm.h"
#include "models/ops/cuda/launch.h"
#include "tests/gpu/models.h"
#include "tests/support/files.h"
#include "tests/support/random_model.h"
#include "tests/train/tiny_training.h"
#include "train/gradients.h"
#include "train/training_checkpoint.h"
#include "train/update.h"

namespace exactmamba::gpu_tests {
namespace {

using models::Architecture;
using models::MambaLM;

data::Batch packed_batch() {
  return testing::random_batch(3, 151, 61, {0, 7, 8, 100, 151, 302, 303, 400}, 5);
}

Results gradients_of(MambaLM& model, const data::Batch& batch) {
  Results results;
  const models::LossOutputs loss =
      model.forward_backward(batch, 1.0 / static_cast<double>(batch.target_count));
  results["loss"] = loss.per_token_loss;
  for (const models::ParameterSpec& spec : model.parameters().specs())
    results[spec.name] = model.parameters().gradient(spec.name).clone();
  return results;
}

TEST(GpuModel, LossesAndGradientsAreThoseOfTheCpu) {
  const data::Batch batch = packed_batch();
  for (const Case& c : kCases) {
    const MambaLM model = testing::random_model(config_of(c.architecture, c.activation), at::kFloat, 0.05, 3);
    MambaLM reference = model.to(at::kDouble);
    const Results expected = gradients_of(reference, batch);
    MambaLM single = model.to(on_gpu(at::kFloat)), half = model.to(on_gpu(at::kBFloat16));
    // Three layers, a chain of some hundred float operations each way.
    expect_close(expected, gradients_of(single, batch), 1e-4, "float32");
    // Some 70 roundings to bfloat16, there and back, independent of each other: √70 · 2^-9 / √3 = 0.01 of the
    // whole gradient. Single parameters whose gradient is a small difference of large terms may be further
    // off.
    const Results found = gradients_of(half, batch);
    EXPECT_LE(relative_distance(expected, found), 0.03);
    MambaLM again = model.to(on_gpu(at::kBFloat16));
    expect_identical(found, gradients_of(again, batch), "bfloat16 again");
  }
}

TEST(GpuModel, RegularisedGradientsAreThoseOfTheCpu) {
  data::Batch batch = packed_batch();
  batch.first_row = 12345;
  for (const Case& c : kCases) {
    const MambaLM model = testing::random_model(config_of(c.architecture, c.activation), at::kFloat, 0.05, 3);
    const auto gradients = [&](const models::Placement& placement) {
      MambaLM there = model.to(placement);
      there.set_regularisation({0.1, 0.3, 99});
      return gradients_of(there, batch);
    };
    const Results expected = gradients(at::kDouble), found = gradients(on_gpu(at::kBFloat16));
    expect_close(expected, gradients(on_gpu(at::kFloat)), 1e-4, "float32");
    EXPECT_LE(relative_distance(expected, found), 0.03);  // as without
    expect_identical(found, gradients(on_gpu(at::kBFloat16)), "bfloat16 again");
  }
}

TEST(GpuModel, WhatIsKeptDoesNotChangeTheGradients) {
  const data::Batch batch = packed_batch();
  for (const Case& c : kCases) {
    const MambaLM start = testing::random_model(config_of(c.architecture, c.activation), at::kFloat, 0.05, 3);
    const auto gradients_with = [&](const auto& choose) {
      MambaLM model = start.to(on_gpu(at::kBFloat16));
      model.set_regularisation({0.1, 0.3, 99});
      choose(model);
      return gradients_of(model, batch);
    };
    using models::Keep;
    const auto keeping = [&](Keep keep) { return gradients_with([&](MambaLM& m) { m.set_keep(keep); }); };
    const auto within = [&](int64_t bytes) {
      return gradients_with([&](MambaLM& model) { model.set_keep_within(bytes); });
    };
    const Results most = gradients_with([](MambaLM&) {}), less = keeping(Keep::kDelta);
    expect_identical(most, keeping(Keep::kAll), "all");
    for (const Keep keep :
         {Keep::kConvolved, Keep::kCostly, Keep::kProjected, Keep::kMixerInput, Keep::kBlockInput})
      expect_identical(less, keeping(keep), "each block alike");
    for (const int64_t bytes : {100'000, 1'000'000}) expect_identical(less, within(bytes), "within a limit");
    // The sums of Mamba-1's scan have another order where backward makes its output on the way: a few of its
    // elements are rounded to the other neighbour.
    for (const Results& found : {less, within(2'000'000)})
      if (c.architecture == Architecture::kMamba1)
        EXPECT_LE(relative_distance(most, found), 1e-3);
      else
        expect_identical(most, found, "with less");
  }
}

/// Rows and heads enough that scan and gate are one walk, whose scale the next norm applies, behind dropout.
/// With several groups or a bias of out_proj they are not.
TEST(GpuModel, AGateWithinTheWalkGivesTheGradientsOfTheCpu) {
  if (ops::device_attribute(cudaDevAttrComputeCapabilityMajor) != 9) GTEST_SKIP() << "the walk is for sm_90a";
  models::ModelConfig config = config_of(Architecture::kMamba2, models::ActivationKind::kIdentity);
  config.d_model = 256;
  const auto rows = static_cast<int32_t>(ops::multiprocessors() / 2);
  std::vector<int32_t> starts = {0, 7, 8};
  for (int32_t row = 1; row < rows; ++row) starts.push_back(70 * row);
  const data::Batch batch = testing::random_batch(rows, 70, 61, starts, 5);
  using models::Keep;
  for (const auto& [groups, biased] : {std::pair{1, false}, {1, true}, {2, false}, {2, true}}) {
    config.ngroups = groups;
    config.use_bias = biased;
    const bool one_walk = groups == 1 && !biased;
    const MambaLM start = testing::random_model(config, at::kFloat, 0.05, 3);
    const auto gradients = [&](const models::Placement& placement, Keep keep) {
      MambaLM model = start.to(placement);
      model.set_regularisation({0.1, 0.3, 99});
      model.set_keep(keep);
      return gradients_of(model, batch);
    };
    const auto keeping = [&](Keep keep) { return gradients(on_gpu(at::kBFloat16), keep); };
    const Results expected = gradients(at::kDouble, Keep::kAll), most = keeping(Keep::kMost),
                  two_passes = keeping(Keep::kAll);
    EXPECT_LE(relative_distance(expected, most), 0.03);  // as with smaller ones
    EXPECT_LE(relative_distance(expected, two_passes), 0.03);
    EXPECT_NE(one_walk, at::equal(most.at("loss"), two_passes.at("loss")));
    for (const Keep keep : {Keep::kMost, Keep::kConvolved, Keep::kCostly, Keep::kProjected, Keep::kMixerInput,
                            Keep::kBlockInput})
      expect_identical(most, keeping(keep), "each block alike");
    MambaLM plain = start.to(on_gpu(at::kBFloat16));
    plain.set_keep(Keep::kMost);
    const at::Tensor apart = plain.loss(batch).per_token_loss - gradients_of(plain, batch).at("loss");
    EXPECT_LE(apart.abs().max().item<double>(), 1e-5);  // the same logits
  }
}

/// Few tokens, so that the first blocks' gradients have room for the last one's activations.
TEST(GpuModel, FreshGradientsAreThoseAddedToNone) {
  const data::Batch batch = testing::random_batch(1, 40, 61, {0, 7}, 5);
  for (const Case& c : kCases) {
    const MambaLM start = testing::random_model(config_of(c.architecture, c.activation), at::kFloat, 0.05, 3);
    MambaLM model = start.to(on_gpu(at::kBFloat16)), fresh = start.to(on_gpu(at::kBFloat16));
    model.forward_backward(batch, 0.025);
    for (const models::Decay group : {models::Decay::kYes, models::Decay::kNo})
      fresh.parameters().flat_gradient(group).fill_(std::nan(""));
    fresh.forward_backward(batch, 0.025, nullptr, true);
    for (const models::Decay group : {models::Decay::kYes, models::Decay::kNo})
      EXPECT_TRUE(fresh.parameters().flat_gradient(group).equal(model.parameters().flat_gradient(group)));
  }
}

TEST(GpuModel, TrainsAsTheCpuDoes) {
  const data::Batch batch = packed_batch();
  const auto communicator = core::single_process_communicator();
  for (const Case& c : kCases) {
    const MambaLM start = testing::random_model(config_of(c.architecture, c.activation), at::kFloat, 0.05, 3);
    MambaLM reference = start.to(at::kFloat), single = start.to(on_gpu(at::kFloat)),
            half = start.to(on_gpu(at::kBFloat16));
    train::AdamW of_reference(reference.parameters(), {}), of_single(single.parameters(), {}),
        of_half(half.parameters(), {});
    for (int step = 0; step < 30; ++step) {
      const double expected =
          train::run_update(reference, of_reference, {batch}, 1e-3, 1.0, *communicator).loss;
      EXPECT_NEAR(train::run_update(single, of_single, {batch}, 1e-3, 1.0, *communicator).loss, expected,
                  1e-3 * expected);
      EXPECT_NEAR(train::run_update(half, of_half, {batch}, 1e-3, 1.0, *communicator).loss, expected,
                  2e-2 * expected);
    }
  }
}

/// Losses of `steps` updates with one batch.
std::vector<double> losses_of(MambaLM model, const data::Batch& batch, train::LossScale* scale) {
  const auto communicator = core::single_process_communicator();
  train::AdamW optimizer(model.parameters(), {});
  std::vector<double> losses;
  for (int step = 0; step < 30; ++step)
    losses.push_back(train::run_update(model, optimizer, {batch}, 1e-3, 1.0, *communicator, scale).loss);
  return losses;
}

TEST(GpuModel, TrainsInFloat16WithAScaledLoss) {
  const data::Batch batch = packed_batch();
  for (const Case& c : kCases) {
    const MambaLM start = testing::random_model(config_of(c.architecture, c.activation), at::kFloat, 0.05, 3);
    const std::vector<double> expected = losses_of(start.to(at::kFloat), batch, nullptr);
    train::LossScale scale, again;
    const std::vector<double> found = losses_of(start.to(on_gpu(at::kHalf)), batch, &scale);
    EXPECT_EQ(scale.finite_updates, 30);
    for (size_t step = 0; step < expected.size(); ++step)
      EXPECT_NEAR(found[step], expected[step], 5e-3 * expected[step]) << step;
    EXPECT_EQ(found, losses_of(start.to(on_gpu(at::kHalf)), batch, &again));
  }
}

TEST(GpuModel, AnOverflowOfTheScaledLossLeavesTheWeightsAlone) {
  const data::Batch batch = packed_batch();
  const auto communicator = core::single_process_communicator();
  MambaLM model =
      testing::random_model(config_of(kCases[0].architecture, kCases[0].activation), at::kFloat, 0.05, 3)
          .to(on_gpu(at::kHalf));
  train::AdamW optimizer(model.parameters(), {});
  const std::string before = model.parameters().checksum();
  train::LossScale scale{0x1p30, 5};  // float16 ends at 65504
  const auto update = [&] { return run_update(model, optimizer, {batch}, 1e-3, 1.0, *communicator, &scale); };
  EXPECT_EQ(update().outcome, train::Outcome::kOverflow);
  EXPECT_EQ(scale.value, 0x1p29);
  EXPECT_EQ(scale.finite_updates, 0);
  EXPECT_EQ(optimizer.steps(), 0);
  EXPECT_EQ(model.parameters().checksum(), before);
  while (update().outcome == train::Outcome::kOverflow) EXPECT_EQ(model.parameters().checksum(), before);
  EXPECT_EQ(optimizer.steps(), 1);
  EXPECT_NE(model.parameters().checksum(), before);
}

TEST(GpuTrainer, ContinuesInFloat16BitByBit) {
  const testing::TemporaryFolder folder;
  const auto setup_in = [&folder](const std::string& name) {
    train::TrainSetup setup = testing::tiny_setup(folder / name);
    setup.device = {at::kCUDA, 0};
    setup.options.compute_dtype = "float16";
    setup.options.dropout = 0.2;
    setup.options.label_smoothing = 0.1;
    setup.start = [] {
      models::ModelConfig config = config_of(kCases[0].architecture, kCases[0].activation);
      config.vocab_size = testing::kTinyVocabulary;
      return testing::random_model(config, at::kFloat, 0.05, 3);
    };
    return setup;
  };
  const auto end = [](const train::TrainSetup& setup) {
    return train::load_train_state(train::checkpoint_path(setup.folder, 24));
  };
  const std::string expected = testing::train_tiny(setup_in("straight"));
  EXPECT_EQ(testing::train_tiny(setup_in("lost")), expected);
  std::filesystem::remove_all(train::checkpoint_path(folder / "lost", 24));  // back to update 20
  EXPECT_EQ(testing::train_tiny(setup_in("lost")), expected);
  const train::TrainState straight = end(setup_in("straight")), lost = end(setup_in("lost"));
  ASSERT_TRUE(straight.loss_scale && lost.loss_scale);
  EXPECT_EQ(lost.loss_scale->value, straight.loss_scale->value);
  EXPECT_EQ(lost.loss_scale->finite_updates, straight.loss_scale->finite_updates);
}

TEST(GpuModel, TheNormOfGradientsIsSummedInDouble) {
  const models::ModelConfig config = config_of(kCases[0].architecture, kCases[0].activation);
  MambaLM reference = testing::random_model(config, at::kFloat, 0.05, 3),
          model = reference.to(on_gpu(at::kBFloat16));
  for (const double size : {1e-25, 1.0, 1e25}) {  // the squares of the first and the last are no floats
    for (const models::ParameterSpec& spec : reference.parameters().specs()) {
      const at::Tensor gradient = reference.parameters().gradient(spec.name);
      gradient.normal_(0, size);
      model.parameters().gradient(spec.name).copy_(gradient);
    }
    const auto expected = train::gradient_norm(reference.parameters()).item<double>();
    EXPECT_NEAR(train::gradient_norm(model.parameters()).item<double>(), expected, 1e-12 * expected);
  }
}

TEST(GpuTrainer, SaysWhichBatchNoGpuHolds) {
  const testing::TemporaryFolder folder;
  train::TrainSetup setup = testing::tiny_setup(folder.path());
  setup.device = {at::kCUDA, 0};
  setup.validation = nullptr;
  setup.options.batch_size = 8192;
  setup.start = [] {  // 256 GiB for the embedded tokens alone
    models::ModelConfig config = testing::tiny_config();
    config.n_layer = 1;
    config.d_model = 4096;
    return testing::tiny_model(config);
  };
  setup.training = std::make_shared<testing::ListedRows>(
      std::vector<data::Row>(8192, testing::echo_row(0, 2048, testing::kTinyVocabulary)),
      testing::kTinyVocabulary);
  const std::string message = testing::error_of<core::InputError>([&] { testing::train_tiny(setup); });
  EXPECT_CONTAINS(message, "8192 rows × 2048 tokens");
  EXPECT_CONTAINS(message, "GiB of cuda:0 in use");
}

TEST(GpuModel, StepsGiveTheLogitsOfTheForwardPass) {
  const at::Tensor ids = packed_batch().input_ids;
  for (const Case& c : kCases) {
    const MambaLM model = testing::random_model(config_of(c.architecture, c.activation), at::kFloat, 0.05, 3)
                              .to(on_gpu(at::kFloat));
    const at::Tensor expected = model.logits(ids, {}).cpu();
    models::State state = model.initial_state(ids.size(0));
    at::Tensor logits = model.prefill(ids.narrow(1, 0, 100).contiguous(), state);
    for (int64_t t = 100; t < ids.size(1); ++t) {
      expect_close({{"logits", expected.select(1, t - 1)}}, {{"logits", logits}}, 1e-4,
                   fmt::format("token {}", t));
      logits = model.step(ids.select(1, t).contiguous(), state);
    }
  }
}

}  // namespace
}  // namespace exactmamba::gpu_tests
