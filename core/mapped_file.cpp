#include "core/mapped_file.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"

namespace exactmamba::core {

MappedFile::MappedFile(const std::filesystem::path& file) {
  const int descriptor = ::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe must not hang
  require<IoError>(descriptor >= 0, "cannot read {}: {}", file.string(), std::strerror(errno));
  const std::shared_ptr<void> closer(nullptr, [descriptor](void*) { ::close(descriptor); });
  struct stat status = {};
  const bool known = ::fstat(descriptor, &status) == 0;
  require<IoError>(known, "cannot read {}: {}", file.string(), std::strerror(errno));
  require<IoError>(S_ISREG(status.st_mode), "cannot read {}: it is no regular file", file.string());
  if (status.st_size == 0) return;
  const size_t size = static_cast<size_t>(status.st_size);
  void* address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
  require<IoError>(address != MAP_FAILED, "cannot map {}: {}", file.string(), std::strerror(errno));
  mapping_ = {address, [size](void* mapped) { ::munmap(mapped, size); }};
  size_ = size;
}

}  // namespace exactmamba::core
