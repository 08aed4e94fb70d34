// What the ranks of a training must agree on before it starts.
#include <array>
#include <filesystem>
#include <functional>

#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/support/files.h"
#include "tests/train/thread_communicator.h"
#include "tests/train/tiny_training.h"
#include "train/training_checkpoint.h"

namespace exactmamba::train {
namespace {

namespace fs = std::filesystem;
using testing::TemporaryFolder;
using testing::tiny_setup;

constexpr int kRanks = 2;
using Messages = std::array<std::string, kRanks>;

/// What stops a training on each rank.
Messages refusals(const std::array<TrainSetup, kRanks>& setups) {
  Messages messages;
  testing::ThreadGroup(kRanks).run([&](core::Communicator& communicator) {
    const int rank = communicator.rank();
    messages[rank] = testing::error_of<core::InputError>([&] { Trainer(setups[rank], communicator); });
  });
  return messages;
}

TEST(Ranks, OfAnotherNumberAreRefused) {
  const TemporaryFolder folder;
  testing::train_tiny(tiny_setup(folder.path()));
  for (const std::string& message : refusals({tiny_setup(folder.path()), tiny_setup(folder.path())}))
    EXPECT_CONTAINS(message, "made by 1 processes with 6 rows in an update, and 2 would make it 12");
}

TEST(Ranks, ThatSeeOtherCheckpointsAreRefused) {
  const TemporaryFolder folder;
  testing::train_tiny(tiny_setup(folder / "trained"));
  const Messages messages = refusals({tiny_setup(folder / "trained"), tiny_setup(folder / "elsewhere")});
  EXPECT_CONTAINS(messages[0], "the processes see different checkpoints there, this one that of update 24");
  EXPECT_CONTAINS(messages[1], "the processes see different checkpoints there, this one none");
}

TEST(Ranks, StartWithTheWeightsOfTheFirst) {
  const TemporaryFolder folder;
  std::array<std::string, kRanks> checksums;
  testing::ThreadGroup(kRanks).run([&](core::Communicator& communicator) {
    const int rank = communicator.rank();
    TrainSetup setup = tiny_setup(folder.path());
    setup.start = [rank] {
      models::MambaLM model(testing::tiny_config(), at::kFloat);
      models::initialise(model, 17 + static_cast<uint64_t>(rank));
      return model;
    };
    checksums[rank] = Trainer(setup, communicator).model().parameters().checksum();
  });
  const std::string first =
      testing::tiny_model(testing::tiny_config()).parameters().checksum();  // of seed 17
  EXPECT_EQ(checksums[0], first);
  EXPECT_EQ(checksums[1], first);
}

/// Trains on all ranks; the checksums of their final weights.
Messages train_on_ranks(const TrainSetup& setup) {
  Messages checksums;
  testing::ThreadGroup(kRanks).run([&](core::Communicator& communicator) {
    at::set_num_threads(1);
    Trainer trainer(setup, communicator);
    trainer.run();
    checksums[communicator.rank()] = trainer.model().parameters().checksum();
  });
  return checksums;
}

TEST(Ranks, RemoveADamagedCheckpointAndContinueFromTheOneBeforeBitByBit) {
  const TemporaryFolder folder;
  const TrainSetup setup = tiny_setup(folder.path());
  const Messages expected = train_on_ranks(setup);
  EXPECT_EQ(expected[0], expected[1]);
  const fs::path damaged = checkpoint_path(folder.path(), 24) / "optimizer.safetensors";
  for (const auto& damage : {std::function([](const fs::path& file) { fs::remove(file); }),
                             std::function([](const fs::path& file) { fs::resize_file(file, 100); })}) {
    damage(damaged);
    ::testing::internal::CaptureStderr();
    EXPECT_EQ(train_on_ranks(setup), expected);
    const std::string messages = ::testing::internal::GetCapturedStderr(),
                      warning = "warning: " + damaged.string();
    EXPECT_CONTAINS(messages, warning);
    EXPECT_EQ(messages.find(warning), messages.rfind(warning));  // said once
  }
}

TEST(Ranks, WithDamagedCheckpointsOnlyAreRefused) {
  const TemporaryFolder folder;
  train_on_ranks(tiny_setup(folder.path()));
  for (const auto& entry : fs::directory_iterator(folder / "checkpoints"))
    fs::remove(entry.path() / "trainer.json");
  for (const std::string& message : refusals({tiny_setup(folder.path()), tiny_setup(folder.path())}))
    EXPECT_CONTAINS(message, "delete " + folder.path().string() + " to train again");
}

}  // namespace
}  // namespace exactmamba::train
