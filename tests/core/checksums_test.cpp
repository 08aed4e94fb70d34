#include "core/checksums.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/support/files.h"

namespace exactmamba::core {
namespace {

using testing::error_of;
using testing::put_file;
using testing::TemporaryFolder;

TEST(Checksums, FitUntilAFileChanges) {
  const TemporaryFolder folder;
  put_file(folder / "a", "abc");
  put_file(folder / "b", "");
  write_checksums(folder.path());
  EXPECT_EQ(find_damage(folder.path()), std::nullopt);
  put_file(folder / "other", "x");  // is nobody's business
  EXPECT_EQ(find_damage(folder.path()), std::nullopt);
  put_file(folder / "a", "abd");
  EXPECT_CONTAINS(find_damage(folder.path()).value(),
                  (folder / "a").string() + " is damaged: its checksum is ");
  put_file(folder / "a", "abc");
  put_file(folder / "b", "x");
  EXPECT_CONTAINS(find_damage(folder.path()).value(), (folder / "b").string());
  std::filesystem::remove(folder / "b");
  EXPECT_EQ(find_damage(folder.path()), (folder / "b").string() + " is missing");
}

TEST(Checksums, TheListItselfMayBeDamaged) {
  const TemporaryFolder folder;
  const std::string list = (folder / "checksums.json").string();
  EXPECT_EQ(find_damage(folder.path()), list + " is missing");
  for (const char* text :
       {"", "{", "[]", "{}", R"({"format_version": 1})", R"({"format_version": "1", "files": {}})"}) {
    put_file(list, text);
    EXPECT_TRUE(find_damage(folder.path()).value_or("").starts_with(list)) << text;
  }
  put_file(folder / "a", "abc");
  put_file(list, R"({"format_version": 1, "files": {"a": 3}})");
  EXPECT_CONTAINS(find_damage(folder.path()).value(), "but it was written with 3");
  put_file(list, R"({"format_version": 99, "files": {}})");
  EXPECT_CONTAINS(error_of<InputError>([&] { find_damage(folder.path()); }), "format_version is 99");
}

}  // namespace
}  // namespace exactmamba::core
