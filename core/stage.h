// A step of a run ("train", "decompose", …), named by the hash of the options and inputs that affect its
// result: editing a report option never retrains, editing the learning rate does. Its folder lies under the
// run's output; stage.json is written last.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "core/file_lock.h"
#include "core/json.h"

namespace exactmamba::core {

class Stage {
 public:
  /// `options`: canonical values (Schema::canonical). `inputs`: what the stage reads, as (name, fingerprint):
  /// data, checkpoints, earlier stages.
  Stage(const std::filesystem::path& output, std::string kind, Json options,
        std::vector<std::pair<std::string, std::string>> inputs);

  const std::string& name() const { return name_; }                // "train-0123456789ab"
  const std::filesystem::path& folder() const { return folder_; }  // OUTPUT/stages/NAME
  /// What finish() writes; without it, the stage is not done.
  std::filesystem::path record() const;
  /// True when a finished stage of this name is there. @throws InputError when its stage.json is of a newer
  /// format or not of this stage
  bool done() const;
  /// Makes the folder and keeps other processes off it as long as the lock lives; what an interrupted attempt
  /// left there stays, for resuming. @throws IoError, also when another process works on the stage
  [[nodiscard]] FileLock prepare() const;
  /// Marks the stage as done. `result` is kept in stage.json beside kind, options, inputs and the program's
  /// version. @throws IoError
  void finish(const Json& result) const;
  /// Of the program that finished the stage. @throws IoError, InputError
  std::string program_version() const;
  /// What finish() was given. @throws IoError, InputError
  Json result() const;

 private:
  Json read() const;
  std::string kind_, name_;
  Json options_;
  std::vector<std::pair<std::string, std::string>> inputs_;
  std::filesystem::path folder_;
};

}  // namespace exactmamba::core
