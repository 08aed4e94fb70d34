#include "cli/launch.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <thread>

#include "cli/failure.h"
#include "cli/plan.h"
#include "cli/recipe_files.h"
#include "core/device.h"
#include "core/distributed/job.h"
#include "core/distributed/launcher.h"
#include "core/error.h"
#include "core/gpu.h"
#include "core/log.h"

namespace exactmamba::cli {
namespace {

/// The command line without the options that start processes.
std::vector<std::string> command_of_rank(const std::vector<std::string>& command_line) {
  std::vector<std::string> command = {std::filesystem::read_symlink("/proc/self/exe")};
  for (size_t i = 1; i < command_line.size(); ++i) {
    const std::string& word = command_line[i];
    const bool with_value = word == "--processes" || word == "--gpus";
    if (with_value) ++i;
    if (with_value || word.starts_with("--processes=") || word.starts_with("--gpus=")) continue;
    command.push_back(word);
  }
  return command;
}

/// Of "all" or a number; 0 stands for all.
int count_of(const std::string& text) {
  if (text == "all") return 0;
  int count = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, count);
  core::require<core::UsageError>(error == std::errc() && stop == end && count > 0,
                                  "--gpus '{}': expected a number from 1, or all", text);
  return count;
}

int gpus_of(const std::string& text) {
  const int count = count_of(text);
  const core::Gpus gpus = core::find_gpus();
  core::require(gpus.count > 0, "--gpus {}: {}; use --processes for several processes on the CPU", text,
                gpus.reason);
  core::require(count <= gpus.count, "--gpus {}: this machine has {}", text, gpus.count);
  return count > 0 ? count : gpus.count;
}

/// More of them than this only wait for each other: what was meant is another option, or another digit.
void check_processes(int64_t processes) {
  constexpr unsigned kPerCore = 4;
  const unsigned cores = std::max(std::thread::hardware_concurrency(), 1U);
  core::require<core::UsageError>(
      processes <= int64_t{kPerCore} * cores,
      "--processes {}: this machine has {} cores, enough for {} processes at most, {} a core", processes,
      cores, kPerCore * cores, kPerCore);
}

void check_device(const TrainingArguments& arguments, const std::string& device) {
  const bool on_gpus = !arguments.gpus.empty();
  core::require(device == "auto" || (device == "cuda") == on_gpus,
                "{} trains on the {}, but run.device is \"{}\"; leave that out",
                on_gpus ? "--gpus" : "--processes", on_gpus ? "GPU" : "CPU", device);
}

}  // namespace

bool launched(const TrainingArguments& arguments) {
  if (arguments.processes == 0 && arguments.gpus.empty()) {
    const core::Job job = core::job_of_this_process();
    tell_failures_of(job, /*alike=*/true);
    if (job.rank > 0) core::set_verbosity(core::Verbosity::kQuiet);
    return false;
  }
  core::require<core::UsageError>(arguments.recipe.file != "-",
                                  "several processes cannot all read the recipe from stdin; give a file");
  core::require(core::job_of_this_process().size == 1,
                "this process is one of a job already (RANK or SLURM_PROCID is set); leave out --processes "
                "and --gpus, or unset the variables");
  check_processes(arguments.processes);
  const RecipeFile file = load_recipe(arguments.recipe.file, arguments.recipe.sets);
  // One message, and not one of each process.
  check_files(file, ReadThrough::kEvaluation, Warnings::kSaidByOthers);
  needs_of_runs(file);  // for its problems
  check_device(arguments, file.first().run.device);
  core::Launch launch;
  launch.command = command_of_rank(arguments.command_line);
  if (arguments.gpus.empty()) {
    launch.processes = static_cast<int>(arguments.processes);
    launch.environment = {{"CUDA_VISIBLE_DEVICES", ""}};
  } else {
    launch.processes = gpus_of(arguments.gpus);
  }
  core::launch(launch);
  return true;
}

std::unique_ptr<core::Communicator> join_job(const Recipe& recipe) {
  const core::Job job = core::job_of_this_process();
  return core::join(job, core::device_from_name(recipe.run.device),
                    std::chrono::seconds(recipe.run.peer_timeout));
}

}  // namespace exactmamba::cli
