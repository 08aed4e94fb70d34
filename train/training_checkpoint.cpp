#include "train/training_checkpoint.h"

#include <algorithm>
#include <charconv>
#include <vector>

#include "core/checksums.h"
#include "core/error.h"
#include "core/files.h"
#include "models/checkpoint.h"

namespace exactmamba::train {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kPrefix = "step-";
constexpr std::string_view kDoomed = ".deleted-";  // renamed, about to be removed
constexpr const char* kMoments = "optimizer.safetensors";

fs::path checkpoints_folder(const fs::path& run) { return run / "checkpoints"; }

/// 100 for "step-00000100".
std::optional<int64_t> step_of(const std::string& name) {
  if (!name.starts_with(kPrefix)) return std::nullopt;
  int64_t step = 0;
  const char* end = name.data() + name.size();
  const auto [stop, error] = std::from_chars(name.data() + kPrefix.size(), end, step);
  if (error != std::errc() || stop != end) return std::nullopt;
  return step;
}

/// Names in the folder; none when it is not there.
std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error))
    names.push_back(entry->path().filename().string());
  core::require<core::IoError>(!error || error == std::errc::no_such_file_or_directory,
                               "{}: cannot be listed: {}", folder.string(), error.message());
  return names;
}

/// Ascending.
std::vector<int64_t> checkpoint_steps(const fs::path& run) {
  std::vector<int64_t> steps;
  for (const std::string& name : names_in(checkpoints_folder(run)))
    if (const auto step = step_of(name)) steps.push_back(*step);
  std::sort(steps.begin(), steps.end());
  return steps;
}

void remove_doomed(const fs::path& folder) {
  for (const std::string& name : names_in(folder))
    if (name.starts_with(kDoomed)) core::remove_tree(folder / name);
}

/// A rename first, so that a half-deleted folder never looks like a checkpoint.
void doom(const fs::path& checkpoint) {
  std::error_code error;
  fs::rename(checkpoint,
             checkpoint.parent_path() / fmt::format("{}{}", kDoomed, checkpoint.filename().string()), error);
  core::require<core::IoError>(!error, "{}: cannot be renamed: {}", checkpoint.string(), error.message());
}

}  // namespace

fs::path checkpoint_path(const fs::path& run, int64_t step) {
  return checkpoints_folder(run) / fmt::format("{}{:08}", kPrefix, step);
}

std::optional<fs::path> last_checkpoint(const fs::path& run) {
  const std::vector<int64_t> steps = checkpoint_steps(run);
  if (steps.empty()) return std::nullopt;
  return checkpoint_path(run, steps.back());
}

ResumePoint resume_point(const fs::path& run) {
  ResumePoint point;
  const std::vector<int64_t> steps = checkpoint_steps(run);
  for (auto step = steps.rbegin(); step != steps.rend() && !point.checkpoint; ++step) {
    const fs::path folder = checkpoint_path(run, *step);
    const std::optional<std::string> problem = core::find_damage(folder);
    if (problem) {
      point.damaged.push_back({folder, *problem});
    } else {
      point.checkpoint = folder;
    }
  }
  core::require(point.damaged.empty() || point.checkpoint,
                "{}; no other checkpoint is whole: delete {} to train again",
                point.damaged.empty() ? "" : point.damaged.front().problem, run.string());
  return point;
}

void remove_checkpoint(const fs::path& checkpoint) {
  doom(checkpoint);
  remove_doomed(checkpoint.parent_path());
}

void save_checkpoint(const fs::path& run, const models::MambaLM& model, const AdamW& optimizer,
                     const TrainState& state, const std::map<std::string, std::string>& model_files) {
  core::AtomicFolder folder(checkpoint_path(run, state.step), {"*"});
  models::save_model(model, folder.path(), model.parameters().dtype());
  core::NamedTensors moments = optimizer.moments();
  for (auto& [name, moment] : moments) moment = moment.cpu();
  core::write_safetensors(folder.path() / kMoments, moments);
  core::write_json(folder.path() / kTrainStateFile, to_json(state));
  for (const auto& [name, content] : model_files) core::write_file(folder.path() / name, content);
  core::write_checksums(folder.path());
  folder.commit();
}

TrainState load_train_state(const fs::path& checkpoint) {
  const fs::path file = checkpoint / kTrainStateFile;
  return train_state_from_json(core::read_json(file), file.string());
}

void load_moments(const fs::path& checkpoint, const TrainState& state, AdamW& optimizer) {
  optimizer.restore(core::SafetensorsFile(checkpoint / kMoments), state.optimizer_steps);
}

void prune_checkpoints(const fs::path& run, int64_t keep, const std::optional<Best>& best) {
  const std::vector<int64_t> steps = checkpoint_steps(run);
  const int64_t excess = std::max<int64_t>(static_cast<int64_t>(steps.size()) - keep, 0);
  for (int64_t i = 0; i < excess; ++i)
    if (!best || steps[i] != best->step) doom(checkpoint_path(run, steps[i]));
  remove_doomed(checkpoints_folder(run));
  if (!steps.empty()) core::remove_leftovers(checkpoints_folder(run));  // of killed runs, at any step
}

}  // namespace exactmamba::train
