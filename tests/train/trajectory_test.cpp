// Eight updates against the golden trajectories: loss, gradient norm, clipping, learning rate and every final
// parameter.
#include <gtest/gtest.h>

#include "core/safetensors.h"
#include "models/checkpoint.h"
#include "tests/support/files.h"
#include "tests/support/tensors.h"
#include "tests/train/thread_communicator.h"
#include "tests/train/tiny_training.h"
#include "train/training_checkpoint.h"

namespace exactmamba::train {
namespace {

struct Tolerance {
  double loss, parameters;
};
constexpr Tolerance kDoublePrecision = {1e-12, 1e-10};
constexpr Tolerance kSinglePrecision = {5e-6, 5e-5};  // golden/training, "Checked, and tolerances"

class Trajectory : public ::testing::TestWithParam<std::string> {
 protected:
  std::filesystem::path path(const std::string& file) const {
    return testing::golden("training/" + GetParam()) / file;
  }
  core::Json golden() const { return core::read_json(path("trajectory.json")); }

  /// The golden rows in the order of updates, micro-batches and rows.
  std::shared_ptr<data::Dataset> rows() const {
    const core::SafetensorsFile file(path("trajectory.safetensors"));
    const at::Tensor ids = file.tensor("input_ids").flatten(0, 2),
                     targets = file.tensor("targets").flatten(0, 2);
    std::vector<data::Row> list;
    for (int64_t i = 0; i < ids.size(0); ++i) list.push_back({values(ids[i]), values(targets[i]), {0}});
    return std::make_shared<testing::ListedRows>(std::move(list), 32);
  }

  TrainSetup setup(const std::filesystem::path& folder, const std::string& dtype) const {
    const core::Json hyper = golden()["hyperparameters"];
    TrainSetup setup;
    TrainOptions& o = setup.options;
    o.steps = hyper["steps"];
    o.batch_size = 2;
    o.grad_accumulation_steps = hyper["grad_accumulation_steps"];
    o.dtype = dtype;
    o.lr = hyper["lr"];
    o.min_lr_ratio = hyper["min_lr_ratio"];
    o.warmup_steps = hyper["warmup_steps"];
    o.beta1 = hyper["betas"][0];
    o.beta2 = hyper["betas"][1];
    o.eps = hyper["eps"];
    o.weight_decay = hyper["weight_decay"];
    o.max_grad_norm = hyper["max_grad_norm"];
    o.eval_every = 0;
    o.checkpoint_every = 1;
    o.keep_checkpoints = o.steps;
    o.log_every = 1;
    setup.folder = folder;
    setup.start = [file = path(""), type = training_dtype(o)] {
      models::LoadOptions load;
      load.dtype = type;
      return models::load_model(file, load);
    };
    setup.training = rows();
    setup.shuffle = false;
    return setup;
  }

  void expect_trajectory(const std::filesystem::path& run, const Tolerance& tolerance) const {
    const core::Json updates = golden()["updates"];
    const std::vector<core::Json> lines = core::read_metrics(run / "metrics.jsonl");
    ASSERT_EQ(lines.size(), updates.size());
    for (size_t i = 0; i < lines.size(); ++i) {
      EXPECT_NEAR(lines[i]["loss"], updates[i]["loss"], tolerance.loss) << "update " << i + 1;
      EXPECT_NEAR(lines[i]["grad_norm"], updates[i]["grad_norm"], tolerance.loss) << "update " << i + 1;
      EXPECT_NEAR(lines[i]["lr"], updates[i]["lr"], 1e-17) << "update " << i + 1;
      EXPECT_EQ(lines[i]["target_tokens"], updates[i]["valid_tokens"]) << "update " << i + 1;
    }
    expect_parameters(checkpoint_path(run, 1), "step1.", tolerance.parameters);
    expect_parameters(checkpoint_path(run, 8), "final.", tolerance.parameters);
  }

  void expect_parameters(const std::filesystem::path& checkpoint, const std::string& prefix,
                         double tolerance) const {
    const core::SafetensorsFile expected(path("trajectory.safetensors")),
        found(checkpoint / "model.safetensors");
    int compared = 0;
    for (const std::string& name : expected.names()) {
      if (!name.starts_with(prefix)) continue;
      const double difference =
          testing::absolute_difference(found.tensor(name.substr(prefix.size())), expected.tensor(name));
      EXPECT_LE(difference, tolerance) << name;
      ++compared;
    }
    EXPECT_GT(compared, 15);
  }

 private:
  static std::vector<int64_t> values(const at::Tensor& row) {
    const at::Tensor contiguous = row.contiguous();
    return {contiguous.const_data_ptr<int64_t>(), contiguous.const_data_ptr<int64_t>() + contiguous.numel()};
  }
};

TEST_P(Trajectory, InDoublePrecision) {
  const testing::TemporaryFolder folder;
  testing::train_tiny(setup(folder.path(), "float64"));
  expect_trajectory(folder.path(), kDoublePrecision);
}

TEST_P(Trajectory, InSinglePrecision) {
  const testing::TemporaryFolder folder;
  testing::train_tiny(setup(folder.path(), "float32"));
  expect_trajectory(folder.path(), kSinglePrecision);
}

TEST_P(Trajectory, TwoRanksWithOneMicroBatchEach) {
  const testing::TemporaryFolder folder;
  TrainSetup two_ranks = setup(folder.path(), "float64");
  two_ranks.options.grad_accumulation_steps = 1;
  std::array<std::string, 2> checksums;
  testing::ThreadGroup(2).run([&](core::Communicator& communicator) {
    Trainer trainer(two_ranks, communicator);
    trainer.run();
    checksums[communicator.rank()] = trainer.model().parameters().checksum();
  });
  EXPECT_EQ(checksums[0], checksums[1]);
  expect_trajectory(folder.path(), kDoublePrecision);
}

TEST_P(Trajectory, OnlyTheListedParametersDecay) {
  const models::MambaLM model = models::load_model(path(""));
  std::vector<std::string> decaying, others;
  for (const auto& spec : model.parameters().specs())
    (spec.decay == models::Decay::kYes ? decaying : others).push_back(spec.name);
  std::sort(decaying.begin(), decaying.end());
  std::sort(others.begin(), others.end());
  EXPECT_EQ(decaying, golden()["weight_decay"].get<std::vector<std::string>>());
  EXPECT_EQ(others, golden()["no_weight_decay"].get<std::vector<std::string>>());
}

INSTANTIATE_TEST_SUITE_P(Architectures, Trajectory, ::testing::Values("mamba1", "mamba2"),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace exactmamba::train
