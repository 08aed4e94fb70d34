#include "core/environment.h"

#include <stdlib.h>

#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/support/files.h"

namespace exactmamba::core {
namespace {

using testing::error_of;

class EnvironmentVariables : public ::testing::Test {
 protected:
  void SetUp() override { ::setenv("EXACTMAMBA_TEST_1", "/data", 1); }
  void TearDown() override { ::unsetenv("EXACTMAMBA_TEST_1"); }
};

TEST_F(EnvironmentVariables, IsExpandedAtTheStartOnly) {
  EXPECT_EQ(expand_environment("$EXACTMAMBA_TEST_1/a.txt"), "/data/a.txt");
  EXPECT_EQ(expand_environment("${EXACTMAMBA_TEST_1}-2/a.txt"), "/data-2/a.txt");
  EXPECT_EQ(expand_environment("$EXACTMAMBA_TEST_1"), "/data");
  EXPECT_EQ(expand_environment("a/$EXACTMAMBA_TEST_1"), "a/$EXACTMAMBA_TEST_1");
  EXPECT_EQ(expand_environment(""), "");
}

TEST_F(EnvironmentVariables, ATildeIsTheHomeFolder) {
  const char* home = std::getenv("HOME");
  const std::string before = home != nullptr ? home : "";
  ::setenv("HOME", "/home/x", 1);
  EXPECT_EQ(expand_environment("~"), "/home/x");
  EXPECT_EQ(expand_environment("~/a.txt"), "/home/x/a.txt");
  EXPECT_EQ(expand_environment("~a/b"), "~a/b");
  EXPECT_EQ(expand_environment("a/~"), "a/~");
  ::setenv("HOME", before.c_str(), 1);
}

TEST_F(EnvironmentVariables, UnsetAndMalformedNamesAreRefused) {
  const auto refusal = [](const std::string& name) {
    return error_of<InputError>([&] { expand_environment(name); });
  };
  EXPECT_CONTAINS(refusal("$EXACTMAMBA_TEST_2/a"), "EXACTMAMBA_TEST_2 is not set");
  ::setenv("EXACTMAMBA_TEST_1", "", 1);
  EXPECT_CONTAINS(refusal("$EXACTMAMBA_TEST_1/a"), "EXACTMAMBA_TEST_1 is not set");
  for (const std::string name : {"$", "$/a", "${}", "${EXACTMAMBA_TEST_1/a", "${EXACTMAMBA TEST}"}) {
    EXPECT_CONTAINS(refusal(name), "expected $NAME or ${NAME}");
  }
}

}  // namespace
}  // namespace exactmamba::core
