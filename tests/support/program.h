// Runs the program that was built, as a user would.
#pragma once

#include <cstdio>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <signal.h>
#include <stdlib.h>
#include <string>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/files.h"
#include "tests/support/files.h"

namespace exactmamba::testing {

struct ProgramOutcome {
  int code = 0;  // exit code; -signal when a signal ended it
  std::string out, err;
};

struct ProgramSetting {
  std::filesystem::path folder = ".";  // working directory
  std::string input = {};              // stdin
  std::string stdin_file = {};         // instead of input: a pipe
  std::string stdout_file = {};        // instead of keeping stdout: "/dev/full"
  rlim_t file_limit = RLIM_INFINITY;   // bytes of a file, as on a full disk
  std::vector<std::pair<std::string, std::string>> environment = {};  // beside this process's
};

/// "" when the file cannot be read.
inline std::string content_of(const std::filesystem::path& file) {
  try {
    return core::read_file(file);
  } catch (const core::IoError&) {
    return "";
  }
}

/// Starts the program with its three streams in files of `streams`; returns the process id.
inline pid_t start_program(const std::vector<std::string>& arguments, const ProgramSetting& setting,
                           const TemporaryFolder& streams) {
  std::ofstream(streams / "in") << setting.input;
  const std::string out = setting.stdout_file.empty() ? (streams / "out").string() : setting.stdout_file;
  const std::string in = setting.stdin_file.empty() ? (streams / "in").string() : setting.stdin_file;
  const std::string err = (streams / "err").string();
  std::vector<char*> argv = {const_cast<char*>(EXACTMAMBA_PROGRAM)};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  const pid_t child = ::fork();
  if (child != 0) return child;
  const auto redirect = [](const std::string& file, int flags, int to) {
    const int from = ::open(file.c_str(), flags, 0600);
    if (from < 0 || ::dup2(from, to) < 0) ::_exit(126);
  };
  redirect(in, O_RDONLY, 0);
  redirect(out, O_WRONLY | O_CREAT | O_TRUNC, 1);
  redirect(err, O_WRONLY | O_CREAT | O_TRUNC, 2);
  for (const auto& [name, value] : setting.environment) ::setenv(name.c_str(), value.c_str(), 1);
  const rlimit limit{setting.file_limit, setting.file_limit};
  ::signal(SIGXFSZ, SIG_DFL);  // as a shell starts it
  if (::chdir(setting.folder.c_str()) != 0 || ::setrlimit(RLIMIT_FSIZE, &limit) != 0) ::_exit(126);
  ::execv(argv[0], argv.data());
  ::_exit(127);
}

inline ProgramOutcome finish_program(pid_t child, const TemporaryFolder& streams) {
  int status = 0;
  ::waitpid(child, &status, 0);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status), content_of(streams / "out"),
          content_of(streams / "err")};
}

inline ProgramOutcome run_program(const std::vector<std::string>& arguments,
                                  const ProgramSetting& setting = {}) {
  const TemporaryFolder streams;
  return finish_program(start_program(arguments, setting, streams), streams);
}

}  // namespace exactmamba::testing
