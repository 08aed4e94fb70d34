#include "core/stage.h"

#include <cstdlib>
#include <fstream>

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/schema.h"
#include "core/version.h"

namespace exactmamba::core {
namespace {

class StageTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "stage-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    output_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(output_); }
  std::filesystem::path output_;
};

/// The stage of a recipe with these options: "train" reads [train] only.
std::string train_name(const std::string& recipe, const std::string& data = "d0") {
  double lr = 1e-3;
  std::string theme = "light";
  int64_t prefetch = 2;
  Schema schema;
  schema.option("train.lr", &lr);
  schema.option("train.prefetch", &prefetch).cosmetic();
  schema.option("report.theme", &theme);
  schema.load(recipe, "r.toml", {});
  return Stage("out", "train", schema.canonical({"train"}), {{"data", data}}).name();
}

TEST_F(StageTest, NameFollowsWhatAffectsTheResultOnly) {
  const std::string name = train_name("");
  EXPECT_EQ(name.size(), std::string("train-").size() + 12);
  EXPECT_EQ(name, train_name("[report]\ntheme = 'dark'"));
  EXPECT_EQ(name, train_name("train.prefetch = 9"));
  EXPECT_EQ(name, train_name("train.lr = 0.001"));
  EXPECT_NE(name, train_name("train.lr = 0.002"));
  EXPECT_NE(name, train_name("", "d1"));
  EXPECT_NE(name, Stage("out", "evaluate", Json::object(), {}).name());
}

TEST_F(StageTest, IsDoneOnlyAfterFinish) {
  const Stage stage(output_, "train", {{"train.lr", 0.1}}, {{"data", "d0"}});
  EXPECT_EQ(stage.folder(), output_ / "stages" / stage.name());
  EXPECT_FALSE(stage.done());
  const FileLock lock = stage.prepare();
  EXPECT_FALSE(stage.done());
  stage.finish({{"loss", 1.5}});
  EXPECT_TRUE(stage.done());
  EXPECT_EQ(stage.result(), (Json{{"loss", 1.5}}));
  const Json record = read_json(stage.folder() / "stage.json");
  EXPECT_EQ(record["kind"], "train");
  EXPECT_EQ(stage.program_version(), version());
  EXPECT_EQ(record["inputs"]["data"], "d0");
  EXPECT_EQ(record["options"]["train.lr"], 0.1);
  Json older = record;
  older["program_version"] = "0.0.9";
  write_json(stage.folder() / "stage.json", older);
  EXPECT_EQ(stage.program_version(), "0.0.9");
}

TEST_F(StageTest, RefusesARecordThatIsNotItsOwn) {
  const Stage stage(output_, "train", {}, {});
  const FileLock lock = stage.prepare();
  for (const std::string text : {"[]", "{", "{}", R"({"format_version": 1, "name": "other"})"}) {
    std::ofstream(stage.folder() / "stage.json") << text;
    EXPECT_THROW(stage.done(), InputError) << text;
  }
  std::ofstream(stage.folder() / "stage.json")
      << R"({"format_version": 99, "name": ")" << stage.name() << "\"}";
  try {
    stage.done();
    FAIL();
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find("format_version 99 is newer"), std::string::npos);
  }
}

TEST_F(StageTest, BelongsToOneAtATime) {
  const Stage stage(output_, "train", {}, {}), same(output_, "train", {}, {}),
      other(output_, "evaluate", {}, {});
  {
    const FileLock lock = stage.prepare();
    const FileLock beside = other.prepare();
    try {
      static_cast<void>(same.prepare());
      FAIL();
    } catch (const IoError& error) {
      EXPECT_NE(std::string(error.what())
                    .find("another exactmamba works on this stage: " + stage.folder().string()),
                std::string::npos);
    }
  }
  const FileLock free_again = same.prepare();
}

TEST_F(StageTest, SaysWhyItsFolderCannotBeMade) {
  std::ofstream(output_ / "stages") << "a file";
  EXPECT_THROW(static_cast<void>(Stage(output_, "train", {}, {}).prepare()), IoError);
}

}  // namespace
}  // namespace exactmamba::core
