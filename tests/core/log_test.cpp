#include "core/log.h"

#include <algorithm>
#include <cmath>
#include <string>

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

}  // namespace
}  // namespace exactmamba::core
