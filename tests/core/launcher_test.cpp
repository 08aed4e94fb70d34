// The launcher, with shell scripts as ranks.
#include "core/distributed/launcher.h"

#include <chrono>
#include <csignal>
#include <future>
#include <initializer_list>
#include <set>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/files.h"
#include "tests/support/disposition.h"
#include "tests/support/files.h"

namespace exactmamba::core {
namespace {

using Clock = std::chrono::steady_clock;
using testing::Disposition;
using testing::TemporaryFolder;

Launch script(const std::string& text, int processes) {
  Launch launch;
  launch.command = {"/bin/sh", "-c", text};
  launch.processes = processes;
  launch.patience = std::chrono::milliseconds(300);
  return launch;
}

struct Failure {
  int code = 0;
  std::string message, err;
};

Failure failure_of(const Launch& started) {
  Failure failure;
  ::testing::internal::CaptureStderr();
  try {
    launch(started);
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    failure.code = error.exit_code();
    failure.message = error.what();
  }
  failure.err = ::testing::internal::GetCapturedStderr();
  return failure;
}

TEST(Launcher, TellsEachProcessWhichItIs) {
  const TemporaryFolder folder;
  Launch started = script(
      "echo $RANK $LOCAL_RANK $WORLD_SIZE $MASTER_ADDR $COLOUR $OMP_NUM_THREADS > $FOLDER/$RANK; "
      "echo $MASTER_PORT > $FOLDER/port-$RANK",
      3);
  started.environment = {{"COLOUR", "green"}, {"FOLDER", folder.path().string()}};
  ::unsetenv("OMP_NUM_THREADS");
  launch(started);
  const std::string threads = std::to_string(std::max(std::thread::hardware_concurrency() / 3, 1U));
  std::set<std::string> ports;
  for (const std::string rank : {"0", "1", "2"}) {
    EXPECT_EQ(read_file(folder / rank), rank + " " + rank + " 3 127.0.0.1 green " + threads + "\n");
    ports.insert(read_file(folder / ("port-" + rank)));
  }
  EXPECT_EQ(ports.size(), 1u);
}

TEST(Launcher, HonoursTheExitCodeOfTheFirstToFailAndShowsWhatItSaid) {
  const Failure failure =
      failure_of(script("echo from $RANK >&2; if [ $RANK = 1 ]; then exit 3; fi; exec sleep 60", 3));
  EXPECT_EQ(failure.code, 3);
  EXPECT_EQ(failure.message, "rank 1 of 3 ended with exit code 3; the others were ended");
  EXPECT_EQ(failure.err.find("from 2"), std::string::npos);
  EXPECT_CONTAINS(failure.err, "rank 1: from 1\n");
}

TEST(Launcher, TellsTheSignalThatEndedARank) {
  const auto begin = Clock::now();
  const Failure failure = failure_of(script("if [ $RANK = 2 ]; then kill -9 $$; fi; exec sleep 60", 3));
  EXPECT_EQ(failure.code, 5);
  EXPECT_EQ(failure.message, "rank 2 of 3 was ended by signal 9 (Killed); the others were ended");
  EXPECT_LT(Clock::now() - begin, std::chrono::seconds(20));
}

// As those that still meet would not hear of it by themselves. They are blamed for nothing.
TEST(Launcher, AsksTheOthersToStopAtOnceWhenASignalEndedARank) {
  Launch started = script("if [ $RANK = 1 ]; then sleep 0.1; kill -9 $$; fi; exec sleep 30", 3);
  started.patience = std::chrono::seconds(30);
  const auto begin = Clock::now();
  const Failure failure = failure_of(started);
  EXPECT_EQ(failure.code, 5);
  EXPECT_EQ(failure.message, "rank 1 of 3 was ended by signal 9 (Killed); the others were ended");
  EXPECT_LT(Clock::now() - begin, std::chrono::seconds(15));
}

TEST(Launcher, BlamesTheRankThatFailedAndNotThoseThatLostIt) {
  const Failure failure = failure_of(script("if [ $RANK = 1 ]; then sleep 0.1; exit 4; fi; exit 5", 3));
  EXPECT_EQ(failure.code, 4);
  EXPECT_CONTAINS(failure.message, "rank 1 of 3");
}

// The others heard of it from that rank, and may end before it.
TEST(Launcher, TellsWhichRankWasAskedToStop) {
  const Failure failure = failure_of(script("if [ $RANK = 1 ]; then sleep 0.1; exit 130; fi; exit 129", 3));
  EXPECT_EQ(failure.code, 130);
  EXPECT_EQ(failure.message, "rank 1 of 3 was asked to stop by signal 2 (Interrupt), and the others with it");
  const Failure unknown = failure_of(script("exit 129", 2));
  EXPECT_EQ(unknown.code, 129);
  EXPECT_EQ(unknown.message, "all 2 processes have stopped");
}

TEST(Launcher, WaitsForOthersWhenOneEndsWell) {
  const TemporaryFolder folder;
  Launch started = script("[ $RANK = 1 ] || { sleep 0.5; touch $FOLDER/done; }", 2);
  started.environment = {{"FOLDER", folder.path().string()}};
  launch(started);
  EXPECT_TRUE(std::filesystem::exists(folder / "done"));
}

/// launch() in a child process, beside a thread that knows nothing of it. The child is sent `signals` when
/// the ranks have said that they are there.
int code_after(std::initializer_list<int> signals, const Launch& started, const TemporaryFolder& folder) {
  const pid_t child = ::fork();
  if (child == 0) {
    int code = 0;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // where the test itself is killed, nobody else would end it
    std::thread([] { ::pause(); }).detach();
    try {
      launch(started);
    } catch (const Error& error) {
      code = error.exit_code();
    }
    ::_exit(code);
  }
  while (!std::filesystem::exists(folder / "ready-0") || !std::filesystem::exists(folder / "ready-1"))
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  for (const int signal : signals) ::kill(child, signal);
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/// Ranks that note in $FOLDER that they were asked to stop, and end with exit code `code`.
Launch stoppable(const TemporaryFolder& folder, int code) {
  Launch started = script(fmt::format("trap 'echo x >> $FOLDER/stopped-$RANK; exit {}' HUP; "
                                      "touch $FOLDER/ready-$RANK; while :; do sleep 0.02; done",
                                      code),
                          2);
  started.environment = {{"FOLDER", folder.path().string()}};
  return started;
}

TEST(Launcher, AsksAllToStopOnce) {
  const Disposition as_in_a_terminal(SIGHUP, SIG_DFL);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    const TemporaryFolder folder;
    EXPECT_EQ(code_after({signal}, stoppable(folder, 128 + SIGHUP), folder), 128 + signal);
    EXPECT_EQ(read_file(folder / "stopped-0"), "x\n");
    EXPECT_EQ(read_file(folder / "stopped-1"), "x\n");
  }
}

TEST(Launcher, AHangUpUnderNohupIsNoRequest) {
  const Disposition nohup(SIGHUP, SIG_IGN);
  const TemporaryFolder folder;
  EXPECT_EQ(code_after({SIGHUP, SIGTERM}, stoppable(folder, 128 + SIGHUP), folder), 128 + SIGTERM);
}

/// Ranks that go on for `rounds` of 20 ms when they were asked to stop.
Launch slow_to_stop(const TemporaryFolder& folder, int rounds) {
  Launch started = script(
      "trap ': ${LEFT:=$ROUNDS}' HUP; touch $FOLDER/ready-$RANK; "
      "while [ \"$LEFT\" != 0 ]; do sleep 0.02; LEFT=${LEFT:+$((LEFT - 1))}; done; "
      "touch $FOLDER/done-$RANK; exit 129",
      2);
  started.environment = {{"FOLDER", folder.path().string()}, {"ROUNDS", std::to_string(rounds)}};
  started.patience = std::chrono::seconds(20);  // they need not end together
  return started;
}

// Of two signals that are sent together either may be heard first.
TEST(Launcher, TheSecondRequestEndsTheRanks) {
  const TemporaryFolder folder;
  const auto begin = Clock::now();
  EXPECT_GT(code_after({SIGINT, SIGTERM}, slow_to_stop(folder, 3000), folder), 128);
  EXPECT_LT(Clock::now() - begin, std::chrono::seconds(20));
}

TEST(Launcher, AHangUpIsNoSecondRequest) {
  const Disposition as_in_a_terminal(SIGHUP, SIG_DFL);
  const TemporaryFolder folder;
  EXPECT_GT(code_after({SIGTERM, SIGHUP}, slow_to_stop(folder, 20), folder), 128);
  EXPECT_TRUE(std::filesystem::exists(folder / "done-0"));
  EXPECT_TRUE(std::filesystem::exists(folder / "done-1"));
}

// As ranks do that still meet the others: they have no handler, and this process may be a shell's job in the
// background, which ignores Ctrl-C.
TEST(Launcher, RanksWithoutAHandlerAreEndedByARequestThatWasIgnoredBefore) {
  for (const int signal : {SIGINT, SIGTERM}) {
    const Disposition in_the_background(signal, SIG_IGN);
    const TemporaryFolder folder;
    Launch started = script("touch $FOLDER/ready-$RANK; exec sleep 30", 2);
    started.environment = {{"FOLDER", folder.path().string()}};
    const auto begin = Clock::now();
    EXPECT_EQ(code_after({signal}, started, folder), 128 + signal);
    EXPECT_LT(Clock::now() - begin, std::chrono::seconds(15));
  }
}

TEST(Launcher, TellsAFailureThatCameWithAStop) {
  const TemporaryFolder folder;
  Launch started = script(
      "trap \"exit $((RANK == 0 ? 3 : 129))\" HUP; touch $FOLDER/ready-$RANK; while :; do sleep 0.02; done",
      2);
  started.environment = {{"FOLDER", folder.path().string()}};
  EXPECT_EQ(code_after({SIGTERM}, started, folder), 3);
}

TEST(Launcher, RanksThatLostEachOtherWhenTheyWereAskedToStopHaveFailed) {
  const TemporaryFolder folder;
  EXPECT_EQ(code_after({SIGTERM}, stoppable(folder, 5), folder), 5);
}

TEST(Launcher, HearsOfTheEndOfItsRanksAlsoWhereThatSignalWasIgnored) {
  const auto before = std::signal(SIGCHLD, SIG_IGN);
  EXPECT_EQ(failure_of(script("exit $RANK", 2)).code, 1);
  EXPECT_EQ(std::signal(SIGCHLD, before), SIG_IGN);  // as it was found
}

TEST(Launcher, HearsOfTheEndOfItsRanksAlsoWhereThatSignalWasBlocked) {
  sigset_t child, before, after;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  pthread_sigmask(SIG_BLOCK, &child, &before);
  EXPECT_EQ(failure_of(script("sleep 0.1; exit $RANK", 2)).code, 1);
  pthread_sigmask(SIG_SETMASK, &before, &after);
  EXPECT_EQ(sigismember(&after, SIGCHLD), 1);  // as it was found
}

// A signal may come to any thread of the process, also to one that knows nothing of the launcher.
TEST(Launcher, HearsOfTheEndOfItsRanksWhereOtherThreadsRun) {
  std::promise<void> done;
  const auto other = std::async(std::launch::async, [&done] { done.get_future().wait(); });
  const auto begin = Clock::now();
  for (int round = 0; round < 50; ++round) {
    Launch started = script("[ $RANK = 0 ] || exec sleep 20; exit 3", 2);
    started.patience = std::chrono::milliseconds(0);
    EXPECT_EQ(failure_of(started).code, 3);
    if (Clock::now() - begin > std::chrono::seconds(15)) break;
  }
  EXPECT_LT(Clock::now() - begin, std::chrono::seconds(15));
  done.set_value();
}

TEST(Launcher, ItsOwnDeathAsksTheRanksToStopAlsoUnderNohup) {
  const auto stopped = [](const TemporaryFolder& folder, const std::string& rank) {
    for (int i = 0; i < 2000 && !std::filesystem::exists(folder / ("stopped-" + rank)); ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    return std::filesystem::exists(folder / ("stopped-" + rank));
  };
  for (const auto hang_up : {SIG_DFL, SIG_IGN}) {
    const Disposition found(SIGHUP, hang_up);
    const TemporaryFolder folder;
    EXPECT_EQ(code_after({SIGKILL}, stoppable(folder, 1), folder), -SIGKILL);
    EXPECT_TRUE(stopped(folder, "0"));
    EXPECT_TRUE(stopped(folder, "1"));
  }
}

TEST(Launcher, AProgramThatIsNotThereFails) {
  Launch started;
  started.command = {"/nonexistent"};
  EXPECT_EQ(failure_of(started).code, 127);
}

}  // namespace
}  // namespace exactmamba::core
