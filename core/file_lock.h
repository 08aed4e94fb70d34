// One process at a time: an advisory lock (flock) that the system takes back when its holder ends, however it
// ends.
#pragma once

#include <filesystem>
#include <optional>

namespace exactmamba::core {

class FileLock {
 public:
  /// Locks `file`, which is made when it is not there and stays; nothing when another process, or another
  /// FileLock of this one, has it. @throws IoError
  static std::optional<FileLock> try_lock(const std::filesystem::path& file);
  /// The same, when whoever has it is done. @throws IoError
  static FileLock lock(const std::filesystem::path& file);

  FileLock(FileLock&& other) noexcept;
  FileLock& operator=(FileLock&&) = delete;
  ~FileLock();

 private:
  explicit FileLock(const std::filesystem::path& file);
  bool take(const std::filesystem::path& file, int operation) const;  // flock(); false when another has it
  int descriptor_;                                                    // −1 after a move
};

}  // namespace exactmamba::core
