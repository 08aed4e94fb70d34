// Checkpoints of a training: RUN/checkpoints/step-00000100/ with
//   config.json, model.safetensors   the model, loadable as any model folder, in the training dtype
//   optimizer.safetensors            Adam's moments: exp_avg.NAME, exp_avg_sq.NAME
//   trainer.json                     TrainState
//   tokenizer.json and so on         what else the model is used with
//   checksums.json                   of these files
// A folder of that name is always whole: it appears and disappears by one rename. What a disk or a person
// does to it later shows in the checksums.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "models/mamba_lm.h"
#include "train/optimizer.h"
#include "train/train_state.h"

namespace exactmamba::train {

inline constexpr const char* kTrainStateFile = "trainer.json";  // of a checkpoint

/// Path of the checkpoint after update `step`.
std::filesystem::path checkpoint_path(const std::filesystem::path& run, int64_t step);
/// The newest one.
std::optional<std::filesystem::path> last_checkpoint(const std::filesystem::path& run);

struct DamagedCheckpoint {
  std::filesystem::path folder;
  std::string problem;  // names the file
};
/// Where a training continues.
struct ResumePoint {
  std::optional<std::filesystem::path> checkpoint;  // the newest that is whole; none: from the start
  std::vector<DamagedCheckpoint> damaged;           // newer than it
};
/// @throws InputError when all checkpoints are damaged, saying what to delete; IoError
ResumePoint resume_point(const std::filesystem::path& run);
/// @throws IoError
void remove_checkpoint(const std::filesystem::path& checkpoint);

/// `model_files`: contents by name. @throws IoError (no space left, read-only, …); earlier checkpoints stay
/// as they are
void save_checkpoint(const std::filesystem::path& run, const models::MambaLM& model, const AdamW& optimizer,
                     const TrainState& state, const std::map<std::string, std::string>& model_files);
/// @throws IoError, InputError
TrainState load_train_state(const std::filesystem::path& checkpoint);
void load_moments(const std::filesystem::path& checkpoint, const TrainState& state, AdamW& optimizer);

/// Deletes all checkpoints but the newest `keep` and the best one. To be called after a commit, never before.
void prune_checkpoints(const std::filesystem::path& run, int64_t keep, const std::optional<Best>& best);

}  // namespace exactmamba::train
