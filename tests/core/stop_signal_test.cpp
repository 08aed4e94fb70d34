#include "core/stop_signal.h"

#include <csignal>
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

TEST_F(StopSignal, TheSecondEndsTheProcess) {
  const pid_t child = ::fork();
  if (child == 0) {
    const StopHandler handler;
    ::raise(SIGINT);
    ::raise(SIGINT);
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 128 + SIGINT);
}

}  // namespace
}  // namespace exactmamba::core
