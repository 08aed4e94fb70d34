#include "core/stop_signal.h"

#include <csignal>
#include <initializer_list>
#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/log.h"

namespace exactmamba::core {
namespace {

/// With SIGHUP as in a terminal: the tests themselves may run under nohup.
class StopSignal : public ::testing::Test {
 protected:
  StopSignal() : hang_up_before_(std::signal(SIGHUP, SIG_DFL)) {}
  ~StopSignal() override { std::signal(SIGHUP, hang_up_before_); }

 private:
  void (*hang_up_before_)(int);
};

TEST_F(StopSignal, IsRemembered) {
  const StopHandler handler;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    EXPECT_EQ(stop_requested(), 0);
    ::raise(signal);
    EXPECT_EQ(stop_requested(), signal);
    try {
      stop_if_asked("testing");
      ADD_FAILURE() << "it went on";
    } catch (const Interrupted& stop) {
      EXPECT_EQ(stop.exit_code(), 128 + signal);
      EXPECT_STREQ(stop.what(), "stopped while testing; run again to continue");
    }
    clear_stop_request();
    EXPECT_NO_THROW(stop_if_asked("testing"));
  }
}

TEST_F(StopSignal, AClosedTerminalMaySaySoTwice) {
  const StopHandler handler;
  ::raise(SIGHUP);
  ::raise(SIGHUP);
  EXPECT_EQ(stop_requested(), SIGHUP);
  clear_stop_request();
}

TEST_F(StopSignal, AClosedTerminalIsIgnoredUnderNohup) {
  std::signal(SIGHUP, SIG_IGN);
  {
    const StopHandler handler;
    ::raise(SIGHUP);
    EXPECT_EQ(stop_requested(), 0);
  }
  EXPECT_EQ(std::signal(SIGHUP, SIG_DFL), SIG_IGN);
}

TEST_F(StopSignal, IsAnsweredAtOnceUnlessQuiet) {
  const StopHandler handler;
  for (const auto& [verbosity, answer] :
       {std::pair{Verbosity::kNormal, "stopping after this step; again to stop now\n"},
        {Verbosity::kQuiet, ""}}) {
    set_verbosity(verbosity);
    ::testing::internal::CaptureStderr();
    ::raise(SIGINT);
    EXPECT_EQ(::testing::internal::GetCapturedStderr(), answer);
    clear_stop_request();
  }
  set_verbosity(Verbosity::kNormal);
}

TEST_F(StopSignal, EndsTheProcessOnceTheHandlerIsGone) {
  const pid_t child = ::fork();
  if (child == 0) {
    { const StopHandler handler; }
    ::raise(SIGTERM);
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGTERM);
}

/// The exit code of a process that is sent `signals`; it ends by itself with what it then heard of.
int code_after(std::initializer_list<int> signals) {
  const pid_t child = ::fork();
  if (child == 0) {
    const StopHandler handler;
    for (const int signal : signals) ::raise(signal);
    ::_exit(stop_requested());
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status));
  return WEXITSTATUS(status);
}

TEST_F(StopSignal, TheSecondEndsTheProcess) {
  EXPECT_EQ(code_after({SIGINT, SIGINT}), 128 + SIGINT);
  EXPECT_EQ(code_after({SIGINT, SIGTERM}), 128 + SIGTERM);
}

TEST_F(StopSignal, AClosedTerminalIsNeitherTheFirstNorTheSecond) {
  EXPECT_EQ(code_after({SIGINT, SIGHUP, SIGHUP}), SIGINT);
  EXPECT_EQ(code_after({SIGHUP, SIGTERM}), SIGHUP);
  EXPECT_EQ(code_after({SIGHUP, SIGTERM, SIGHUP, SIGTERM}), 128 + SIGTERM);
}

}  // namespace
}  // namespace exactmamba::core
