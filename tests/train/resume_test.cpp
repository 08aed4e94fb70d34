// A training that is stopped, refused a disk, or started with another recipe: what it leaves, and that it
// continues bit by bit.
#include <csignal>
#include <fstream>
#include <sys/resource.h>
#include <unistd.h>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "core/checksums.h"
#include "core/error.h"
#include "core/files.h"
#include "core/stop_signal.h"
#include "models/checkpoint.h"
#include "tests/support/files.h"
#include "tests/train/tiny_training.h"
#include "train/training_checkpoint.h"
#include "train/validation.h"

namespace exactmamba::train {
namespace {

namespace fs = std::filesystem;
using testing::error_of;
using testing::TemporaryFolder;
using testing::tiny_setup;
using testing::train_tiny;

class StopAfter {
 public:
  ~StopAfter() { core::clear_stop_request(); }

 private:
  core::StopHandler handler_;
};

/// Trains `setup`, but is sent `signal` while the evaluation after update `step` runs.
std::string stopped_at(TrainSetup setup, int64_t step, int signal) {
  const StopAfter handler;
  setup.evaluation = [step, signal](const models::MambaLM&, int64_t now) {
    if (now == step) std::raise(signal);
    return core::Json::object();
  };
  return error_of<core::Interrupted>([&] { train_tiny(setup); });
}

std::vector<int64_t> steps_of(const fs::path& run, const std::string& kind) {
  std::vector<int64_t> steps;
  for (const core::Json& line : core::read_metrics(run / "metrics.jsonl"))
    if (line["kind"] == kind) steps.push_back(line["step"]);
  return steps;
}

using Case = std::tuple<models::Architecture, std::string /* annealing */>;
class Resume : public ::testing::TestWithParam<Case> {
 protected:
  static TrainSetup setup(const fs::path& folder) {
    TrainSetup setup = tiny_setup(folder);
    models::ModelConfig config = testing::tiny_config(std::get<0>(GetParam()));
    setup.options.annealing = std::get<1>(GetParam());
    setup.options.dropout = 0.2;
    setup.options.label_smoothing = 0.1;
    if (setup.options.annealing != "none") config.activation.kind = models::ActivationKind::kIdentity;
    setup.start = [config] { return testing::tiny_model(config); };
    return setup;
  }
};

TEST_P(Resume, GivesTheWeightsOfTheUndisturbedRunBitByBit) {
  const TemporaryFolder folder;
  const std::string expected = train_tiny(setup(folder / "straight"));
  for (int64_t step : {6, 18}) EXPECT_CONTAINS(stopped_at(setup(folder / "run"), step, SIGTERM), "run again");
  EXPECT_EQ(train_tiny(setup(folder / "run")), expected);
  for (const char* kind : {"train", "evaluation"})
    EXPECT_EQ(steps_of(folder / "run", kind), steps_of(folder / "straight", kind));
}

TEST_P(Resume, FromTheLastCheckpointWhenLaterWorkWasLost) {
  const TemporaryFolder folder;
  const std::string expected = train_tiny(setup(folder / "run"));
  fs::remove_all(checkpoint_path(folder / "run", 24));  // back to update 20, with metrics up to 24
  EXPECT_EQ(train_tiny(setup(folder / "run")), expected);
  EXPECT_EQ(steps_of(folder / "run", "train").size(), 24u);
}

INSTANTIATE_TEST_SUITE_P(Models, Resume,
                         ::testing::Combine(::testing::Values(models::Architecture::kMamba1,
                                                              models::Architecture::kMamba2),
                                            ::testing::Values("none", "linear")));

/// At the start, at one that is the best, and at the end.
TEST(Stop, AnEvaluationThatItCutsShortIsDoneWhenTheTrainingContinues) {
  const TemporaryFolder folder;
  const auto setup_of = [&](const char* run, int64_t stop_at) {
    TrainSetup setup = tiny_setup(folder / run);
    setup.options.best_measure = "score";
    setup.evaluation = [stop_at](const models::MambaLM&, int64_t step) {
      if (step == stop_at) throw core::Interrupted(SIGINT, "stopped");
      return core::Json{{"score", step == 6 ? 2 : 1}};
    };
    return setup;
  };
  const std::string expected = train_tiny(setup_of("straight", -1));
  for (const int64_t step : {0, 6, 24}) {
    const auto stopped = error_of<core::Interrupted>([&] { train_tiny(setup_of("run", step)); });
    EXPECT_CONTAINS(stopped, fmt::format("stopped after update {} of 24", step));
    EXPECT_EQ(last_checkpoint(folder / "run"), checkpoint_path(folder / "run", step));
    EXPECT_TRUE(load_train_state(*last_checkpoint(folder / "run")).evaluation_pending);
  }
  // As if it had been killed when the evaluation was in the log, but no checkpoint knew of it.
  std::ofstream(folder / "run/metrics.jsonl", std::ios::app) << R"({"kind": "evaluation", "step": 24})"
                                                             << "\n";
  EXPECT_EQ(train_tiny(setup_of("run", -1)), expected);
  for (const char* kind : {"train", "evaluation"})
    EXPECT_EQ(steps_of(folder / "run", kind), steps_of(folder / "straight", kind));
  for (const int64_t step : {6, 20, 24}) {
    const TrainState state = load_train_state(checkpoint_path(folder / "run", step));
    EXPECT_FALSE(state.evaluation_pending);
    EXPECT_EQ(state.best->step, 6);
  }
}

TEST(Stop, TheLastWeightsAreKeptBeforeTheyAreEvaluated) {
  const TemporaryFolder folder;
  TrainSetup setup = tiny_setup(folder.path());
  setup.options.checkpoint_every = 0;
  int evaluations = 0;
  setup.evaluation = [&](const models::MambaLM&, int64_t step) {
    if (step != 24) return core::Json::object();
    ++evaluations;
    EXPECT_EQ(last_checkpoint(folder.path()), checkpoint_path(folder.path(), 24));
    EXPECT_TRUE(load_train_state(checkpoint_path(folder.path(), 24)).evaluation_pending);
    if (evaluations == 1) throw std::runtime_error("killed");
    return core::Json::object();
  };
  EXPECT_THROW(train_tiny(setup), std::runtime_error);
  train_tiny(setup);
  EXPECT_EQ(evaluations, 2);
  EXPECT_FALSE(load_train_state(checkpoint_path(folder.path(), 24)).evaluation_pending);
  EXPECT_EQ(steps_of(folder.path(), "train").size(), 24u);
}

TEST(Stop, EndsAValidation) {
  const TemporaryFolder folder;
  const TrainSetup setup = tiny_setup(folder.path());
  const StopAfter handler;
  std::raise(SIGTERM);
  const auto alone = core::single_process_communicator();
  EXPECT_CONTAINS(error_of<core::Interrupted>(
                      [&] { validate(setup.start(), data::BatchesInOrder(*setup.validation, 2), *alone); }),
                  "stopped while validating");
}

TEST(Stop, CommitsACheckpointAfterTheUpdateAndTellsTheSignal) {
  const StopAfter handler;
  for (int signal : {SIGINT, SIGTERM}) {
    const TemporaryFolder folder;
    TrainSetup setup = tiny_setup(folder.path());
    setup.options.checkpoint_every = 0;
    setup.evaluation = [signal](const models::MambaLM&, int64_t step) {
      if (step == 18) std::raise(signal);
      return core::Json{
          {"validation_loss", -1.0}};  // the first is the best: nothing else asks for a checkpoint
    };
    try {
      train_tiny(setup);
      ADD_FAILURE() << "not stopped";
    } catch (const core::Interrupted& stop) {
      EXPECT_EQ(stop.exit_code(), 128 + signal);
    }
    core::clear_stop_request();
    EXPECT_EQ(last_checkpoint(folder.path()), checkpoint_path(folder.path(), 18));
    EXPECT_EQ(load_train_state(*last_checkpoint(folder.path())).step, 18);
  }
}

TEST(Checkpoint, OfOtherOptionsIsRefused) {
  const TemporaryFolder folder;
  train_tiny(tiny_setup(folder.path()));
  TrainSetup other = tiny_setup(folder.path());
  other.options_hash = "other";
  const std::string message = error_of<core::InputError>([&] { train_tiny(other); });
  EXPECT_CONTAINS(message, "step-00000024");
  EXPECT_CONTAINS(message, "hash tiny, now other");
}

TEST(Checkpoint, OfANewerFormatIsRefusedByName) {
  const TemporaryFolder folder;
  train_tiny(tiny_setup(folder.path()));
  const fs::path file = *last_checkpoint(folder.path()) / "trainer.json";
  core::Json json = core::read_json(file);
  json["format_version"] = 99;
  core::write_json(file, json);
  fs::remove(file.parent_path() / "checksums.json");
  core::write_checksums(file.parent_path());
  const std::string message = error_of<core::InputError>([&] { train_tiny(tiny_setup(folder.path())); });
  EXPECT_CONTAINS(message, "trainer.json");
  EXPECT_CONTAINS(message, "99");
}

TEST(Checkpoint, WithADamagedStateIsRefused) {
  const auto read = [](const core::Json& json) {
    return error_of<core::InputError>([&] { train_state_from_json(json, "trainer.json"); });
  };
  const core::Json good = to_json(TrainState());
  core::Json missing = good, wrong = good;
  missing.erase("step");
  wrong["loader_position"] = "ten";
  EXPECT_CONTAINS(read(missing), "'step' is missing");
  EXPECT_CONTAINS(read(wrong), "'loader_position'");
  EXPECT_CONTAINS(read(core::Json::array()), "trainer.json");
}

TEST(Checkpoint, TheStateSurvivesAsItIs) {
  TrainState state;
  state.step = 7;
  state.loader_position = 14;
  state.optimizer_steps = 5;
  state.bad_updates = 2;
  state.elapsed_seconds = 0.1;
  state.best = {6, 1.0 / 3.0};
  state.evaluations_since_best = 3;
  state.evaluation_pending = true;
  state.loss_scale = {1024, 77};
  state.options_hash = "abc";
  const core::Json json = to_json(state);
  const TrainState again =
      train_state_from_json(core::parse_json(json.dump(), "trainer.json"), "trainer.json");
  EXPECT_EQ(to_json(again), json);
  EXPECT_EQ(again.best->value, 1.0 / 3.0);
  EXPECT_EQ(again.evaluations_since_best, 3);
  EXPECT_TRUE(again.evaluation_pending);
  EXPECT_EQ(again.loss_scale->value, 1024);
  EXPECT_EQ(again.loss_scale->finite_updates, 77);
}

TEST(Checkpoint, FromBeforeLossScalesIsRead) {
  core::Json json = to_json(TrainState());
  json.erase("loss_scale");
  EXPECT_FALSE(train_state_from_json(json, "trainer.json").loss_scale);
}

TEST(Checkpoint, HalfDeletedAndForeignNamesAreNotCheckpoints) {
  const TemporaryFolder folder;
  EXPECT_EQ(last_checkpoint(folder.path()), std::nullopt);
  for (const char* name :
       {"step-00000003", ".deleted-step-00000009", ".step-00000010.123", "step-12.old", "step-"})
    fs::create_directories(folder.path() / "checkpoints" / name);
  EXPECT_EQ(last_checkpoint(folder.path()), checkpoint_path(folder.path(), 3));
  prune_checkpoints(folder.path(), 1, std::nullopt);
  EXPECT_TRUE(fs::exists(checkpoint_path(folder.path(), 3)));
  EXPECT_FALSE(fs::exists(folder.path() / "checkpoints/.deleted-step-00000009"));
}

void cut(const fs::path& file) { fs::resize_file(file, fs::file_size(file) / 2); }
void flip_a_bit(const fs::path& file) {
  std::string bytes = core::read_file(file);
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 4);
  testing::put_file(file, bytes);
}
void empty(const fs::path& file) { fs::resize_file(file, 0); }
void remove(const fs::path& file) { fs::remove(file); }

struct Damage {
  std::string file, problem;
  void (*make)(const fs::path& file);
};
const std::vector<Damage> kDamages = {{"model.safetensors", "is damaged", cut},
                                      {"model.safetensors", "is damaged", flip_a_bit},
                                      {"config.json", "is damaged", flip_a_bit},
                                      {"optimizer.safetensors", "is missing", remove},
                                      {"optimizer.safetensors", "is damaged", flip_a_bit},
                                      {"trainer.json", "is damaged", flip_a_bit},
                                      {"trainer.json", "is damaged", empty},
                                      {"checksums.json", "", cut},
                                      {"checksums.json", "is missing", remove}};

/// What `run` writes on stderr.
template <class Run>
std::string stderr_of(const Run& run) {
  ::testing::internal::CaptureStderr();
  run();
  return ::testing::internal::GetCapturedStderr();
}

TEST(DamagedCheckpoint, IsRemovedAndTheOneBeforeContinuesBitByBit) {
  const TemporaryFolder folder;
  const std::string expected = train_tiny(tiny_setup(folder / "straight"));
  for (const Damage& damage : kDamages) {
    SCOPED_TRACE(damage.file + " " + damage.problem);
    const TrainSetup setup = tiny_setup(folder / "run");
    fs::remove_all(setup.folder);
    stopped_at(setup, 18, SIGTERM);  // leaves updates 16 and 18
    const fs::path newest = checkpoint_path(setup.folder, 18);
    damage.make(newest / damage.file);
    const std::string messages = stderr_of([&] { EXPECT_EQ(train_tiny(setup), expected); });
    EXPECT_CONTAINS(messages, "warning: " + (newest / damage.file).string());
    EXPECT_CONTAINS(messages, damage.problem);
    EXPECT_CONTAINS(messages,
                    "removing it and continuing from " + checkpoint_path(setup.folder, 16).string() + "\n");
    EXPECT_EQ(steps_of(setup.folder, "train"), steps_of(folder / "straight", "train"));
  }
}

TEST(DamagedCheckpoint, OfAllSaysWhatToDelete) {
  const TemporaryFolder folder;
  const TrainSetup setup = tiny_setup(folder.path());
  train_tiny(setup);
  const fs::path file = checkpoint_path(folder.path(), 24) / "model.safetensors";
  for (const auto& entry : fs::directory_iterator(folder / "checkpoints"))
    flip_a_bit(entry.path() / "model.safetensors");
  const std::string message = error_of<core::InputError>([&] { train_tiny(setup); });
  EXPECT_TRUE(message.starts_with(file.string() + " is damaged: ")) << message;
  EXPECT_TRUE(message.ends_with("delete " + folder.path().string() + " to train again")) << message;
  EXPECT_TRUE(fs::exists(file));
}

TEST(FinishedTraining, RemovesWhatAKilledRunCouldNot) {
  const TemporaryFolder folder;
  const TrainSetup setup = tiny_setup(folder.path());
  train_tiny(setup);
  for (const char* name : {"step-00000001", ".deleted-step-00000002"})
    fs::create_directories(folder / "checkpoints" / name);
  train_tiny(setup);
  EXPECT_FALSE(fs::exists(folder / "checkpoints/step-00000001"));
  EXPECT_FALSE(fs::exists(folder / "checkpoints/.deleted-step-00000002"));
}

/// No file may grow beyond `bytes`, as on a full disk.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    std::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit = {bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, SIG_DFL);
  }

 private:
  rlimit before_;
};

TEST(FullDisk, LeavesTheEarlierCheckpointsAndNothingHalfWritten) {
  const TemporaryFolder folder;
  models::ModelConfig config = testing::tiny_config();
  config.d_model = 48;
  const auto setup_in = [&](const fs::path& run) {
    TrainSetup setup = tiny_setup(run);
    setup.options.eval_every = 0;
    setup.start = [config] { return testing::tiny_model(config); };
    return setup;
  };
  const std::string expected = train_tiny(setup_in(folder / "straight"));
  TrainSetup setup = setup_in(folder / "run");
  setup.options.eval_every = 6;
  std::optional<FileSizeLimit> limit;
  setup.evaluation = [&limit](const models::MambaLM&, int64_t step) {
    if (step == 6) limit.emplace(20000);           // enough for metrics.jsonl, not for the weights
    return core::Json{{"validation_loss", step}};  // the first evaluation stays the best
  };
  const std::string message = error_of<core::IoError>([&] { train_tiny(setup); });
  limit.reset();
  EXPECT_CONTAINS(message, "step-00000008");
  EXPECT_EQ(last_checkpoint(folder / "run"), checkpoint_path(folder / "run", 4));
  for (const auto& entry : fs::directory_iterator(folder / "run/checkpoints"))
    EXPECT_TRUE(entry.path().filename().string().starts_with("step-")) << entry.path();
  EXPECT_EQ(train_tiny(setup_in(folder / "run")), expected);
}

/// Without the rights of the super-user, whom no permission stops.
class PlainUser {
 public:
  PlainUser() { changed_ = ::geteuid() == 0 && ::seteuid(65534) == 0; }
  ~PlainUser() {
    if (changed_ && ::seteuid(0) != 0) std::abort();
  }

 private:
  bool changed_;
};

TEST(ReadOnlyFolder, IsRefusedWithItsName) {
  const TemporaryFolder folder;
  fs::create_directories(folder / "run");
  for (const fs::path& locked : {folder / "run", folder.path()})
    fs::permissions(locked, fs::perms::owner_read | fs::perms::owner_exec | fs::perms::others_read |
                                fs::perms::others_exec);
  {
    const PlainUser user;
    const std::string message = error_of<core::IoError>([&] { train_tiny(tiny_setup(folder / "run")); });
    EXPECT_CONTAINS(message, (folder / "run").string());
  }
  fs::permissions(folder / "run", fs::perms::owner_all);
  EXPECT_TRUE(fs::is_empty(folder / "run"));
  fs::permissions(folder.path(), fs::perms::owner_all);
}

TEST(ReadOnlyFolder, OfCheckpointsLeavesTheEarlierOnes) {
  const TemporaryFolder folder;
  TrainSetup setup = tiny_setup(folder.path());
  const fs::path checkpoints = folder / "checkpoints";
  std::optional<PlainUser> user;
  setup.evaluation = [&](const models::MambaLM&, int64_t step) {
    if (step == 6) {
      for (const fs::path& open : {folder.path(), checkpoints})
        fs::permissions(open, fs::perms::others_read | fs::perms::others_exec, fs::perm_options::add);
      fs::permissions(checkpoints, fs::perms::owner_write, fs::perm_options::remove);
      user.emplace();
    }
    return core::Json{{"validation_loss", step}};
  };
  const std::string message = error_of<core::IoError>([&] { train_tiny(setup); });
  user.reset();
  fs::permissions(checkpoints, fs::perms::owner_all);
  EXPECT_CONTAINS(message, checkpoints.string());
  EXPECT_EQ(last_checkpoint(folder.path()), checkpoint_path(folder.path(), 4));
}

}  // namespace
}  // namespace exactmamba::train
