#include "core/stage.h"

#include <cctype>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <limits>

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/files.h"
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
  return Stage("out", "train", 1, schema.canonical({"train"}), {{"data", data}}).name();
}

TEST_F(StageTest, NameFollowsWhatAffectsTheResultOnly) {
  const std::string name = train_name("");
  EXPECT_EQ(name.size(), std::string("train-").size() + 12);
  EXPECT_EQ(name, train_name("[report]\ntheme = 'dark'"));
  EXPECT_EQ(name, train_name("train.prefetch = 9"));
  EXPECT_EQ(name, train_name("train.lr = 0.001"));
  EXPECT_NE(name, train_name("train.lr = 0.002"));
  EXPECT_NE(name, train_name("", "d1"));
  EXPECT_NE(name, Stage("out", "evaluate", 1, Json::object(), {}).name());
}

TEST_F(StageTest, NameFollowsTheAlgorithm) {
  const auto name = [](int algorithm) { return Stage("out", "train", algorithm, Json::object(), {}).name(); };
  EXPECT_EQ(name(1), name(1));
  EXPECT_NE(name(1), name(2));
}

TEST_F(StageTest, IsDoneOnlyAfterFinish) {
  const Stage stage(output_, "train", 1, {{"train.lr", 0.1}}, {{"data", "d0"}});
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
  const Stage stage(output_, "train", 1, {}, {});
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

std::string message_of(const std::function<void()>& run) {
  try {
    run();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST_F(StageTest, EveryFlippedByteOfTheRecordIsNoticed) {
  const Stage stage(output_, "train", 1, {{"train.lr", 0.1}}, {{"data", "d0"}});
  const FileLock lock = stage.prepare();
  stage.finish({{"loss", 1.5}, {"infinite", std::numeric_limits<double>::infinity()}});
  ASSERT_TRUE(stage.done());
  const std::filesystem::path file = stage.folder() / "stage.json";
  const std::string good = read_file(file);
  for (size_t i = 0; i + 2 < good.size(); ++i) {  // but for "}\n" at the end
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 1);
    if (std::isspace(static_cast<unsigned char>(good[i])) && std::isspace(static_cast<unsigned char>(bad[i])))
      continue;
    std::ofstream(file) << bad;
    EXPECT_THROW(stage.result(), InputError) << "byte " << i;
  }
  std::ofstream(file) << good.substr(0, good.size() / 2);
  const std::string message = message_of([&] { stage.done(); });
  EXPECT_TRUE(message.starts_with(file.string())) << message;
  EXPECT_TRUE(message.ends_with("; delete this file to complete the stage again")) << message;
}

TEST_F(StageTest, ErrorsOfItsFilesSayWhatToDelete) {
  const Stage stage(output_, "decompose", 1, {}, {});
  EXPECT_EQ(stage.reading([] { return 7; }), 7);
  const std::string advice = "; delete " + stage.folder().string() + " to run this stage again";
  EXPECT_EQ(message_of([&] { stage.reading([]() -> int { throw NumericalError("NaN"); }); }), "NaN" + advice);
  EXPECT_THROW(stage.reading([]() -> int { throw NumericalError("NaN"); }), InputError);
  EXPECT_THROW(stage.reading([]() -> int { throw IoError("gone"); }), IoError);
}

TEST_F(StageTest, BelongsToOneAtATime) {
  const Stage stage(output_, "train", 1, {}, {}), same(output_, "train", 1, {}, {}),
      other(output_, "evaluate", 1, {}, {});
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
  EXPECT_THROW(static_cast<void>(Stage(output_, "train", 1, {}, {}).prepare()), IoError);
}

}  // namespace
}  // namespace exactmamba::core
