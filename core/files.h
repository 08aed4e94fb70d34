// Files that are either whole or not there: temporary name, fsync, rename, fsync of the folder.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace exactmamba::core {

/// The whole file. @throws IoError
std::string read_file(const std::filesystem::path& file);

/// Atomic and durable. @throws IoError (no space left, read-only, …); nothing is left behind then.
void write_file(const std::filesystem::path& file, std::string_view bytes);

/// A folder under construction: a hidden sibling of `target` that `commit()` fsyncs and renames to `target`. Destroyed without
/// commit, it removes what it made. Leftovers of killed processes are removed on construction.
class AtomicFolder {
 public:
  /// `overwrite`: commit() may replace an existing `target` (swapped in one rename, then deleted).
  /// @throws IoError when `target` exists and overwrite is false, or the parent cannot be written.
  explicit AtomicFolder(std::filesystem::path target, bool overwrite = false);
  ~AtomicFolder();
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;

  const std::filesystem::path& path() const { return temporary_; }  // write here
  void commit();

 private:
  std::filesystem::path target_, temporary_;
  bool overwrite_, committed_ = false;
};

}  // namespace exactmamba::core
