// Files that are either whole or not there: temporary name, fsync, rename, fsync of the folder.
// The temporary sibling of NAME is `.NAME.tmp-PID`; what a killed process left is removed by the next writer
// of NAME (on the same machine).
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace exactmamba::core {

/// The whole file. @throws IoError
std::string read_file(const std::filesystem::path& file);

/// Atomic and durable. @throws IoError (no space left, read-only, …); nothing is left behind then.
void write_file(const std::filesystem::path& file, std::string_view bytes);

/// Removes `path` and all below it; does nothing when it is not there. @throws IoError
void remove_tree(const std::filesystem::path& path);

/// Removes the temporary files and folders that dead processes of this machine left in `folder`, whatever
/// their targets, and those of this process: call it where nothing is under construction. @throws IoError
void remove_leftovers(const std::filesystem::path& folder);
/// Whether nothing is in `folder` but what remove_leftovers() would remove. @throws IoError
bool is_empty_but_for_leftovers(const std::filesystem::path& folder);

/// Whether a process, this one not counted, writes `file` at the moment. @throws IoError
bool is_under_construction(const std::filesystem::path& file);

/// kLater: the caller makes many files durable at once, by sync_folder(). Until then a power cut may leave a
/// damaged file under the name, so its reader must notice damage.
enum class Durable { kNow, kLater };

/// Makes durable what was written in `folder`. @throws IoError
void sync_folder(const std::filesystem::path& folder);

/// A file under construction, for content that is too large to hold twice. Destroyed without commit(),
/// nothing is left.
class AtomicFile {
 public:
  /// @throws IoError when the folder cannot be written.
  explicit AtomicFile(std::filesystem::path target, Durable durable = Durable::kNow);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::string_view bytes);
  /// Makes the content durable and gives it its name, replacing an older file.
  void commit();

 private:
  std::filesystem::path target_, temporary_;
  Durable durable_;
  int descriptor_;  // −1 after commit
};

/// A folder under construction: a hidden sibling of `target` that `commit()` fsyncs and renames to `target`.
/// Destroyed without commit, it removes what it made. Leftovers of killed processes are removed on
/// construction.
class AtomicFolder {
 public:
  /// Missing parents are made. `replaceable`: the names that the caller writes, as shell patterns
  /// ("model*.safetensors"); when given, commit() may replace an existing `target` that holds files of such
  /// names only (swapped in one rename where the file system can do that, then deleted).
  /// @throws IoError when `target` exists and may not be replaced, naming what would be lost, or the parent
  /// cannot be written; commit() looks again.
  explicit AtomicFolder(std::filesystem::path target, std::vector<std::string> replaceable = {});
  ~AtomicFolder();
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;

  const std::filesystem::path& path() const { return temporary_; }  // write here
  void commit();

 private:
  void rename_to_target();
  int rename_aside();
  std::filesystem::path target_, temporary_;
  std::vector<std::string> replaceable_;
  bool committed_ = false;
};

}  // namespace exactmamba::core
