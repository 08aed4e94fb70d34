#include "data/line_reader.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/support/files.h"

namespace exactmamba::data {
namespace {

using testing::error_of;
using testing::TemporaryFolder;

TEST(LineReader, RefusesALineBeyondTheLongestAtItsPlace) {
  const TemporaryFolder folder;
  const std::filesystem::path file = folder / "a.txt";
  constexpr size_t kLongest = 200'000;  // several chunks
  const std::string fits(kLongest, 'x');
  for (const std::string end : {"\n", ""}) {
    testing::put_file(file, "first\n" + fits + end);
    LineReader good(file, OnInvalidUtf8::kFail, kLongest);
    std::string line;
    EXPECT_TRUE(good.next(line) && good.next(line));
    EXPECT_EQ(line, fits);
    EXPECT_FALSE(good.next(line));

    testing::put_file(file, "first\n" + fits + "x" + end);
    LineReader bad(file, OnInvalidUtf8::kFail, kLongest);
    EXPECT_TRUE(bad.next(line));
    EXPECT_EQ(error_of<core::InputError>([&] { bad.next(line); }),
              file.string() + ":2: the line is longer than 200000 bytes; split it into shorter ones");
  }
}

}  // namespace
}  // namespace exactmamba::data
