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

/// Runs `body` in a child process after `prepare`; true when it threw IoError.
template <class Prepare, class Body>
bool fails_in_child(const Prepare& prepare, const Body& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    prepare();
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

/// With files limited to `bytes`, as on a full disk.
template <class Body>
bool fails_with_file_limit(rlim_t bytes, const Body& body) {
  const auto limit_files = [bytes] {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{bytes, bytes};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  };
  return fails_in_child(limit_files, body);
}

/// As a user who may not write everywhere, even when the tests run as root.
template <class Body>
bool fails_without_privileges(const Body& body) {
  constexpr uid_t kNobody = 65534;
  return fails_in_child(
      [] {
        if (::geteuid() == 0 && ::seteuid(kNobody) != 0) ::_exit(3);
      },
      body);
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

TEST(AtomicFile, MayBeMadeDurableWithOthers) {
  const TemporaryFolder folder;
  for (const char* name : {"a", "b"}) {
    AtomicFile file(folder / name, Durable::kLater);
    file.write(name);
    EXPECT_FALSE(fs::exists(folder / name));
    file.commit();
  }
  sync_folder(folder.path());
  EXPECT_EQ(read_file(folder / "a") + read_file(folder / "b"), "ab");
  EXPECT_EQ(entries(folder.path()), 2u);
  EXPECT_CONTAINS(error_of<IoError>([&] { sync_folder(folder / "none"); }), "none");
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
    AtomicFolder made(folder / "d", {"first", "s*d", "third"});
    write_file(made.path() / content, content);
    made.commit();
    EXPECT_EQ(entries(folder / "d"), 1u);
    EXPECT_EQ(read_file(folder / "d" / content), content);
    EXPECT_EQ(entries(folder.path()), 1u);
  }
}

TEST(AtomicFolder, ReplacesOnlyWhatItWrites) {
  const TemporaryFolder folder;
  const std::vector<std::string> names = {"config.json", "model*.safetensors"};
  const auto message = [&] { return error_of<IoError>([&] { AtomicFolder made(folder / "d", names); }); };
  fs::create_directory(folder / "d");
  { AtomicFolder empty_is_fine(folder / "d", names); }
  testing::put_file(folder / "d" / "config.json", "x");
  testing::put_file(folder / "d" / "model-00001-of-00002.safetensors", "x");
  { AtomicFolder known_is_fine(folder / "d", names); }
  for (const char* foreign : {"thesis.tex", "config.json.bak", "a_model.safetensors", ".hidden"}) {
    testing::put_file(folder / "d" / foreign, "years of work");
    EXPECT_CONTAINS(message(), fmt::format("holds '{}'", foreign));
    EXPECT_EQ(read_file(folder / "d" / foreign), "years of work");
    fs::remove(folder / "d" / foreign);
  }
  fs::remove(folder / "d" / "config.json");
  fs::create_directory(folder / "d" / "config.json");  // a folder with the name of a file
  EXPECT_CONTAINS(message(), "holds 'config.json'");
  remove_tree(folder / "d");
  testing::put_file(folder / "d", "a file");
  EXPECT_CONTAINS(message(), "is no folder");
  EXPECT_EQ(read_file(folder / "d"), "a file");
  EXPECT_EQ(entries(folder.path()), 1u);
}

TEST(AtomicFolder, KeepsAForeignFileThatAppearedMeanwhile) {
  const TemporaryFolder folder;
  fs::create_directory(folder / "d");
  {
    AtomicFolder made(folder / "d", {"a"});
    testing::put_file(made.path() / "a", "new");
    testing::put_file(folder / "d" / "other", "x");
    EXPECT_CONTAINS(error_of<IoError>([&] { made.commit(); }), "holds 'other'");
  }
  EXPECT_EQ(read_file(folder / "d" / "other"), "x");
  EXPECT_EQ(entries(folder / "d"), 1u);
  EXPECT_EQ(entries(folder.path()), 1u);
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

TEST(Files, RemovesTheLeftoversOfAFolder) {
  const TemporaryFolder folder;
  const std::string pid = std::to_string(dead_process());
  fs::create_directories(folder / (".step-00000100.tmp-" + pid) / "sub");
  testing::put_file(folder / (".f.json.tmp-" + pid), "x");
  const std::vector<std::string> kept = {"step-00000100", ".d.tmp-1", ".d.tmp-x", "d.tmp-" + pid,
                                         ".d-" + pid};
  for (const std::string& name : kept) testing::put_file(folder / name, "x");
  remove_leftovers(folder.path());
  EXPECT_EQ(entries(folder.path()), kept.size());
  for (const std::string& name : kept) EXPECT_TRUE(fs::exists(folder / name)) << name;
  EXPECT_CONTAINS(error_of<IoError>([&] { remove_leftovers(folder / "none"); }), "cannot list");
}

TEST(Files, LeftoversAloneLeaveAFolderEmpty) {
  const TemporaryFolder folder;
  EXPECT_TRUE(is_empty_but_for_leftovers(folder.path()));
  testing::put_file(folder / (".f.json.tmp-" + std::to_string(dead_process())), "x");
  EXPECT_TRUE(is_empty_but_for_leftovers(folder.path()));
  testing::put_file(folder / ".f.json.tmp-1", "x");  // of a process that lives
  EXPECT_FALSE(is_empty_but_for_leftovers(folder.path()));
  EXPECT_CONTAINS(error_of<IoError>([&] { is_empty_but_for_leftovers(folder / "none"); }), "cannot list");
}

TEST(AtomicFolder, AReadOnlyParentIsOneClearError) {
  const TemporaryFolder folder;
  fs::create_directory(folder / "locked");
  fs::permissions(folder.path(), fs::perms::all);
  fs::permissions(folder / "locked", fs::perms::all & ~(fs::perms::owner_write | fs::perms::group_write |
                                                        fs::perms::others_write));
  write_file(folder / "secret", "x");
  fs::permissions(folder / "secret", fs::perms::none);
  EXPECT_TRUE(fails_without_privileges([&] { AtomicFolder made(folder / "locked" / "d"); }));
  EXPECT_TRUE(fails_without_privileges([&] { write_file(folder / "locked" / "f", "x"); }));
  EXPECT_TRUE(fails_without_privileges([&] { read_file(folder / "secret"); }));
  EXPECT_TRUE(fs::is_empty(folder / "locked"));
}

// A writer is killed at many moments; whoever looks afterwards finds the old folder or the new one, whole.
TEST(AtomicFolder, KillingTheWriterLeavesTheOldOrTheNew) {
  const TemporaryFolder folder;
  const fs::path target = folder / "d";
  const auto write_version = [&](const std::string& version) {
    AtomicFolder made(target, {"a", "b", "c"});
    for (const char* name : {"a", "b", "c"}) testing::put_file(made.path() / name, version);
    made.commit();
  };
  write_version("0");
  for (int round = 1; round <= 20; ++round) {
    const pid_t writer = ::fork();
    if (writer == 0) {
      for (int version = 1;; ++version) write_version(std::to_string(version));
    }
    ::usleep(static_cast<useconds_t>(round * 700));
    ::kill(writer, SIGKILL);
    ::waitpid(writer, nullptr, 0);
    ASSERT_EQ(entries(target), 3u);
    const std::string version = read_file(target / "a");
    EXPECT_FALSE(version.empty());
    EXPECT_EQ(read_file(target / "b"), version);
    EXPECT_EQ(read_file(target / "c"), version);
  }
  write_version("last");
  EXPECT_EQ(entries(folder.path()), 1u);
}

}  // namespace
}  // namespace exactmamba::core
