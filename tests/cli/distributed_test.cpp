// The whole program in several processes: what one process computes, its files, and how it ends.
#include <chrono>
#include <cmath>
#include <fstream>
#include <map>
#include <set>
#include <signal.h>
#include <sstream>
#include <thread>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "core/distributed/launcher.h"
#include "core/gpu.h"
#include "core/json.h"
#include "core/metrics_log.h"
#include "core/safetensors.h"
#include "tests/cli/tiny_recipe.h"
#include "tests/support/disposition.h"
#include "tests/support/files.h"
#include "tests/support/program.h"
#include "tests/support/tensors.h"

namespace exactmamba::cli {
namespace {

namespace fs = std::filesystem;
using core::Json;
using testing::ProgramOutcome;
using testing::ProgramSetting;
using testing::TemporaryFolder;
using Strings = std::vector<std::string>;

Strings operator+(Strings a, const Strings& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

class Distributed : public ::testing::Test {
 protected:
  Distributed() { testing::put_file(folder_ / "r.toml", kTinyRecipe); }

  /// Rows of one string each, so that processes have unequal numbers of targets; on one thread each, for two
  /// sums in another order would not be the same numbers.
  static Strings train(const std::string& output, int64_t batch_size, int64_t steps = 50,
                       int64_t every = 25) {
    return {"train", "r.toml",
            "--set", "train.dtype=float64",
            "--set", "data.pack=false",
            "--set", "run.threads=1",
            "--set", fmt::format("train.eval_every={}", every),
            "--set", fmt::format("train.checkpoint_every={}", every),
            "--set", "run.output=" + output,
            "--set", fmt::format("train.batch_size={}", batch_size),
            "--set", fmt::format("train.steps={}", steps)};
  }
  static Strings processes(int count) { return {"--processes", std::to_string(count)}; }

  ProgramOutcome run(const Strings& arguments, ProgramSetting setting = {}) const {
    setting.folder = folder_.path();
    return testing::run_program(arguments, setting);
  }
  void expect_success(const Strings& arguments) const {
    const ProgramOutcome outcome = run(arguments);
    ASSERT_EQ(outcome.code, 0) << outcome.err;
  }

  /// "" when there is none yet.
  fs::path stage(const std::string& output) const {
    std::error_code none_yet;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder_ / output / "stages", none_yet))
      if (entry.path().filename().string().starts_with("train-")) return entry.path();
    return {};
  }
  fs::path last_checkpoint(const std::string& output) const {
    fs::path last;
    for (const fs::directory_entry& entry : fs::directory_iterator(stage(output) / "checkpoints"))
      last = std::max(last, entry.path());
    return last;
  }
  std::string weights_and_moments(const std::string& output) const {
    const fs::path last = last_checkpoint(output);
    return core::read_file(last / "model.safetensors") + core::read_file(last / "optimizer.safetensors");
  }
  std::vector<Json> lines_of(const std::string& output, const std::string& kind) const {
    std::vector<Json> lines;
    for (Json& line : core::read_metrics(stage(output) / "metrics.jsonl"))
      if (line["kind"] == kind) lines.push_back(std::move(line));
    return lines;
  }

  void expect_same_training(const std::string& output, const std::string& expected) const {
    constexpr double kTolerance = 1e-12;
    const std::vector<Json> lines = lines_of(output, "train"), others = lines_of(expected, "train");
    ASSERT_EQ(lines.size(), others.size());
    for (size_t i = 0; i < lines.size(); ++i) {
      EXPECT_NEAR(lines[i]["loss"], others[i]["loss"], kTolerance) << "update " << i + 1;
      EXPECT_EQ(lines[i]["target_tokens"], others[i]["target_tokens"]);
    }
    const std::vector<Json> evaluations = lines_of(output, "evaluation"),
                            other_evaluations = lines_of(expected, "evaluation");
    ASSERT_EQ(evaluations.size(), 3u);
    ASSERT_EQ(other_evaluations.size(), 3u);
    for (size_t i = 0; i < evaluations.size(); ++i) {
      for (const char* measure : {"validation_loss", "validation_accuracy", "character_accuracy"})
        EXPECT_NEAR(evaluations[i][measure], other_evaluations[i][measure], kTolerance) << measure;
    }
    const core::SafetensorsFile weights(last_checkpoint(output) / "model.safetensors"),
        others_weights(last_checkpoint(expected) / "model.safetensors");
    for (const std::string& name : weights.names())
      EXPECT_LE(testing::absolute_difference(weights.tensor(name), others_weights.tensor(name)), kTolerance)
          << name;
  }

  /// Waits until the training in `output` has made `updates`; false when that takes a minute.
  bool has_made(const std::string& output, size_t updates) const {
    const auto begin = std::chrono::steady_clock::now();
    while (std::chrono::steady_clock::now() - begin < std::chrono::seconds(60)) {
      if (updates_of(output) >= updates) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return false;
  }
  size_t updates_of(const std::string& output) const {
    std::istringstream lines(testing::content_of(stage(output) / "metrics.jsonl"));
    size_t count = 0;
    for (std::string line; std::getline(lines, line);) count += line.find("\"train\"") != std::string::npos;
    return count;
  }

  TemporaryFolder folder_, streams_;
};

/// Waits for it, which need not be a child of this process; nobody need have asked for its exit code.
bool has_ended(pid_t process) {
  const auto begin = std::chrono::steady_clock::now();
  std::error_code no_program;
  while (fs::exists(fmt::format("/proc/{}/exe", process), no_program)) {
    if (std::chrono::steady_clock::now() - begin > std::chrono::seconds(60)) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

/// The child of `launcher` that is rank `rank`.
pid_t process_of_rank(pid_t launcher, int rank) {
  const std::string text = fmt::format("/proc/{0}/task/{0}/children", launcher);
  std::ifstream children(text);
  for (pid_t child = 0; children >> child;) {
    std::ifstream environment(fmt::format("/proc/{}/environ", child));
    for (std::string variable; std::getline(environment, variable, '\0');)
      if (variable == fmt::format("RANK={}", rank)) return child;
  }
  ADD_FAILURE() << text << " has no rank " << rank;
  return 0;
}

struct Shape {
  const char *name, *options;
};
class Training : public Distributed, public ::testing::WithParamInterface<Shape> {};

TEST_P(Training, InSeveralProcessesIsThatOfOneWithTheSameGlobalBatch) {
  std::string recipe = kTinyRecipe;
  const size_t begin = recipe.find("d_model"), end = recipe.find("[train]");
  testing::put_file(folder_ / "r.toml", recipe.replace(begin, end - begin, GetParam().options));
  expect_success(train("one", 6));
  expect_success(train("two", 3) + processes(2));
  expect_success(train("three", 2) + processes(3));
  expect_success(train("accumulated", 1) + processes(2) +
                 Strings{"--set", "train.grad_accumulation_steps=3"});
  const std::vector<Json> lines = lines_of("one", "train");
  ASSERT_EQ(lines.size(), 50u);
  EXPECT_LT(lines.back()["loss"], lines.front()["loss"]);
  std::set<int64_t> targets;
  for (const Json& line : lines) targets.insert(line["target_tokens"].get<int64_t>());
  EXPECT_GT(targets.size(), 3u);  // batches differ in their number of targets, and so do their slices
  expect_same_training("two", "one");
  expect_same_training("three", "one");
  expect_same_training("accumulated", "one");
}

constexpr Shape kMamba1 = {"mamba1", "architecture = 'mamba1'\nd_model = 11\nd_state = 5\nn_layer = 3\n"},
                kMamba2 = {"mamba2", "d_model = 12\nd_state = 7\nheaddim = 8\nchunk_size = 5\nn_layer = 3\n"};
INSTANTIATE_TEST_SUITE_P(Architectures, Training, ::testing::Values(kMamba1, kMamba2),
                         [](const auto& test) { return test.param.name; });

TEST_F(Distributed, DropoutInSeveralProcessesIsThatOfOne) {
  const Strings dropout = {"--set", "train.dropout=0.3", "--set", "train.label_smoothing=0.1"};
  expect_success(train("plain", 6, 20, 10));
  expect_success(train("one", 6, 20, 10) + dropout);
  expect_success(train("two", 3, 20, 10) + dropout + processes(2));
  expect_success(train("three", 1, 20, 10) + dropout + processes(3) +
                 Strings{"--set", "train.grad_accumulation_steps=2"});
  expect_same_training("two", "one");
  expect_same_training("three", "one");
  EXPECT_GT(std::abs(lines_of("one", "evaluation").back()["validation_loss"].get<double>() -
                     lines_of("plain", "evaluation").back()["validation_loss"].get<double>()),
            1e-6);
}

TEST_F(Distributed, AStoppedTrainingContinuesBitByBitWithTheSameNumberOfProcessesOnly) {
  constexpr int64_t kSteps = 300;  // so many that the signal comes before the end
  const Strings stopped_training = train("stopped", 3, kSteps, kSteps);
  expect_success(train("straight", 3, kSteps, kSteps) + processes(2));
  const pid_t launcher =
      testing::start_program(stopped_training + processes(2), {.folder = folder_.path()}, streams_);
  ASSERT_TRUE(has_made("stopped", 5));
  ::kill(launcher, SIGINT);
  const ProgramOutcome stopped = testing::finish_program(launcher, streams_);
  EXPECT_EQ(stopped.code, 128 + SIGINT) << stopped.err;
  EXPECT_CONTAINS(stopped.err, "run again to continue from");

  const ProgramOutcome refused = run(stopped_training + processes(3));
  EXPECT_EQ(refused.code, 1);
  EXPECT_CONTAINS(refused.err, "made by 2 processes with 6 rows in an update, and 3 would make it 9");

  expect_success(stopped_training + processes(2));
  EXPECT_TRUE(weights_and_moments("stopped") == weights_and_moments("straight"));
  EXPECT_EQ(lines_of("stopped", "train").size(), static_cast<size_t>(kSteps));
}

// As does what kills the launcher, closes its terminal, or tells every process of a machine to end.
TEST_F(Distributed, HoweverItIsStoppedAllThatWasTrainedIsKept) {
  const struct {
    std::string name;
    std::vector<int> to_ranks, to_launcher;
  } ends[] = {{"killed", {}, {SIGKILL}},
              {"asked-and-killed", {SIGTERM}, {SIGKILL}},
              {"closed", {}, {SIGHUP}},
              {"all", {SIGTERM}, {SIGTERM}},
              {"session", {SIGTERM, SIGHUP}, {SIGTERM, SIGHUP}}};
  for (const auto& end : ends) {
    const testing::Disposition as_in_a_terminal(SIGHUP, SIG_DFL);
    const TemporaryFolder streams;
    const pid_t launcher = testing::start_program(train(end.name, 3, 1'000'000, 0) + processes(2),
                                                  {.folder = folder_.path()}, streams);
    if (!has_made(end.name, 3)) {
      ::kill(launcher, SIGKILL);
      FAIL() << testing::finish_program(launcher, streams).err;
    }
    const pid_t ranks[] = {process_of_rank(launcher, 0), process_of_rank(launcher, 1)};
    for (const int signal : end.to_ranks)
      for (const pid_t rank : ranks) ::kill(rank, signal);
    for (const int signal : end.to_launcher) ::kill(launcher, signal);
    const ProgramOutcome outcome = testing::finish_program(launcher, streams);
    EXPECT_NE(outcome.code, 0);
    for (const pid_t rank : ranks) ASSERT_TRUE(has_ended(rank)) << end.name;
    const fs::path last = stage(end.name) / fmt::format("checkpoints/step-{:08}", updates_of(end.name));
    EXPECT_TRUE(fs::exists(last)) << end.name << ": " << testing::content_of(streams / "err");
  }
}

TEST_F(Distributed, ProcessesThatWouldTrainDifferentThingsAreRefused) {
  const std::string port = std::to_string(core::free_port());
  const auto start = [&](const std::string& rank, const Strings& more, const TemporaryFolder& streams) {
    return testing::start_program(train("different", 3, 8) + more,
                                  {.folder = folder_.path(),
                                   .environment = {{"RANK", rank},
                                                   {"LOCAL_RANK", rank},
                                                   {"WORLD_SIZE", "2"},
                                                   {"MASTER_ADDR", "127.0.0.1"},
                                                   {"MASTER_PORT", port}}},
                                  streams);
  };
  const TemporaryFolder other_streams;
  const pid_t first = start("0", {}, streams_), other = start("1", {"--set", "train.lr=0.5"}, other_streams);
  for (const ProgramOutcome& outcome :
       {testing::finish_program(first, streams_), testing::finish_program(other, other_streams)}) {
    EXPECT_EQ(outcome.code, 1);
    EXPECT_CONTAINS(outcome.err,
                    "rank 1 of 2 does not train what rank 0 trains: train.lr is 0.5, on rank 0 ");
  }
  EXPECT_FALSE(fs::exists(folder_ / "different"));
}

TEST_F(Distributed, WhatAllProcessesOfAMachineFindIsSaidByTheFirst) {
  const auto refused = [this](const std::string& rank, const std::string& local_rank,
                              const Strings& sets = {"--set", "train.lr=-1"}) {
    const ProgramOutcome outcome = run(train("none", 3) + sets, {.environment = {{"RANK", rank},
                                                                                 {"LOCAL_RANK", local_rank},
                                                                                 {"WORLD_SIZE", "4"},
                                                                                 {"MASTER_ADDR", "localhost"},
                                                                                 {"MASTER_PORT", "1"}}});
    EXPECT_EQ(outcome.code, 1);
    return outcome.err;
  };
  const std::string said = refused("0", "0");
  EXPECT_TRUE(said.starts_with("exactmamba: error: ") && said.find("train.lr") != std::string::npos) << said;
  EXPECT_EQ(refused("1", "1"), "");
  EXPECT_EQ(refused("2", "0"), "exactmamba: error: rank 2 of 4: " + said.substr(19));  // of another machine
  // Devices may differ within a machine: one process may have found a GPU and the next none.
  EXPECT_CONTAINS(
      refused("1", "1",
              {"--set", "run.device=cpu", "--set", "train.dtype=float32", "--set",
               "train.compute_dtype=bfloat16"}),
      "rank 1 of 4: --set train.compute_dtype=bfloat16: train.compute_dtype is bfloat16, but a CPU");
}

TEST_F(Distributed, ASweepIsTrainedByAsManyProcessesAsItsFirstModels) {
  testing::put_file(folder_ / "r.toml", std::string(kTinyRecipe) + "\n[sweep]\ntrain.lr = [1e-3, 2e-3]\n");
  expect_success(train("sweep", 3, 4) + processes(2));
  expect_success(train("sweep", 3, 4));  // all are there
  fs::remove_all(stage("sweep"));
  const ProgramOutcome outcome = run(train("sweep", 3, 4));
  EXPECT_EQ(outcome.code, 1);
  EXPECT_CONTAINS(outcome.err, "was trained by 2 process(es) and '");
  expect_success(train("sweep", 3, 4) + processes(2));
}

TEST_F(Distributed, AProcessThatDiesEndsTheOthersAndIsNamed) {
  const pid_t launcher = testing::start_program(train("killed", 3, 1'000'000) + processes(3),
                                                {.folder = folder_.path()}, streams_);
  ASSERT_TRUE(has_made("killed", 3));
  const pid_t rank0 = process_of_rank(launcher, 0);
  ::kill(process_of_rank(launcher, 1), SIGKILL);
  const ProgramOutcome outcome = testing::finish_program(launcher, streams_);
  EXPECT_EQ(outcome.code, 5) << outcome.err;
  EXPECT_CONTAINS(outcome.err, "rank 1 of 3 was ended by signal 9 (Killed); the others were ended");
  EXPECT_NE(::kill(rank0, 0), 0);
}

TEST_F(Distributed, AProcessThatIsAskedToStopStopsTheOthersAndIsNamed) {
  for (const int signal : {SIGINT, SIGTERM}) {
    const std::string output = fmt::format("asked-{}", signal);
    const pid_t launcher = testing::start_program(train(output, 3, 1'000'000, 0) + processes(2),
                                                  {.folder = folder_.path()}, streams_);
    ASSERT_TRUE(has_made(output, 3));
    ::kill(process_of_rank(launcher, 1), signal);
    const ProgramOutcome outcome = testing::finish_program(launcher, streams_);
    EXPECT_EQ(outcome.code, 128 + signal) << outcome.err;
    EXPECT_CONTAINS(outcome.err, fmt::format("rank 1 of 2 was asked to stop by signal {} ", signal));
    EXPECT_CONTAINS(outcome.err, "run again to continue from");
  }
}

TEST_F(Distributed, RunDoesTheOtherStagesInOneProcessAndRankZeroAloneWrites) {
  const auto run_to = [&](const std::string& output, const Strings& more) {
    expect_success(Strings{"run", "r.toml", "--set", "run.output=" + output} + more);
    std::set<std::string> files;
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder_ / output))
      files.insert(entry.path().lexically_relative(folder_ / output).string());
    return files;
  };
  const std::set<std::string> one = run_to("one", {});
  EXPECT_TRUE(one.count("report.json"));
  EXPECT_EQ(run_to("two", processes(2)).size(), one.size());
  EXPECT_EQ(lines_of("two", "train").size(), lines_of("one", "train").size());
}

TEST_F(Distributed, EnvironmentsOfTorchrunAndSlurmMakeAJob) {
  const std::string port = std::to_string(core::free_port());
  expect_success(train("launched", 3, 8) + processes(2));
  const auto torchrun = [&port](const std::string& rank) -> ProgramSetting {
    return {.environment = {{"RANK", rank},
                            {"LOCAL_RANK", rank},
                            {"WORLD_SIZE", "2"},
                            {"MASTER_ADDR", "localhost"},
                            {"MASTER_PORT", port}}};
  };
  const auto slurm = [&port](const std::string& rank) -> ProgramSetting {
    return {.environment = {{"SLURM_PROCID", rank},
                            {"SLURM_LOCALID", rank},
                            {"SLURM_NTASKS", "2"},
                            {"SLURM_JOB_NODELIST", "localhost"},
                            {"MASTER_PORT", port}}};
  };
  const auto expect_job = [this](const std::string& output, const auto& setting_of) {
    ProgramOutcome first;
    std::thread rank0([&] { first = run(train(output, 3, 8), setting_of("0")); });
    const ProgramOutcome second = run(train(output, 3, 8), setting_of("1"));
    rank0.join();
    EXPECT_EQ(first.code, 0) << first.err;
    EXPECT_EQ(second.code, 0) << second.err;
    EXPECT_EQ(second.out, "");
    EXPECT_TRUE(weights_and_moments(output) == weights_and_moments("launched"));
  };
  expect_job("torchrun", torchrun);
  expect_job("slurm", slurm);
}

TEST_F(Distributed, WhatCannotBeIsRefusedOnceAndBeforeItStarts) {
  const auto refused = [this](const Strings& arguments, int code, ProgramSetting setting = {}) {
    const ProgramOutcome outcome = run(arguments, std::move(setting));
    EXPECT_EQ(outcome.code, code) << outcome.err;
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    EXPECT_FALSE(fs::exists(folder_ / "out"));
    return outcome.err;
  };
  EXPECT_CONTAINS(refused({"train", "r.toml", "--processes", "2", "--gpus", "2"}, 2), "--gpus");
  EXPECT_CONTAINS(refused({"train", "r.toml", "--processes", "0"}, 2), "--processes");
  const std::string many = std::to_string(4 * std::thread::hardware_concurrency() + 1);
  EXPECT_CONTAINS(refused({"train", "r.toml", "--processes", many}, 2),
                  "--processes " + many + ": this machine has ");
  EXPECT_CONTAINS(refused({"train", "r.toml", "--gpus", "some"}, 2), "--gpus");
  EXPECT_CONTAINS(refused({"train", "-", "--processes=2"}, 2), "stdin");
  EXPECT_CONTAINS(refused({"train", "none.toml", "--processes", "3"}, 3), "none.toml");
  EXPECT_CONTAINS(refused({"train", "r.toml", "--processes", "3", "--set", "train.lr=-1"}, 1), "train.lr");
  EXPECT_CONTAINS(refused({"train", "r.toml", "--processes", "2", "--set", "run.device=cuda"}, 1),
                  "run.device is \"cuda\"");
  EXPECT_CONTAINS(refused({"train", "r.toml", "--processes", "2"}, 1,
                          {.environment = {{"RANK", "0"},
                                           {"LOCAL_RANK", "0"},
                                           {"WORLD_SIZE", "2"},
                                           {"MASTER_ADDR", "localhost"},
                                           {"MASTER_PORT", "1"}}}),
                  "one of a job already");
  if (core::find_gpus().count == 0) {
    EXPECT_CONTAINS(refused({"train", "r.toml", "--gpus", "all"}, 1), "--gpus all: ");
  }
}

}  // namespace
}  // namespace exactmamba::cli
