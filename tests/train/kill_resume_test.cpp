// kill -9 at random moments of a training, writing of checkpoints included: run again, it ends with the
// weights and moments of the undisturbed run, bit by bit.
#include <chrono>
#include <sys/wait.h>
#include <unistd.h>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "core/files.h"
#include "core/log.h"
#include "tests/support/files.h"
#include "tests/support/kill.h"
#include "tests/train/tiny_training.h"
#include "train/training_checkpoint.h"

namespace exactmamba::train {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
constexpr int kKills = 20;
constexpr int64_t kSteps = 12;

/// A checkpoint every 1 to 3 updates, so that most moments are close to one or inside one.
TrainSetup setup(const fs::path& folder, int64_t checkpoint_every) {
  TrainSetup setup = testing::tiny_setup(folder);
  setup.options.steps = kSteps;
  setup.options.checkpoint_every = checkpoint_every;
  setup.options.eval_every = 5;
  setup.options.annealing = "linear";
  models::ModelConfig config = testing::tiny_config();
  config.activation.kind = models::ActivationKind::kRelu;
  setup.start = [config] { return testing::tiny_model(config); };
  return setup;
}

/// Starts the training in a child process; on one thread, for a forked process has no thread pool.
pid_t start(const TrainSetup& training) {
  const pid_t child = ::fork();
  if (child != 0) return child;
  int status = 1;
  try {
    core::set_verbosity(core::Verbosity::kQuiet);
    testing::train_tiny(training);
    status = 0;
  } catch (const std::exception& error) {
    core::log_warning(error.what());
  }
  ::_exit(status);
}

void train_to_the_end(const TrainSetup& training) {
  int status = 0;
  ::waitpid(start(training), &status, 0);
  ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

std::string weights_and_moments(const fs::path& run) {
  const fs::path last = checkpoint_path(run, kSteps);
  return core::read_file(last / "model.safetensors") + core::read_file(last / "optimizer.safetensors");
}

TEST(KillAndResume, EndsWithTheWeightsOfTheUndisturbedRun) {
  const testing::TemporaryFolder folder;
  const auto begin = Clock::now();
  train_to_the_end(setup(folder / "undisturbed", 2));
  double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  const std::string expected = weights_and_moments(folder / "undisturbed");

  core::RandomStream random(29, "moments of kill");
  int killed = 0;
  for (int round = 0; killed < kKills; ++round) {
    ASSERT_LT(round, 4 * kKills) << "the training ends before it can be killed";
    const TrainSetup training = setup(folder / fmt::format("run-{}", round), 1 + round % 3);
    const double moment = random.uniform(0.0, seconds);
    if (testing::killed_after(start(training), std::chrono::duration<double>(moment)))
      ++killed;
    else
      seconds = moment;  // it takes no longer, however long the first run was held up
    train_to_the_end(training);
    ASSERT_EQ(weights_and_moments(training.folder), expected) << "round " << round;
    fs::remove_all(training.folder);
  }
}

TEST(KillAndResume, SurvivesOneKillAfterAnother) {
  const testing::TemporaryFolder folder;
  const TrainSetup training = setup(folder / "run", 1);
  train_to_the_end(setup(folder / "undisturbed", 3));
  for (int i = 0; i < 8; ++i) testing::killed_after(start(training), std::chrono::milliseconds(20 + 15 * i));
  train_to_the_end(training);
  EXPECT_EQ(weights_and_moments(folder / "run"), weights_and_moments(folder / "undisturbed"));
}

}  // namespace
}  // namespace exactmamba::train
