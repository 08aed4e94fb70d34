// A folder with the recipe r.toml, whose output is out/, for fixtures that run the program there.
#pragma once

#include <chrono>
#include <filesystem>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "core/json.h"
#include "tests/support/program.h"

namespace exactmamba::cli {

class RecipeFolder {
 protected:
  using Strings = std::vector<std::string>;

  explicit RecipeFolder(const std::string& recipe) { write_recipe(recipe); }
  void write_recipe(const std::string& recipe) const { testing::put_file(folder_ / "r.toml", recipe); }

  /// `sets`: a --set each.
  testing::ProgramOutcome program(Strings arguments, const Strings& sets = {},
                                  const std::string& input = "") const {
    for (const std::string& set : sets) arguments.insert(arguments.end(), {"--set", set});
    return testing::run_program(arguments, {.folder = folder_.path(), .input = input});
  }
  std::string succeed(const Strings& arguments, const Strings& sets = {},
                      const std::string& input = "") const {
    const testing::ProgramOutcome outcome = program(arguments, sets, input);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return outcome.out;
  }
  core::Json json_of(Strings arguments, const Strings& sets = {}) const {
    arguments.push_back("--json");
    return core::parse_json(succeed(arguments, sets), "stdout");
  }

  /// Names of the stage folders of one kind.
  std::set<std::string> stages(const std::string& kind) const {
    std::set<std::string> names;
    std::error_code none_yet;
    for (const auto& entry : std::filesystem::directory_iterator(folder_ / "out/stages", none_yet)) {
      const std::string name = entry.path().filename().string();
      if (name.starts_with(kind + "-")) names.insert(name);
    }
    return names;
  }
  /// The folder of the first one, from where the program runs.
  std::filesystem::path stage(const std::string& kind) const {
    const std::set<std::string> names = stages(kind);
    return names.empty() ? std::filesystem::path() : std::filesystem::path("out/stages") / *names.begin();
  }

  testing::TemporaryFolder folder_;
};

/// Until `ready()`; a failure when `child` ends before.
template <class Ready>
void wait_for(pid_t child, const Ready& ready) {
  while (!ready()) {
    siginfo_t ended = {};
    ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(child), &ended, WEXITED | WNOHANG | WNOWAIT), 0);
    ASSERT_EQ(ended.si_pid, 0) << "it ended, with " << ended.si_status;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

}  // namespace exactmamba::cli
