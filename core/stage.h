// A step of a run ("train", "decompose", …), named by the hash of the options and inputs that affect its
// result: editing a report option never retrains, editing the learning rate does. Its folder lies under the
// run's output; stage.json is written last and carries a checksum of itself.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/file_lock.h"
#include "core/json.h"

namespace exactmamba::core {

/// Of a run's output: where its stages are.
inline constexpr const char* kStagesFolder = "stages";
/// In a stage's folder: its record, and that of a stage that has only begun, for who wants to know what it
/// is.
inline constexpr const char *kStageFile = "stage.json", *kBegunFile = "begun.json";

class Stage {
 public:
  /// `algorithm`: version of what this kind of stage computes, to be raised when the same options and inputs
  /// give another result. `options`: canonical values (Schema::canonical). `inputs`: what the stage reads, as
  /// (name, fingerprint): data, checkpoints, earlier stages.
  Stage(const std::filesystem::path& output, std::string kind, int algorithm, Json options,
        std::vector<std::pair<std::string, std::string>> inputs);

  const std::string& name() const { return name_; }                // "train-0123456789ab"
  const std::filesystem::path& folder() const { return folder_; }  // OUTPUT/stages/NAME
  /// What finish() writes; without it, the stage is not done.
  std::filesystem::path record() const;
  /// True when a finished stage of this name is there. @throws InputError when its stage.json is damaged, of
  /// a newer format or not of this stage
  bool done() const;
  /// Makes the folder and keeps other processes off it as long as the lock lives; what an interrupted attempt
  /// left there stays, for resuming. @throws IoError, also when another process works on the stage
  [[nodiscard]] FileLock prepare() const;
  /// Leaves kBegunFile: as stage.json, with what is `known` of the result. @throws IoError
  void begin(const Json& known) const;
  /// Marks the stage as done. `result` is kept in stage.json beside kind, options, inputs and the program's
  /// version. @throws IoError
  void finish(const Json& result) const;
  /// Of the program that finished the stage. @throws IoError, InputError
  std::string program_version() const;
  /// What finish() was given. @throws IoError, InputError
  Json result() const;
  /// What `read` returns, which reads files of the finished stage; an error of it also says what to delete:
  /// the folder, or what is given. @throws IoError, InputError
  template <class Read>
  auto reading(const Read& read) const {
    return reading(folder_, read);
  }
  template <class Read>
  auto reading(const std::filesystem::path& to_delete, const Read& read) const;

 private:
  Json read_record() const;
  Json record_with(const Json& result) const;
  std::string kind_, name_;
  int algorithm_;
  Json options_;
  std::vector<std::pair<std::string, std::string>> inputs_;
  std::filesystem::path folder_;
};

template <class Read>
auto Stage::reading(const std::filesystem::path& to_delete, const Read& read) const {
  const auto advice = [&to_delete](const Error& error) {
    return error.what() + ("; delete " + to_delete.string()) + " to run this stage again";
  };
  try {
    return read();
  } catch (const IoError& error) {
    throw IoError(advice(error));
  } catch (
      const Error& error) {  // damaged weights may hold NaN too: still the file's fault, not the numbers'
    throw InputError(advice(error));
  }
}

}  // namespace exactmamba::core
