#include "core/metrics_log.h"

#include <limits>

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/files.h"
#include "tests/support/files.h"

namespace exactmamba::core {
namespace {

using testing::error_of;
using testing::TemporaryFolder;

TEST(MetricsLog, AResumedRunCutsWhatCameAfterItsCheckpoint) {
  const TemporaryFolder folder;
  const auto file = folder / "metrics.jsonl";
  {
    MetricsLog log(file, 0);
    for (int step = 1; step <= 4; ++step) log.write({{"step", step}, {"loss", 1.0 / step}});
    log.write({{"note", "without a step"}});
    EXPECT_EQ(read_metrics(file).size(), 5u);  // flushed line by line
  }
  {
    MetricsLog log(file, 2);
    log.write({{"step", 3}, {"loss", std::numeric_limits<double>::quiet_NaN()}});
  }
  EXPECT_EQ(read_file(file),
            "{\"step\":1,\"loss\":1.0}\n{\"step\":2,\"loss\":0.5}\n{\"note\":\"without a step\"}\n"
            "{\"step\":3,\"loss\":{\"__float__\":\"NaN\"}}\n");
}

TEST(MetricsLog, ATornLastLineIsDropped) {
  const TemporaryFolder folder;
  const auto file = folder / "metrics.jsonl";
  testing::put_file(file, "{\"step\":1}\n{\"step\":2}\n{\"st");
  EXPECT_EQ(read_metrics(file).size(), 2u);
  { const MetricsLog log(file, 5); }
  EXPECT_EQ(read_file(file), "{\"step\":1}\n{\"step\":2}\n");
}

TEST(MetricsLog, ErrorsNameFileAndLine) {
  const TemporaryFolder folder;
  const auto file = folder / "metrics.jsonl";
  testing::put_file(file, "{\"step\":1}\n{\"step\":}\n[]\n");
  EXPECT_CONTAINS(error_of<InputError>([&] { read_metrics(file); }), "metrics.jsonl:2:9: ");
  testing::put_file(file, "[]\n");
  EXPECT_CONTAINS(error_of<InputError>([&] { MetricsLog log(file, 5); }),
                  "metrics.jsonl:1: expected an object");
  EXPECT_CONTAINS(error_of<IoError>([&] { MetricsLog log(folder / "none" / "m", 0); }),
                  "No such file or directory");
  EXPECT_CONTAINS(error_of<IoError>([&] { read_metrics(folder / "none"); }), "No such file or directory");
  EXPECT_THROW(MetricsLog("/dev/full", 0).write({{"step", 1}}), IoError);
}

}  // namespace
}  // namespace exactmamba::core
