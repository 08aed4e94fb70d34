// score comet, run as a user would, against unbabel-comet (golden/comet).
#include <sstream>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "core/json.h"
#include "tests/support/program.h"
#include "tests/support/tensors.h"

namespace exactmamba::cli {
namespace {

using core::Json;
using testing::golden;
using testing::put_file;
using testing::run_program;
using testing::TemporaryFolder;

class ScoreComet : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string source, hypothesis, reference;
    const Json document = core::read_json(golden("comet/softmax") / "expected.json");
    for (const Json& row : document["cases"]) {
      if (row["src"].get<std::string>().find('\n') != std::string::npos ||
          row["mt"].get<std::string>().find('\n') != std::string::npos)
        continue;  // files have a segment a line
      source += row["src"].get<std::string>() + "\n";
      hypothesis += row["mt"].get<std::string>() + "\n";
      reference += row["ref"].get<std::string>() + "\n";
      scores_.push_back(row["score_fp64"]);
    }
    put_file(folder_ / "source", source);
    put_file(folder_ / "output", hypothesis);
    put_file(folder_ / "reference", reference);
  }
  testing::ProgramOutcome score(std::vector<std::string> more,
                                const std::string& model = golden("comet/softmax")) {
    std::vector<std::string> arguments = {"score",     "comet",   "--source", "source",   "--reference",
                                          "reference", "--model", model,      "--device", "cpu"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_program(arguments, {.folder = folder_.path(), .input = ""});
  }
  double mean() const {
    double sum = 0;
    for (const double score : scores_) sum += score;
    return sum / static_cast<double>(scores_.size());
  }

  TemporaryFolder folder_;
  std::vector<double> scores_;
};

TEST_F(ScoreComet, PrintsTheSystemsScore) {
  ASSERT_EQ(scores_.size(), 59u);
  const auto line = score({"output", "--dtype", "float64"});
  EXPECT_EQ(line.out, fmt::format("COMET|model:softmax|dtype:float64|segments:59 = {:.4f}\n", mean()))
      << line.err;
  const auto json = score({"--hypothesis", "output", "--json"});
  ASSERT_EQ(json.code, 0) << json.err;
  const Json document = Json::parse(json.out);
  EXPECT_NEAR(document["score"].get<double>(), mean(), 2e-6);
  EXPECT_EQ(document["model"], "softmax");
}

TEST_F(ScoreComet, PrintsAScoreForEachLine) {
  const auto outcome = score({"output", "--sentence-level", "--json", "--dtype", "float64"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  std::istringstream lines(outcome.out);
  size_t i = 0;
  for (std::string line; std::getline(lines, line); ++i)
    EXPECT_NEAR(Json::parse(line)["score"].get<double>(), scores_.at(i), 1e-12);
  EXPECT_EQ(i, scores_.size());
}

TEST_F(ScoreComet, SaysWhatIsMissing) {
  const auto none = score({"output"}, "nowhere");
  EXPECT_NE(none.code, 0);
  EXPECT_CONTAINS(none.err, "no COMET model in nowhere: missing nowhere/hparams.yaml");
  EXPECT_CONTAINS(none.err, "huggingface.co/Unbabel/wmt22-comet-da");
  const auto no_gpu = run_program({"score", "comet", "output", "--source", "source", "--reference",
                                   "reference", "--model", golden("comet/softmax"), "--device", "cuda"},
                                  {.folder = folder_.path(), .environment = {{"CUDA_VISIBLE_DEVICES", ""}}});
  EXPECT_NE(no_gpu.code, 0);
  EXPECT_CONTAINS(no_gpu.err, "the device cuda cannot be used: ");
  put_file(folder_ / "short", "one line\n");
  const auto uneven = score({"short"});
  EXPECT_NE(uneven.code, 0);
  EXPECT_CONTAINS(uneven.err, "short has 1 lines, but source has 59");
}

}  // namespace
}  // namespace exactmamba::cli
