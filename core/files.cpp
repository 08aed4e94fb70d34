#include "core/files.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <fnmatch.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

#include "core/error.h"

namespace exactmamba::core {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const char* what, const fs::path& path, int code) {
  throw IoError(fmt::format("cannot {} {}: {}", what, path.string(), std::strerror(code)));
}

class Descriptor {
 public:
  Descriptor(const fs::path& path, int flags, const char* what)
      : value_(::open(path.c_str(), flags | O_CLOEXEC)) {
    if (value_ < 0) fail(what, path, errno);
  }
  ~Descriptor() { ::close(value_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return value_; }

 private:
  int value_;
};

void sync(const fs::path& path, bool folder) {
  const Descriptor descriptor(path, folder ? O_RDONLY | O_DIRECTORY : O_RDONLY, "open");
  if (::fsync(descriptor.get()) != 0) fail("write", path, errno);
}

void sync_tree(const fs::path& folder) {
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (entry.is_symlink()) continue;
    entry.is_directory() ? sync_tree(entry.path()) : sync(entry.path(), false);
  }
  sync(folder, true);
}

/// "a/b/" names the same folder as "a/b".
fs::path without_trailing_slash(fs::path path) {
  if (!path.has_filename()) path = path.parent_path();
  const fs::path name = path.filename();
  require<IoError>(!name.empty() && name != "." && name != "..", "'{}' is no name for a new file or folder",
                   path.string());
  return path;
}

fs::path parent_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

constexpr std::string_view kTemporaryMark = ".tmp-";

std::string temporary_prefix(const fs::path& target) {
  return fmt::format(".{}{}", target.filename().string(), kTemporaryMark);
}

fs::path temporary_sibling(const fs::path& target) {
  return parent_of(target) / (temporary_prefix(target) + std::to_string(::getpid()));
}

/// Whether this is the name of a temporary sibling made by a process that is gone, or by this one (or an
/// earlier one with its id).
bool is_leftover(const std::string& name) {
  const size_t mark = name.rfind(kTemporaryMark);
  if (!name.starts_with('.') || mark == std::string::npos) return false;
  pid_t pid = 0;
  const char* end = name.data() + name.size();
  const auto [rest, error] = std::from_chars(name.data() + mark + kTemporaryMark.size(), end, pid);
  if (error != std::errc() || rest != end || pid <= 0) return false;
  return pid == ::getpid() || (::kill(pid, 0) != 0 && errno == ESRCH);
}

std::vector<fs::path> entries_of(const fs::path& folder) {
  std::vector<fs::path> entries;
  std::error_code error;
  fs::directory_iterator entry(folder, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error))
    entries.push_back(entry->path());
  if (error) fail("list", folder, error.value());
  return entries;
}

void remove_leftovers(const fs::path& folder, const std::string& prefix) {
  for (const fs::path& entry : entries_of(folder)) {
    const std::string name = entry.filename().string();
    if (name.starts_with(prefix) && is_leftover(name)) remove_tree(entry);
  }
}

/// Of earlier writers of `target`.
void remove_leftovers_of(const fs::path& target) {
  remove_leftovers(parent_of(target), temporary_prefix(target));
}

bool is_replaceable(const fs::directory_entry& entry, const std::vector<std::string>& patterns) {
  std::error_code error;
  const bool folder = fs::is_directory(entry.symlink_status(error));
  const std::string name = entry.path().filename().string();
  return !error && !folder && std::any_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) {
    return ::fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
  });
}

/// Replacing a folder deletes all that it holds: every entry must be one of the files that are written anew.
void require_replaceable(const fs::path& target, const std::vector<std::string>& patterns) {
  require<IoError>(!patterns.empty(), "{} exists already; choose another name or allow it to be overwritten",
                   target.string());
  std::error_code error;
  require<IoError>(fs::is_directory(target, error),
                   "{}: is no folder; choose another name or remove it first", target.string());
  fs::directory_iterator entry(target, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    require<IoError>(is_replaceable(*entry, patterns),
                     "{}: holds '{}', which would be deleted; choose another name or remove it first",
                     target.string(), entry->path().filename().string());
  }
  if (error) fail("list", target, error.value());
}

}  // namespace

std::string read_file(const fs::path& file) {
  const Descriptor descriptor(file, O_RDONLY, "read");
  struct stat status = {};
  if (::fstat(descriptor.get(), &status) != 0) fail("read", file, errno);
  if (S_ISDIR(status.st_mode)) fail("read", file, EISDIR);
  std::string bytes;
  size_t used = 0;
  const size_t expected = static_cast<size_t>(status.st_size);  // 0 for pipes
  while (true) {
    if (used == bytes.size()) bytes.resize(used + (used < expected ? expected - used + 1 : size_t{1} << 16));
    const ssize_t n = ::read(descriptor.get(), bytes.data() + used, bytes.size() - used);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail("read", file, errno);
    if (n == 0) break;
    used += static_cast<size_t>(n);
  }
  bytes.resize(used);
  return bytes;
}

void write_file(const fs::path& file, std::string_view bytes) {
  AtomicFile out(file);
  out.write(bytes);
  out.commit();
}

void remove_tree(const fs::path& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) fail("remove", path, error.value());
}

void remove_leftovers(const fs::path& folder) { remove_leftovers(folder, "."); }

bool is_empty_but_for_leftovers(const fs::path& folder) {
  const std::vector<fs::path> entries = entries_of(folder);
  return std::all_of(entries.begin(), entries.end(),
                     [](const fs::path& entry) { return is_leftover(entry.filename().string()); });
}

bool is_under_construction(const fs::path& file) {
  const std::vector<fs::path> entries = entries_of(parent_of(file));
  return std::any_of(entries.begin(), entries.end(), [&file](const fs::path& entry) {
    const std::string name = entry.filename().string();
    return name.starts_with(temporary_prefix(file)) && !is_leftover(name);
  });
}

void sync_folder(const fs::path& folder) {
  const Descriptor descriptor(folder, O_RDONLY | O_DIRECTORY, "open");
  if (::syncfs(descriptor.get()) != 0) fail("write", folder, errno);  // one call for thousands of files
}

AtomicFile::AtomicFile(fs::path target, Durable durable)
    : target_(without_trailing_slash(std::move(target))),
      temporary_(temporary_sibling(target_)),
      durable_(durable) {
  remove_leftovers_of(target_);
  descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (descriptor_ < 0) fail("write", target_, errno);
}

AtomicFile::~AtomicFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(descriptor_, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail("write", target_, errno);
    bytes.remove_prefix(static_cast<size_t>(n));
  }
}

void AtomicFile::commit() {
  if (durable_ == Durable::kNow && ::fsync(descriptor_) != 0) fail("write", target_, errno);
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) fail("write", target_, errno);
  ::close(std::exchange(descriptor_, -1));
  if (durable_ == Durable::kNow) sync(parent_of(target_), true);
}

AtomicFolder::AtomicFolder(fs::path target, std::vector<std::string> replaceable)
    : target_(without_trailing_slash(std::move(target))),
      temporary_(temporary_sibling(target_)),
      replaceable_(std::move(replaceable)) {
  std::error_code error;
  if (fs::exists(fs::symlink_status(target_, error))) require_replaceable(target_, replaceable_);
  fs::create_directories(parent_of(target_), error);
  if (error) fail("create", parent_of(target_), error.value());
  remove_leftovers_of(target_);
  if (::mkdir(temporary_.c_str(), 0777) != 0) fail("create", target_, errno);
}

AtomicFolder::~AtomicFolder() {
  if (committed_) return;
  std::error_code ignored;  // nothing sensible can be done about it while another error is on its way
  fs::remove_all(temporary_, ignored);
}

void AtomicFolder::commit() {
  try {
    sync_tree(temporary_);
  } catch (const fs::filesystem_error& error) {
    fail("read", temporary_, error.code().value());
  }
  rename_to_target();
  committed_ = true;
  sync(parent_of(target_), true);
  std::error_code ignored;  // the swapped-out folder; a later writer tries again
  fs::remove_all(temporary_, ignored);
}

void AtomicFolder::rename_to_target() {
  const auto rename_with = [&](unsigned flags) {
    return ::renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, target_.c_str(), flags) == 0 ? 0 : errno;
  };
  int code = rename_with(RENAME_NOREPLACE);
  if (code == EEXIST && !replaceable_.empty()) {
    require_replaceable(target_, replaceable_);
    code = rename_with(RENAME_EXCHANGE);
  }
  if (code == EINVAL) code = rename_aside();
  if (code != 0) fail("create", target_, code);
}

/// For file systems without those flags (NFS), where rename() replaces nothing but an empty folder: the old
/// one is renamed first, and for a moment there is none. What failed, or 0.
int AtomicFolder::rename_aside() {
  const auto rename = [](const fs::path& from, const fs::path& to) {
    return ::rename(from.c_str(), to.c_str()) == 0 ? 0 : errno;
  };
  const int code = rename(temporary_, target_);
  if ((code != ENOTEMPTY && code != EEXIST) || replaceable_.empty()) return code;
  require_replaceable(target_, replaceable_);
  const fs::path old = temporary_sibling(target_.string() + ".old");
  if (const int failed = rename(target_, old); failed != 0) return failed;
  if (const int failed = rename(temporary_, target_); failed != 0) {
    rename(old, target_);
    return failed;
  }
  temporary_ = old;
  return 0;
}

}  // namespace exactmamba::core
