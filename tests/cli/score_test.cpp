// score bleu, chrf and ter, run as a user would, against what sacreBLEU prints (golden/metrics).
#include <algorithm>
#include <sstream>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "core/files.h"
#include "core/json.h"
#include "tests/support/golden_json.h"
#include "tests/support/program.h"
#include "tests/support/tensors.h"

namespace exactmamba::cli {
namespace {

using core::Json;
using testing::golden;
using testing::put_file;
using testing::run_program;
using testing::TemporaryFolder;

/// The files of wmt17_200.json: reference.txt and a file named 0, 1, 2 for each system.
class Score : public ::testing::Test {
 protected:
  void SetUp() override {
    golden_ = testing::golden_json("metrics/wmt17_200.json");
    put_lines("reference.txt", golden_["references"]);
    for (const auto& [system, lines] : golden_["hypotheses"].items()) {
      put_lines(std::to_string(systems_.size()), lines);
      systems_.push_back(system);
    }
  }
  void put_lines(const std::string& name, const Json& lines) {
    std::string text;
    for (const Json& line : lines) text += line.get<std::string>() + "\n";
    put_file(folder_ / name, text);
  }
  testing::ProgramOutcome score(std::vector<std::string> arguments, const std::string& input = "") {
    arguments.insert(arguments.begin(), "score");
    return run_program(arguments, {.folder = folder_.path(), .input = input});
  }
  std::string result_of(const std::vector<std::string>& arguments) {
    const auto outcome = score(arguments);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return outcome.out;
  }
  /// What sacreBLEU prints with --width 2.
  std::string line_of(const std::string& system, const std::string& kind) const {
    const Json& row = golden_["corpus_scores"][system][kind];
    const std::string text = row["text"].get<std::string>();
    const size_t equals = text.find(" = ");
    return text.substr(0, equals) + "|" + row["signature"].get<std::string>() + text.substr(equals) + "\n";
  }

  TemporaryFolder folder_;
  Json golden_;
  std::vector<std::string> systems_;
};

TEST_F(Score, LinesAsSacreBleuPrintsThem) {
  for (size_t k = 0; k < systems_.size(); ++k) {
    const std::vector<std::string> common = {std::to_string(k), "--reference", "reference.txt", "--width",
                                             "2"};
    const auto with = [&](const std::string& metric, std::vector<std::string> more = {}) {
      more.insert(more.begin(), common.begin(), common.end());
      more.insert(more.begin(), metric);
      return result_of(more);
    };
    EXPECT_EQ(with("bleu"), line_of(systems_[k], "BLEU"));
    EXPECT_EQ(with("chrf"), line_of(systems_[k], "chrF"));
    EXPECT_EQ(with("chrf", {"--word-order", "2"}), line_of(systems_[k], "chrF++"));
    EXPECT_EQ(with("ter"), line_of(systems_[k], "TER"));
  }
}

TEST_F(Score, StdinJsonAndCompressedFiles) {
  const std::string text = core::read_file(folder_ / "0");
  ASSERT_EQ(std::system(("gzip -k " + (folder_ / "reference.txt").string()).c_str()), 0);
  const auto outcome = score({"bleu", "--reference", "reference.txt.gz", "--json"}, text);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const Json json = Json::parse(outcome.out), &expected = golden_["corpus_scores"][systems_[0]]["BLEU"];
  EXPECT_EQ(json["name"], "BLEU");
  EXPECT_NEAR(json["score"].get<double>(), expected["score"].get<double>(), 0.05);
  EXPECT_EQ(json["signature"], expected["signature"]);
  EXPECT_EQ("BLEU = " + fmt::format("{:.2f} ", expected["score"].get<double>()) +
                json["verbose_score"].get<std::string>(),
            expected["text"].get<std::string>());
  for (const auto& [key, value] : {std::pair{"nrefs", "1"}, {"tok", "13a"}, {"version", "2.6.0"}})
    EXPECT_EQ(json[key], value);
}

TEST_F(Score, SentencesOneByOne) {
  const std::string lines =
      result_of({"bleu", "1", "--reference", "reference.txt", "--sentence-level", "--json", "--width", "9"});
  std::istringstream text(lines);
  size_t i = 0;
  for (std::string line; std::getline(text, line); ++i) {
    const Json json = Json::parse(line);
    EXPECT_NEAR(json["score"].get<double>(), golden_["sentence_scores"][systems_[1]]["BLEU"][i].get<double>(),
                1e-8);
    EXPECT_EQ(json["signature"], golden_["sentence_signatures"]["BLEU"]);
  }
  EXPECT_EQ(i, 200u);
  const std::string ter = result_of({"ter", "1", "--reference", "reference.txt", "--sentence-level"});
  EXPECT_EQ(std::count(ter.begin(), ter.end(), '\n'), 200);
}

TEST_F(Score, PairedBootstrap) {
  const Json golden_test = core::read_json(golden("metrics/paired_bootstrap.json"))["tests"][0];
  const auto number_of = [&](size_t which) {
    const auto name = golden_test["systems"][which].get<std::string>();
    return std::to_string(std::find(systems_.begin(), systems_.end(), name) - systems_.begin());
  };
  const std::vector<std::string> arguments = {"bleu",       number_of(0),  "--compare",
                                              number_of(1), "--reference", "reference.txt"};
  EXPECT_EQ(result_of(arguments),
            "BLEU|nrefs:1|bs:1000|seed:12345|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0\n" +
                number_of(0) + " = 29.0 (28.9 ± 3.1)\n" + number_of(1) +
                " = 28.3 (28.2 ± 2.6), p = 0.1499\n");
  std::vector<std::string> as_json = arguments;
  as_json.push_back("--json");
  const Json json = Json::parse(result_of(as_json));
  const Json& results = golden_test["metrics"]["BLEU"]["results"];
  ASSERT_EQ(json.size(), 2u);
  for (size_t k = 0; k < 2; ++k) {
    EXPECT_NEAR(json[k]["BLEU"]["score"].get<double>(), results[k]["score"].get<double>(), 1e-9);
    EXPECT_NEAR(json[k]["BLEU"]["mean"].get<double>(), results[k]["mean_fp64"].get<double>(), 1e-9);
    EXPECT_NEAR(json[k]["BLEU"]["ci"].get<double>(), results[k]["ci_fp64"].get<double>(), 1e-9);
  }
  EXPECT_TRUE(json[0]["BLEU"]["p_value"].is_null());
  EXPECT_EQ(json[1]["BLEU"]["p_value"], results[1]["p_value"]);
}

TEST_F(Score, SeveralReferencesAndOptions) {  // expected: sacreBLEU 2.6.0
  put_file(folder_ / "h", "The dog bit the man.\nIt wasn't surprising.\nThe man had just bitten him.\n");
  put_file(folder_ / "a", "The dog bit the man.\nIt was not unexpected.\nThe man bit him first.\n");
  put_file(folder_ / "b", "The dog had bit the man.\nNo one was surprised.\nThe man had bitten the dog.\n");
  EXPECT_EQ(result_of({"bleu", "h", "--reference", "a", "--reference", "b", "--width", "2"}),
            "BLEU|nrefs:2|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0 = 48.53 82.4/50.0/45.5/37.5 (BP "
            "= 0.943 "
            "ratio = 0.944 hyp_len = 17 ref_len = 18)\n");
  EXPECT_EQ(
      result_of({"bleu", "--reference", "a", "--reference", "b", "h", "--tokenize", "intl", "--width", "2"}),
      "BLEU|nrefs:2|case:mixed|eff:no|tok:intl|smooth:exp|version:2.6.0 = 43.92 73.7/43.8/38.5/30.0 (BP = "
      "1.000 ratio = 1.056 hyp_len = 19 ref_len = 18)\n");
  EXPECT_CONTAINS(result_of({"bleu", "h", "--reference", "a", "--reference", "b", "--smooth-method", "floor",
                             "--smooth-value", "0.01", "--lowercase"}),
                  "|case:lc|eff:no|tok:13a|smooth:floor[0.01]|");
  EXPECT_EQ(result_of({"ter", "h", "--reference", "a", "--reference", "b", "--normalized", "--width", "2"}),
            "TER|nrefs:2|case:lc|tok:tercom|norm:yes|punct:yes|asian:no|version:2.6.0 = 33.33\n");
}

TEST_F(Score, AByteOrderMarkIsACharacter) {  // expected: sacreBLEU 2.6.0
  put_file(folder_ / "h", "\uFEFFa b c d e\n");
  put_file(folder_ / "r", "a b c d e\n");
  const auto outcome = score({"bleu", "h", "--reference", "r", "--width", "2"});
  EXPECT_CONTAINS(outcome.out, " = 66.87 80.0/75.0/66.7/50.0 ");
  EXPECT_CONTAINS(outcome.err, "h: begins with a byte order mark");
}

TEST_F(Score, ErrorsSayWhere) {
  const auto error = [&](const std::vector<std::string>& arguments, const std::string& input = "") {
    const auto outcome = score(arguments, input);
    EXPECT_NE(outcome.code, 0);
    EXPECT_EQ(outcome.out, "");
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    return outcome.err;
  };
  EXPECT_CONTAINS(error({"bleu", "--reference", "reference.txt"}, "one\ntwo\n"),
                  "stdin has 2 lines, but reference.txt has 200");
  EXPECT_CONTAINS(error({"bleu", "0", "--reference", "reference.txt", "--compare", "-"}, "one\n"),
                  "0 has 200 lines, but stdin has 1");
  EXPECT_CONTAINS(error({"chrf", "--reference", "reference.txt"}), "stdin: there is no line in it");
  EXPECT_CONTAINS(error({"ter", "--reference", "-"}, "a\n"), "only one of the files can be stdin");
  EXPECT_CONTAINS(error({"bleu", "nowhere", "--reference", "reference.txt"}), "nowhere: No such file");
  EXPECT_CONTAINS(error({"bleu", "--reference", "reference.txt"},
                        "good\nb\xE4"
                        "d\n"),
                  "stdin:2: this is not UTF-8: byte 1 of the line is 0xe4");
  EXPECT_CONTAINS(error({"bleu", "0"}), "--reference");
  EXPECT_CONTAINS(error({"bleu", "0", "--reference", "reference.txt", "--smooth-value", "1"}),
                  "smoothing exp takes no value");
  EXPECT_CONTAINS(error({"bleu", "0", "--reference", "reference.txt", "--seed", "1"}), "--compare");
  EXPECT_CONTAINS(error({"bleu", "0", "--reference", "1", "--compare", "2", "--sentence-level"}),
                  "see exactmamba score bleu --help");
  EXPECT_CONTAINS(error({"chrf", "0", "--reference", "1", "--char-order", "0"}), "n-grams of 0 characters");
  EXPECT_CONTAINS(error({"blue", "0"}), "unknown command 'blue'; did you mean 'bleu'?");
  EXPECT_CONTAINS(error({}), "see exactmamba score --help");
}

}  // namespace
}  // namespace exactmamba::cli
