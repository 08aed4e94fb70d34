#include "core/files.h"

#include <fstream>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/support/files.h"

namespace exactmamba::core {
namespace {

namespace fs = std::filesystem;
using testing::error_of;
using testing::TemporaryFolder;

size_t entries(const fs::path& folder) {
  return static_cast<size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

/// The id of a process that has just ended.
pid_t dead_process() {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(0);
  ::waitpid(child, nullptr, 0);
  return child;
}

/// Runs `body` in a child with files limited to `bytes`, as on a full disk; true when it threw IoError.
template <class Body>
bool fails_with_file_limit(rlim_t bytes, const Body& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{bytes, bytes};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    try {
      body();
    } catch (const IoError&) {
      ::_exit(1);
    } catch (...) {
      ::_exit(2);
    }
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 1;
}

TEST(Files, ReadsWhatWasWritten) {
  const TemporaryFolder folder;
  const std::string bytes("a\0\n\xff", 4);
  write_file(folder / "f", bytes);
  EXPECT_EQ(read_file(folder / "f"), bytes);
  write_file(folder / "f", "");
  EXPECT_EQ(read_file(folder / "f"), "");
  const std::string large(3 << 20, 'x');
  write_file(folder / "f", large);
  EXPECT_EQ(read_file(folder / "f"), large);
  EXPECT_EQ(entries(folder.path()), 1u);
}

TEST(Files, ReadErrorsNameTheFile) {
  const TemporaryFolder folder;
  const auto message = [](const fs::path& path) { return error_of<IoError>([&] { read_file(path); }); };
  EXPECT_EQ(message(folder / "none"),
            "cannot read " + (folder / "none").string() + ": No such file or directory");
  EXPECT_EQ(message(folder.path()), "cannot read " + folder.path().string() + ": Is a directory");
  write_file(folder / "f", "x");
  EXPECT_CONTAINS(message(folder / "f" / "g"), "Not a directory");
  EXPECT_EQ(read_file("/proc/self/comm").empty(), false);  // a file whose size the system gives as 0
}

TEST(Files, AFullDiskLeavesTheOldContent) {
  const TemporaryFolder folder;
  write_file(folder / "f", "old");
  EXPECT_TRUE(fails_with_file_limit(1000, [&] { write_file(folder / "f", std::string(2000, 'n')); }));
  EXPECT_EQ(read_file(folder / "f"), "old");
  EXPECT_EQ(entries(folder.path()), 1u);
}

TEST(Files, WriteErrorsNameTheFile) {
  const TemporaryFolder folder;
  EXPECT_CONTAINS(error_of<IoError>([&] { write_file(folder / "none" / "f", "x"); }), "none");
  EXPECT_CONTAINS(error_of<IoError>([&] { write_file("/proc/f", "x"); }), "/proc/f");
  fs::create_directory(folder / "d");
  EXPECT_CONTAINS(error_of<IoError>([&] { write_file(folder / "d", "x"); }), "Is a directory");
  EXPECT_CONTAINS(error_of<IoError>([&] { write_file("..", "x"); }), "no name");
  EXPECT_EQ(entries(folder.path()), 1u);
}

TEST(AtomicFile, WithoutCommitNothingIsLeft) {
  const TemporaryFolder folder;
  {
    AtomicFile file(folder / "f");
    file.write("half");
    EXPECT_FALSE(fs::exists(folder / "f"));
  }
  EXPECT_EQ(entries(folder.path()), 0u);
}

TEST(AtomicFolder, CommitsAWholeTree) {
  const TemporaryFolder folder;
  {
    AtomicFolder made(folder / "a" / "b" / "");  // parents are made, the trailing slash means nothing
    fs::create_directory(made.path() / "sub");
    write_file(made.path() / "sub" / "f", "x");
    EXPECT_FALSE(fs::exists(folder / "a" / "b"));
    made.commit();
  }
  EXPECT_EQ(read_file(folder / "a" / "b" / "sub" / "f"), "x");
  EXPECT_EQ(entries(folder / "a"), 1u);
}

TEST(AtomicFolder, WithoutCommitNothingIsLeft) {
  const TemporaryFolder folder;
  {
    const AtomicFolder made(folder / "d");
    write_file(made.path() / "f", "x");
  }
  EXPECT_EQ(entries(folder.path()), 0u);
}

TEST(AtomicFolder, RefusesWhatExists) {
  const TemporaryFolder folder;
  fs::create_directory(folder / "d");
  EXPECT_CONTAINS(error_of<IoError>([&] { AtomicFolder made(folder / "d"); }), "exists already");
  EXPECT_CONTAINS(error_of<IoError>([&] { AtomicFolder made("/proc/x/d"); }), "cannot create /proc/x");
  EXPECT_CONTAINS(error_of<IoError>([&] { AtomicFolder made("/proc/x"); }), "/proc/x");
  EXPECT_EQ(entries(folder.path()), 1u);
}

TEST(AtomicFolder, RefusesWhatAppearedMeanwhile) {
  const TemporaryFolder folder;
  {
    AtomicFolder made(folder / "d");
    fs::create_directory(folder / "d");
    write_file(folder / "d" / "other", "x");
    EXPECT_CONTAINS(error_of<IoError>([&] { made.commit(); }), "exists");
  }
  EXPECT_EQ(read_file(folder / "d" / "other"), "x");
  EXPECT_EQ(entries(folder.path()), 1u);
}

TEST(AtomicFolder, OverwriteSwapsTheFolders) {
  const TemporaryFolder folder;
  for (const char* content : {"first", "second", "third"}) {
    AtomicFolder made(folder / "d", true);
    write_file(made.path() / content, content);
    made.commit();
    EXPECT_EQ(entries(folder / "d"), 1u);
    EXPECT_EQ(read_file(folder / "d" / content), content);
    EXPECT_EQ(entries(folder.path()), 1u);
  }
}

TEST(AtomicFolder, RemovesLeftoversOfDeadProcessesOnly) {
  const TemporaryFolder folder;
  const auto leave = [&](const std::string& name) {
    fs::create_directory(folder / name);
    write_file(folder / name / "f", "x");
  };
  const std::string dead = ".d.tmp-" + std::to_string(dead_process());
  const std::string own = ".d.tmp-" + std::to_string(::getpid());
  const std::vector<std::string> kept = {".d.tmp-1", ".d.tmp-x", ".d.tmp-",
                                         ".other.tmp-" + std::to_string(dead_process())};
  leave(dead);
  leave(own);
  for (const std::string& name : kept) leave(name);
  AtomicFolder made(folder / "d");
  made.commit();
  EXPECT_FALSE(fs::exists(folder / dead));
  EXPECT_FALSE(fs::exists(folder / own));
  for (const std::string& name : kept) EXPECT_TRUE(fs::exists(folder / name)) << name;
}

TEST(AtomicFolder, AReadOnlyParentIsOneClearError) {
  if (::geteuid() == 0) GTEST_SKIP() << "root may write everywhere";
  const TemporaryFolder folder;
  fs::create_directory(folder / "locked");
  fs::permissions(folder / "locked", fs::perms::owner_read | fs::perms::owner_exec);
  EXPECT_CONTAINS(error_of<IoError>([&] { AtomicFolder made(folder / "locked" / "d"); }),
                  "Permission denied");
  EXPECT_CONTAINS(error_of<IoError>([&] { write_file(folder / "locked" / "f", "x"); }), "Permission denied");
}

}  // namespace
}  // namespace exactmamba::core
