// Dropout and label smoothing of whole trainings: the mask belongs to the row, whoever computes it.
#include <gtest/gtest.h>

#include "models/checkpoint.h"
#include "tests/support/files.h"
#include "tests/support/tensors.h"
#include "tests/train/thread_communicator.h"
#include "tests/train/tiny_training.h"
#include "train/training_checkpoint.h"

namespace exactmamba::train {
namespace {

namespace fs = std::filesystem;
using testing::TemporaryFolder;

/// Six rows an update, in double; 36 rows are whole updates of 3 and of 6 rows, so that epochs are alike.
TrainSetup regularised(const fs::path& folder, int64_t batch_size, int64_t grad_accumulation_steps) {
  TrainSetup setup = testing::tiny_setup(folder);
  setup.options.batch_size = batch_size;
  setup.options.grad_accumulation_steps = grad_accumulation_steps;
  setup.options.dtype = "float64";
  setup.options.dropout = 0.3;
  setup.options.label_smoothing = 0.1;
  setup.start = [] { return testing::tiny_model(testing::tiny_config(), at::kDouble); };
  setup.training = testing::echo_data(36);
  return setup;
}

std::map<std::string, at::Tensor> final_weights(const fs::path& folder) {
  models::LoadOptions load;
  load.dtype = at::kDouble;
  const models::MambaLM model = models::load_model(checkpoint_path(folder, 24), load);
  std::map<std::string, at::Tensor> weights;
  for (const models::ParameterSpec& spec : model.parameters().specs())
    weights[spec.name] = model.parameters().parameter(spec.name).clone();
  return weights;
}

double difference(const fs::path& one, const fs::path& other) {
  const auto of_one = final_weights(one), of_other = final_weights(other);
  double largest = 0;
  for (const auto& [name, weight] : of_one)
    largest = std::max(largest, testing::absolute_difference(weight, of_other.at(name)));
  return largest;
}

TEST(Regularisation, IsTheSameForMicroBatchesAndRanksOfAnyNumber) {
  const TemporaryFolder folder;
  testing::train_tiny(regularised(folder / "micro-batches", 3, 2));
  testing::train_tiny(regularised(folder / "one batch", 6, 1));
  testing::ThreadGroup(2).run([&](core::Communicator& communicator) {
    at::set_num_threads(1);
    Trainer(regularised(folder / "ranks", 3, 1), communicator).run();
  });
  EXPECT_LE(difference(folder / "micro-batches", folder / "one batch"), 1e-11);
  EXPECT_LE(difference(folder / "micro-batches", folder / "ranks"), 1e-11);
}

TEST(Regularisation, ChangesTrainingButNotValidation) {
  const TemporaryFolder folder;
  const auto first_losses = [&](double dropout, double label_smoothing) {
    TrainSetup setup = regularised(folder / std::to_string(dropout + label_smoothing), 3, 2);
    setup.options.dropout = dropout;
    setup.options.label_smoothing = label_smoothing;
    testing::train_tiny(setup);
    double training = 0, validation = 0;
    for (const core::Json& line : core::read_metrics(setup.folder / "metrics.jsonl")) {
      if (line["kind"] == "train" && line["step"] == 1) training = line["loss"];
      if (line["kind"] == "evaluation" && line["step"] == 0) validation = line["validation_loss"];
    }
    return std::pair(training, validation);
  };
  const auto plain = first_losses(0, 0);
  for (const auto& [training, validation] : {first_losses(0.5, 0), first_losses(0, 0.25)}) {
    EXPECT_NE(training, plain.first);
    EXPECT_EQ(validation, plain.second);
  }
}

}  // namespace
}  // namespace exactmamba::train
