// The recipes of the project, and what is published beside a recipe's own numbers.
#include <filesystem>
#include <set>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "core/files.h"
#include "core/json.h"
#include "tests/cli/tiny_recipe.h"
#include "tests/support/program.h"
#include "tests/support/tensors.h"

namespace exactmamba::cli {
namespace {

namespace fs = std::filesystem;
using core::Json;
using testing::ProgramOutcome;
using testing::put_file;

const fs::path kRecipes = fs::path(EXACTMAMBA_SOURCE) / "recipes";

/// A folder with a stand-in of everything that the recipes of a user name: checkpoints and corpora.
class Recipes : public ::testing::Test {
 protected:
  Recipes() {
    for (const std::string name : {"CHECKPOINT", "mamba-130m-hf", "mamba-370m-hf", "mamba2-130m",
                                   "mamba2-370m", "continued-silu", "continued-relu", "continued-identity"})
      put_checkpoint(name);
    for (const std::string source : {"de", "fr"}) put_iwslt17(source);
    std::string sentences, links;
    for (int pair = 0; pair < 101; ++pair) {
      sentences += "one two\n";
      links += "1-1 2p2\n";
    }
    for (const std::string name : {"test.de", "test.en"}) put(folder_ / "rwth" / name, sentences);
    put(folder_ / "rwth/alignment.talp", links);
  }

  void put(const fs::path& file, const std::string& text) const {
    fs::create_directories(file.parent_path());
    put_file(file, text);
  }
  /// With room for the bytes of a text.
  void put_checkpoint(const std::string& name) {
    Json config = core::read_json(testing::golden("models/mamba2-hf/config.json"));
    config["vocab_size"] = 512;
    const std::string activation = name.substr(name.find('-') + 1);
    if (activation == "relu" || activation == "identity") {
      config["model_type"] = "exactmamba";
      config["architecture"] = "mamba2";
      config["conv_activation"] = activation;
    }
    put(folder_ / name / "config.json", config.dump());
  }
  void put_iwslt17(const std::string& source) {
    const std::string pair = source + "-en";
    const fs::path folder = folder_ / "iwslt17" / pair;
    for (const std::string& language : {source, std::string("en")}) {
      put(folder / fmt::format("train.tags.{}.{}", pair, language), "one two\nfour five\n");
      for (const std::string set : {"dev2010", "tst2015"})
        put(folder / fmt::format("IWSLT17.TED.{}.{}.{}.xml", set, pair, language),
            "<seg id=\"1\"> three </seg>\n");
    }
  }
  ProgramOutcome program(const std::vector<std::string>& arguments) const {
    const std::string here = folder_.path().string();
    return testing::run_program(arguments,
                                {.folder = folder_.path(),
                                 .environment = {{"IWSLT17", here + "/iwslt17"}, {"RWTH", here + "/rwth"}}});
  }

  testing::TemporaryFolder folder_;
};

TEST_F(Recipes, OfTheProjectAreValid) {
  std::set<std::string> not_here;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(kRecipes)) {
    if (!entry.is_regular_file()) continue;
    std::vector<std::string> arguments = {"validate", entry.path().string()};
    const std::string recipe = testing::content_of(entry.path());
    const bool makes = recipe.find("tokenizer = \"bpe\"") != std::string::npos;
    if (!makes && recipe.find("tokenizer = ") != std::string::npos)
      arguments.insert(arguments.end(), {"--set", "data.tokenizer=byte"});  // instead of the user's
    const ProgramOutcome outcome = program(arguments);
    const bool needs_data = outcome.err.find("the environment variable") != std::string::npos;
    if (needs_data) not_here.insert(entry.path().filename().string());
    EXPECT_TRUE(outcome.code == 0 || needs_data) << outcome.err;
  }
  for (const std::string name : {"copy.toml", "aer.toml", "tradeoff.toml", "iwslt17-de-en.toml"})
    EXPECT_FALSE(not_here.contains(name)) << name;
}

// The numbers of the paper, by row; "": none.
struct PublishedRow {
  std::string run;
  std::vector<std::string> values;
};
const std::map<std::string, std::vector<PublishedRow>> kPublishedRows = {
    {"copy",
     {{"mamba1", {".84", ".36", ".22", ".86", ".47", ".36", "", "", ""}},
      {"mamba2", {".79", ".49", ".39", "", "", "", ".98", ".86", ".74"}}}},
    {"aer",
     {{"mamba-130m-hf", {".84", ".44–.52", ".63–.69"}},
      {"mamba-370m-hf", {".84", ".44–.52", ".63–.69"}},
      {"mamba2-130m", {".84", ".44–.52", ".63–.69"}},
      {"mamba2-370m", {".84", ".44–.52", ".63–.69"}}}},
    {"tradeoff",
     {{"silu", {".21", ".45", ".47", "", "83.4"}},
      {"silu, continued", {".21", ".43", ".46", "", "83.6"}},
      {"relu", {".35", ".83", ".51", "", "82.8"}},
      {"identity", {".00", ".00", ".46", "", "83.3"}}}}};

TEST_F(Recipes, PublishedRowsStandBesideOursThatWereNotRun) {
  for (const auto& [name, rows] : kPublishedRows) {
    const std::string recipe = (kRecipes / "published" / (name + ".toml")).string();
    const ProgramOutcome outcome =
        testing::run_program({"report", recipe, "--json"}, {.folder = folder_.path()});
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    const Json report = Json::parse(outcome.out);
    ASSERT_EQ(report["rows"].size(), rows.size());
    for (size_t k = 0; k < rows.size(); ++k) {
      const Json& row = report["rows"][k];
      EXPECT_EQ(row["label"], rows[k].run);
      EXPECT_EQ(row["state"], "not run");
      EXPECT_TRUE(row["values"].empty());
      for (size_t column = 0; column < rows[k].values.size(); ++column)
        EXPECT_EQ(row["published"].value(report["shown"][column].get<std::string>(), ""),
                  rows[k].values[column]);
    }
  }
}

TEST_F(Recipes, ReportsOfPublishedRowsAreWrittenAndReadAgain) {
  const std::string recipe = (kRecipes / "published/tradeoff.toml").string();
  for (int time = 0; time < 2; ++time) {
    const ProgramOutcome outcome = testing::run_program({"report", recipe}, {.folder = folder_.path()});
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_CONTAINS(outcome.out, "published values Pitorro & Treviso, LaTIM");
    EXPECT_CONTAINS(outcome.out, "training dtype float32, products in bfloat16");
  }
  const fs::path output = folder_ / "runs/published-tradeoff";
  EXPECT_CONTAINS(core::read_file(output / "report.csv"),
                  "model,error.activation.0-15.published,error.activation.0-15,");
  EXPECT_CONTAINS(core::read_file(output / "report.csv"), "relu,.35,not run,.83,not run,.51,not run");
  EXPECT_CONTAINS(core::read_file(output / "report.md"),
                  "| relu | .35 | not run | .83 | not run | .51 | not run |");
  EXPECT_CONTAINS(core::read_file(output / "report.tex"),
                  "relu & .35 & not run & .83 & not run & .51 & not run");
  EXPECT_CONTAINS(core::read_file(output / "report.html"), "<td data-value=\"NaN\">not run</td>");
}

// ---- [published] and report.columns of a recipe that is run ----

class Published : public ::testing::Test {
 protected:
  ProgramOutcome program(const std::string& command, const std::string& more) const {
    put_file(folder_ / "r.toml", kTinyRecipe + more);
    return testing::run_program({command, "r.toml"}, {.folder = folder_.path()});
  }
  std::string csv() const { return core::read_file(folder_ / "out/report.csv"); }

  testing::TemporaryFolder folder_;
};

constexpr const char* kPublishedErrors = R"(
[report]
columns = ["error"]
[published]
source = "somebody"
columns = ["error.activation.1-1"]
runs = ["silu", "identity"]
values = ["0.5", "0"]
[sweep]
model.conv_activation = ["silu", "identity"]
)";

TEST_F(Published, StandsBesideWhatWasRun) {
  const ProgramOutcome run = program("run", kPublishedErrors);
  ASSERT_EQ(run.code, 0) << run.err;
  EXPECT_CONTAINS(csv(),
                  "model,error.activation.0-0,error.activation.1-1.published,error.activation.1-1\r\n");
  EXPECT_CONTAINS(csv(), "\r\nidentity,");
  EXPECT_EQ(csv().find("not run"), std::string::npos);
  const Json report = core::read_json(folder_ / "out/report.json");
  EXPECT_GT(report["columns"].size(), 2u);  // all of them
  EXPECT_CONTAINS(core::read_file(folder_ / "out/report.html"), "<summary>All columns</summary>");

  std::string other = kPublishedErrors;  // another run, which is not there yet
  other.replace(other.find("[\"silu\", \"identity\"]\n", other.find("[sweep]")), 20,
                "[\"identity\", \"relu\"]");
  other.replace(other.find("[\"silu\", \"identity\"]"), 20, "[\"identity\", \"relu\"]");
  const ProgramOutcome partly = program("report", other);
  ASSERT_EQ(partly.code, 0) << partly.err;
  EXPECT_CONTAINS(csv(), "\r\nrelu,not run,0,not run\r\n");
  EXPECT_CONTAINS(csv(), "\r\nidentity,");
  EXPECT_EQ(csv().find("identity,not run"), std::string::npos);
}

TEST_F(Published, OfACheckpointOnlyTheErrorsOfItsLayersAreColumns) {
  ASSERT_EQ(program("train", "").code, 0);
  fs::path checkpoint;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder_ / "out"))
    if (entry.path().filename() == "step-00000006") checkpoint = entry.path();
  put_file(folder_ / "more.toml",
           "run.output = \"out\"\nmodel.from = \"" + checkpoint.string() +
               "\"\ntrain.steps = 1\ndecompose.max_rows = 1\nreport.columns = [\"error\"]\n"
               "[data]\nmin_length = 2\nmax_length = 4\ncontext = 24\nheld_out = 20\n");
  const ProgramOutcome run =
      testing::run_program({"run", "more.toml", "--overwrite"}, {.folder = folder_.path()});
  ASSERT_EQ(run.code, 0) << run.err;
  EXPECT_CONTAINS(csv(), "model,error.activation.0-0,error.activation.1-1\r\n");
}

TEST_F(Published, NamesThatAreNotThereAreRefusedWithTheirPlace) {
  const auto refusal = [&](const std::string& more) {
    const ProgramOutcome outcome = program("validate", more);
    EXPECT_EQ(outcome.code, 1);
    return outcome.err;
  };
  EXPECT_CONTAINS(refusal("[report]\ncolumns = [\"string_acuracy\"]\n"),
                  "r.toml:23:11: report.columns: there is no column 'string_acuracy'; did you mean "
                  "'string_accuracy'?; there are: character_accuracy, string_accuracy,");
  EXPECT_CONTAINS(refusal("[report]\ncolumns = [\"bleu\"]\n"), "there is no column 'bleu'; there are: ");
  EXPECT_CONTAINS(refusal("[report]\ncolumns = [\"error.activation.0-1\"]\n"),
                  "did you mean 'error.activation.0-0'?; there are: error.activation.0-0, "
                  "error.activation.1-1; change it there, or by --set");
  const std::string published = "[published]\nsource = \"s\"\n";
  EXPECT_CONTAINS(refusal(published + "columns = [\"perplexity\"]\nruns = [\"relu\"]\nvalues = [\"1\"]\n"),
                  "r.toml:25:8: published.runs: there is no run 'relu'; there are: 'r'");
  EXPECT_CONTAINS(refusal(published + "columns = [\"error\"]\nruns = [\"r\"]\nvalues = [\"1\"]\n"),
                  "r.toml:24:11: published.columns: there is no column 'error'");
  EXPECT_CONTAINS(
      refusal(published + "columns = [\"perplexity\"]\nruns = [\"r\"]\nvalues = [\"1\", \"2\"]\n"),
      "r.toml:26:10: 2 values do not fill a table of 1 × 1: one for every run and column");
  for (const std::string value : {"about 1", "nan", "1–inf", "9–8"})
    EXPECT_CONTAINS(
        refusal(published + "columns = [\"perplexity\"]\nruns = [\"r\"]\nvalues = [\"" + value + "\"]\n"),
        "'" + value + "' is no number, no range from less to more (0.44–0.52), and not empty");
  const std::string two = refusal("[report]\ncolumns = [\"bleu.a\", \"error\", \"bleu.b\"]\n");
  EXPECT_CONTAINS(two, "there is no column 'bleu.a', 'bleu.b'; there are: ");
  EXPECT_TRUE(two.ends_with("; change it there, or by --set report.columns=…\n")) << two;
  EXPECT_EQ(std::count(two.begin(), two.end(), '\n'), 1) << two;
}

}  // namespace
}  // namespace exactmamba::cli
