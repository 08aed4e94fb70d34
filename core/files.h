// Files that are either whole or not there: temporary name, fsync, rename, fsync of the folder.
// The temporary sibling of NAME is `.NAME.tmp-PID`; what a killed process left is removed by the next writer
// of NAME (on the same machine).
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace exactmamba::core {

/// The whole file. @throws IoError
std::string read_file(const std::filesystem::path& file);

/// Atomic and durable. @throws IoError (no space left, read-only, …); nothing is left behind then.
void write_file(const std::filesystem::path& file, std::string_view bytes);

/// Removes `path` and all below it; does nothing when it is not there. @throws IoError
void remove_tree(const std::filesystem::path& path);

/// A file under construction, for content that is too large to hold twice. Destroyed without commit(),
/// nothing is left.
class AtomicFile {
 public:
  /// @throws IoError when the folder cannot be written.
  explicit AtomicFile(std::filesystem::path target);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::string_view bytes);
  /// Makes the content durable and gives it its name, replacing an older file.
  void commit();

 private:
  std::filesystem::path target_, temporary_;
  int descriptor_;  // −1 after commit
};

/// A folder under construction: a hidden sibling of `target` that `commit()` fsyncs and renames to `target`.
/// Destroyed without commit, it removes what it made. Leftovers of killed processes are removed on
/// construction.
class AtomicFolder {
 public:
  /// `overwrite`: commit() may replace an existing `target` (swapped in one rename, then deleted). Missing
  /// parents are made.
  /// @throws IoError when `target` exists and overwrite is false, or the parent cannot be written.
  explicit AtomicFolder(std::filesystem::path target, bool overwrite = false);
  ~AtomicFolder();
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;

  const std::filesystem::path& path() const { return temporary_; }  // write here
  void commit();

 private:
  void rename_to_target();
  std::filesystem::path target_, temporary_;
  bool overwrite_, committed_ = false;
};

}  // namespace exactmamba::core
