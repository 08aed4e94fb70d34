#include "core/hash.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/support/files.h"

namespace exactmamba::core {
namespace {

// The value that the XXH3 authors publish for the empty input with seed 0 (xxhsum's sanity tests).
TEST(Hash, KnownAnswer) { EXPECT_EQ(hash_hex(""), "99aa06d3014798d86001c324468d497f"); }

TEST(Hash, FilesHashAsTheirBytes) {
  const testing::TemporaryFolder folder;
  for (const std::string& bytes : {std::string(), std::string("x"), std::string(100000, 'y')}) {
    testing::put_file(folder / "f", bytes);
    EXPECT_EQ(hash_file_hex(folder / "f"), hash_hex(bytes));
  }
  EXPECT_THROW(hash_file_hex(folder / "none"), IoError);
}

}  // namespace
}  // namespace exactmamba::core
