#include "core/stop_signal.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/log.h"

namespace exactmamba::core {
namespace {

TEST(StopSignal, IsRemembered) {
  const StopHandler handler;
  EXPECT_EQ(stop_requested(), 0);
  ::raise(SIGTERM);
  EXPECT_EQ(stop_requested(), SIGTERM);
  try {
    stop_if_asked("testing");
    ADD_FAILURE() << "it went on";
  } catch (const Interrupted& stop) {
    EXPECT_EQ(stop.exit_code(), 128 + SIGTERM);
    EXPECT_STREQ(stop.what(), "stopped while testing; run again to continue");
  }
  clear_stop_request();
  EXPECT_EQ(stop_requested(), 0);
  EXPECT_NO_THROW(stop_if_asked("testing"));
}

TEST(StopSignal, IsAnsweredAtOnceUnlessQuiet) {
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

TEST(StopSignal, EndsTheProcessOnceTheHandlerIsGone) {
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

TEST(StopSignal, TheSecondEndsTheProcess) {
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
