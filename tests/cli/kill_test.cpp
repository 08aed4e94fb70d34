// kill -9 at random moments of the whole program: run again to its end, it leaves what the undisturbed run
// leaves, byte for byte but for times, and nothing else.
#include "tests/support/kill.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <map>
#include <sstream>

#include <gtest/gtest.h>

#include "core/json.h"
#include "core/random.h"
#include "tests/cli/tiny_recipe.h"
#include "tests/support/program.h"

namespace exactmamba::cli {
namespace {

namespace fs = std::filesystem;
using core::Json;
using Seconds = std::chrono::duration<double>;
using FileClock = fs::file_time_type::clock;

constexpr int kKills = 21;
constexpr int kPhases = 7;  // train, decompose and evaluate of both runs, then the report
constexpr Seconds kPatience{60};

/// On one thread: two sums in another order would not be the same numbers.
const std::string kKilledRecipe = std::string(kTinyRecipe) + R"(
[sweep]
model.conv_activation = ["silu", "identity"]
)";
const std::vector<std::string> kArguments = {"run",
                                             "r.toml",
                                             "--quiet",
                                             "--set",
                                             "run.threads=1",
                                             "--set",
                                             "train.steps=30",
                                             "--set",
                                             "decompose.max_rows=12"};

// ---- what is compared ----

/// Times, and the checksums of files that hold them.
void remove_times(Json& value) {
  if (value.is_object())
    for (const char* key : {"elapsed_seconds", "tokens_per_second", "checksum", "trainer.json"})
      value.erase(key);
  if (value.is_structured())
    for (Json& part : value) remove_times(part);
}

std::string without_times(const std::string& text) {
  Json value = Json::parse(text);
  remove_times(value);
  return value.dump();
}

std::string comparable(const fs::path& file) {
  const std::string text = testing::content_of(file);
  if (file.extension() == ".json") return without_times(text);
  if (file.extension() != ".jsonl") return text;
  std::istringstream lines(text);
  std::string all;
  for (std::string line; std::getline(lines, line);) all += without_times(line) + '\n';
  return all;
}

/// Path → content of all that a run left; folders have none.
std::map<std::string, std::string> result_of(const fs::path& output) {
  std::map<std::string, std::string> files;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(output))
    files[entry.path().lexically_relative(output)] = entry.is_regular_file() ? comparable(entry.path()) : "";
  return files;
}

// ---- when it is killed ----

/// When each finished stage ended, in order.
std::vector<fs::file_time_type> ends_of_stages(const fs::path& output) {
  std::vector<fs::file_time_type> ends;
  std::error_code none_yet;
  for (fs::directory_iterator entry(output / "stages", none_yet), end; entry != end;
       entry.increment(none_yet)) {
    const fs::file_time_type time = fs::last_write_time(entry->path() / "stage.json", none_yet);
    if (!none_yet) ends.push_back(time);
  }
  std::sort(ends.begin(), ends.end());
  return ends;
}

/// Duration of every phase of the undisturbed run, the first from where it begins to write.
std::vector<Seconds> phases_of(const fs::path& output) {
  std::vector<Seconds> phases;
  fs::file_time_type begin = fs::last_write_time(output / "run.json");
  for (const fs::file_time_type end : ends_of_stages(output)) {
    phases.push_back(end - begin);
    begin = end;
  }
  phases.push_back(FileClock::now() - begin);
  return phases;
}

class KillTest : public ::testing::Test {
 protected:
  KillTest() { fs::create_directory(folder_ / "undisturbed"); }

  pid_t start(const fs::path& where) const {
    testing::put_file(where / "r.toml", kKilledRecipe);
    return testing::start_program(kArguments, {.folder = where}, streams_);
  }

  void run_to_the_end(const fs::path& where) const {
    const testing::ProgramOutcome outcome = testing::finish_program(start(where), streams_);
    ASSERT_EQ(outcome.code, 0) << outcome.err;
  }

  /// Starts the program and kills it `delay` after it has begun phase `phase`; false when it ended before.
  bool killed_in_phase(const fs::path& where, size_t phase, Seconds delay) const {
    const auto before = FileClock::now();
    const auto begun = [&] {
      std::error_code none_yet;
      const auto written = fs::last_write_time(where / "out/run.json", none_yet);
      return !none_yet && written >= before && ends_of_stages(where / "out").size() >= phase;
    };
    const pid_t child = start(where);
    while (!begun()) {
      if (FileClock::now() - before > kPatience) {
        ADD_FAILURE() << "phase " << phase << " does not begin: " << testing::content_of(streams_ / "err");
        break;
      }
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    return testing::killed_after(child, delay);
  }

  testing::TemporaryFolder folder_, streams_;
};

TEST_F(KillTest, RunLeavesWhatTheUndisturbedRunLeaves) {
  run_to_the_end(folder_ / "undisturbed");
  const std::vector<Seconds> phases = phases_of(folder_ / "undisturbed/out");
  ASSERT_EQ(phases.size(), kPhases);
  const auto expected = result_of(folder_ / "undisturbed/out");
  ASSERT_TRUE(expected.count("report.json"));

  core::RandomStream random(31, "moments of kill");
  int killed = 0;
  for (int round = 0; killed < kKills; ++round) {
    ASSERT_LT(round, 2 * kKills / kPhases) << "the program ends before it can be killed";
    const fs::path where = folder_ / fmt::format("round-{}", round);
    fs::create_directory(where);
    for (size_t phase = 0; phase < kPhases; ++phase)
      killed += killed_in_phase(where, phase, phases[phase] * random.uniform(0.0, 1.0));
    run_to_the_end(where);
    const auto found = result_of(where / "out");
    for (const auto& [file, content] : expected)
      EXPECT_TRUE(found.count(file) && found.at(file) == content) << "round " << round << ": " << file;
    for (const auto& [file, content] : found) EXPECT_TRUE(expected.count(file)) << "left behind: " << file;
    fs::remove_all(where);
  }
}

}  // namespace
}  // namespace exactmamba::cli
