#include "core/file_lock.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>
#include <utility>

#include "core/error.h"

namespace exactmamba::core {

FileLock::FileLock(const std::filesystem::path& file)
    : descriptor_(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
  require<IoError>(descriptor_ >= 0, "{}: cannot be opened for locking: {}", file.string(),
                   std::strerror(errno));
}

bool FileLock::take(const std::filesystem::path& file, int operation) const {
  int result = 0;
  do result = ::flock(descriptor_, operation);
  while (result != 0 && errno == EINTR);
  require<IoError>(result == 0 || errno == EWOULDBLOCK, "{}: cannot be locked: {}", file.string(),
                   std::strerror(errno));
  return result == 0;
}

std::optional<FileLock> FileLock::try_lock(const std::filesystem::path& file) {
  FileLock lock(file);
  if (!lock.take(file, LOCK_EX | LOCK_NB)) return std::nullopt;
  return lock;
}

FileLock FileLock::lock(const std::filesystem::path& file) {
  FileLock lock(file);
  lock.take(file, LOCK_EX);
  return lock;
}

FileLock::FileLock(FileLock&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}

FileLock::~FileLock() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

}  // namespace exactmamba::core
