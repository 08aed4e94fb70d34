// Tests that need a GPU: where there is none the program says so and exits with 77, which ctest counts as
// skipped.
#include <cstdio>

#include <ATen/Context.h>
#include <gtest/gtest.h>

#include "core/device.h"
#include "core/error.h"
#include "core/gpu.h"

namespace {

/// The same numbers whatever else runs; others with --gtest_random_seed.
class SeedEveryTest : public ::testing::EmptyTestEventListener {
  void OnTestStart(const ::testing::TestInfo&) override {
    at::manual_seed(static_cast<uint64_t>(GTEST_FLAG_GET(random_seed)));
  }
};

}  // namespace

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  const exactmamba::core::Gpus gpus = exactmamba::core::find_gpus();
  if (gpus.count == 0) {
    std::printf("skipped: %s\n", gpus.reason.c_str());
    return 77;
  }
  ::testing::UnitTest::GetInstance()->listeners().Append(new SeedEveryTest);
  try {
    exactmamba::core::device_from_name("cuda");
  } catch (const exactmamba::core::Error& error) {
    std::printf("%s\n", error.what());
    return error.exit_code();
  }
  return RUN_ALL_TESTS();
}
