#include "core/log.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <pty.h>
#include <string>
#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

namespace exactmamba::core {
namespace {

using ::testing::internal::CaptureStderr;
using ::testing::internal::GetCapturedStderr;

TEST(Log, HumanNumbers) {
  EXPECT_EQ(human_count(0), "0");
  EXPECT_EQ(human_count(999), "999");
  EXPECT_EQ(human_count(1234567), "1.23 M");
  EXPECT_EQ(human_count(999999), "1.00 M");
  EXPECT_EQ(human_bytes(512), "512 B");
  EXPECT_EQ(human_bytes(1.5 * 1024 * 1024 * 1024), "1.50 GiB");
  EXPECT_EQ(human_duration(75), "1m15s");
  EXPECT_EQ(human_duration(0.4), "0m00s");
  EXPECT_EQ(human_duration(3600 * 26 + 60), "1d02h");
  EXPECT_EQ(human_duration(3700), "1h01m");
  EXPECT_EQ(human_duration(1.0 / 0.0), "?");
}

TEST(Log, QuietSilencesAllButWarnings) {
  set_verbosity(Verbosity::kQuiet);
  CaptureStderr();
  log_info("hello");
  log_warning("careful");
  { Progress("train", 10, "tok").update(5, 100); }
  EXPECT_EQ(GetCapturedStderr(), "warning: careful\n");
  set_verbosity(Verbosity::kNormal);
  CaptureStderr();
  log_info("hello");
  EXPECT_EQ(GetCapturedStderr(), "hello\n");
}

TEST(Log, InALogProgressIsThePlainFirstAndLastLine) {
  CaptureStderr();
  {
    Progress progress("train", 1000, "tok");
    for (int step = 1; step <= 1000; ++step) progress.update(step, 32.0 * step, "loss 1.234");
  }
  const std::string text = GetCapturedStderr();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2) << text;
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  EXPECT_TRUE(text.starts_with("train  1/1000  0 %  ")) << text;
  EXPECT_NE(text.find("\ntrain  1000/1000  100 %  "), std::string::npos) << text;
  EXPECT_NE(text.find(" tok/s  0m00s < 0m00s  loss 1.234\n"), std::string::npos) << text;
}

/// What a terminal of so many columns gets from `work`.
template <class Work>
std::string on_terminal(unsigned short columns, const Work& work) {
  winsize size = {.ws_row = 24, .ws_col = columns, .ws_xpixel = 0, .ws_ypixel = 0};
  int terminal = -1;
  const pid_t child = ::forkpty(&terminal, nullptr, nullptr, &size);
  if (child == 0) {
    ::setenv("TERM", "xterm", 1);
    work();
    ::_exit(0);
  }
  std::string text;
  char chunk[4096];
  for (ssize_t n = 0; (n = ::read(terminal, chunk, sizeof chunk)) > 0;)
    text.append(chunk, static_cast<size_t>(n));
  ::close(terminal);
  ::waitpid(child, nullptr, 0);
  return text;
}

/// The progress line of a training in its last state, as a terminal of so many columns shows it.
std::string progress_line(unsigned short columns) {
  const std::string text = on_terminal(columns, [] {
    Progress("train", 200000, "tok", 199999)
        .update(200000, 64.0, "loss 1.2345  grad norm 0.123  lr 1.00e-03  alpha 1.000  5 targets");
  });
  const size_t last = text.rfind("\x1b[K") + 3;
  return text.substr(last, text.find('\r', last) - last);
}

TEST(Log, ProgressFitsTheTerminal) {
  for (const unsigned short columns : {200, 120, 100, 80, 60, 40, 20}) {
    const std::string line = progress_line(columns);
    EXPECT_LT(line.size(), columns) << line;
    EXPECT_TRUE(line.ends_with(" < 0m00s") || line.ends_with("loss 1.2345") || columns > 80) << line;
    if (columns >= 40) {
      EXPECT_NE(line.find(" tok/s"), std::string::npos) << line;
    }
  }
  EXPECT_NE(progress_line(200).find("loss 1.2345  grad norm 0.123  lr 1.00e-03  alpha 1.000  5 targets"),
            std::string::npos);
  EXPECT_NE(progress_line(80).find("100 %"), std::string::npos);
}

TEST(Log, ProgressOfAnUnknownTotalCounts) {
  const std::string text =
      on_terminal(80, [] { Progress("reading", Progress::kUnknownTotal, "line").update(51200, 51200); });
  EXPECT_NE(text.find("reading  51.20 k  "), std::string::npos) << text;
  EXPECT_NE(text.find("line/s  0m00s"), std::string::npos) << text;
  EXPECT_EQ(text.find('%'), std::string::npos) << text;
}

TEST(Log, KnowsTheWidthOfATerminal) {
  EXPECT_EQ(on_terminal(93, [] { std::printf("%zu", terminal_columns(STDOUT_FILENO)), std::fflush(stdout); }),
            "93");
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  EXPECT_EQ(terminal_columns(ends[1]), 0u);
  ::close(ends[0]);
  ::close(ends[1]);
}

}  // namespace
}  // namespace exactmamba::core
