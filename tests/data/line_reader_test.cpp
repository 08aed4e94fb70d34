#include "data/line_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

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

/// A FIFO: whole lines as they come, in parts and at the end; none is waited for behind the first.
TEST(LineReader, GivesTheLinesThatAreThere) {
  const TemporaryFolder folder;
  const std::string pipe = folder / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  const int both = ::open(pipe.c_str(), O_RDWR);  // opening one end alone would wait for the other
  LineReader reader(pipe);
  const auto write = [](int to, const std::string& text) {
    EXPECT_EQ(::write(to, text.data(), text.size()), static_cast<ssize_t>(text.size()));
  };
  using Lines = std::vector<std::string>;
  write(both, "a\r\n\nb");
  EXPECT_EQ(reader.next_lines(9), (Lines{"a", ""}));
  write(both, "b");
  write(both, "b\nc\nd\ne\n");
  EXPECT_EQ(reader.next_lines(2), (Lines{"bbb", "c"}));
  EXPECT_EQ(reader.where(), pipe + ":4");
  EXPECT_EQ(reader.next_lines(9), (Lines{"d", "e"}));
  write(both, "f\nlast");
  EXPECT_EQ(reader.next_lines(9), Lines{"f"});
  ::close(both);
  EXPECT_EQ(reader.next_lines(9), Lines{"last"});
  EXPECT_FALSE(reader.line_ended());
  EXPECT_EQ(reader.next_lines(9), Lines{});

  testing::put_file(folder / "file", "a\nlonger\nb");
  EXPECT_EQ(LineReader(folder / "file").next_lines(9), (Lines{"a", "longer", "b"}));
  LineReader refusing(folder / "file", OnInvalidUtf8::kFail, 5);
  EXPECT_CONTAINS(error_of<core::InputError>([&] { refusing.next_lines(9); }), "file:2: the line is longer");
}

}  // namespace
}  // namespace exactmamba::data
