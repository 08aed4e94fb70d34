#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include "core/schema.h"

namespace exactmamba::core {
namespace {

std::vector<std::string> labels(const std::string& text) {
  std::vector<std::string> result;
  for (const SweepRun& run : expand_sweep(text, "r.toml").runs) result.push_back(run.label);
  return result;
}

std::string problem(const std::string& text) {
  return fmt::format("{}", fmt::join(expand_sweep(text, "r.toml").problems, "\n"));
}

using Strings = std::vector<std::string>;

TEST(Sweep, IsOneRunWithoutTables) {
  const std::vector<SweepRun> runs = expand_sweep("[train]\nlr = 1", "r.toml").runs;
  ASSERT_EQ(runs.size(), 1u);
  EXPECT_EQ(runs[0].label, "");
  EXPECT_TRUE(runs[0].assignments.empty());
}

TEST(Sweep, IsTheProductWithTheFirstKeySlowest) {
  // "model.*" is declared as a nested table and sorts after "a" by name: the order of the text counts.
  const std::string text = "[sweep]\nmodel.architecture = ['mamba1', 'mamba2']\n\"a.seed\" = [1, 2, 3]";
  EXPECT_EQ(labels(text), (Strings{"mamba1, seed=1", "mamba1, seed=2", "mamba1, seed=3", "mamba2, seed=1",
                                   "mamba2, seed=2", "mamba2, seed=3"}));
  const SweepRun run = expand_sweep(text, "r.toml").runs[4];
  ASSERT_EQ(run.assignments.size(), 2u);
  EXPECT_EQ(run.assignments[0].key, "model.architecture");
  EXPECT_EQ(run.assignments[0].value, "\"mamba2\"");
  EXPECT_EQ(run.assignments[0].origin, "r.toml:2:33");
  EXPECT_EQ(run.assignments[1].key, "a.seed");
  EXPECT_EQ(run.assignments[1].value, "2");
  EXPECT_EQ(run.assignments[1].origin, "r.toml:3:16");
}

TEST(Sweep, NamesAKeyInFullWhereItsEndingIsAmbiguous) {
  EXPECT_EQ(labels("[sweep]\na.x = [1.5]\nb.x = [[1, 2]]\nc = [true]"),
            (Strings{"a.x=1.5, b.x=[1, 2], c=true"}));
}

TEST(Sweep, AddsOneRunForEveryExtraTable) {
  EXPECT_EQ(labels("[sweep]\na.x = [1, 2]\n[[extra]]\na.y = 3\n[[extra]]\nlabel = 'no init'\n[extra.a]\nx = "
                   "2\ny = 4\n"),
            (Strings{"x=1", "x=2", "y=3", "no init"}));
  EXPECT_EQ(labels("[[extra]]\na.y = 3"), (Strings{"base", "y=3"}));
}

TEST(Sweep, AssignmentsLoadIntoASchema) {
  std::string text = "a\"b";
  std::vector<int64_t> list;
  Schema schema;
  schema.option("m.text", &text);
  schema.option("m.list", &list);
  const auto runs = expand_sweep("[sweep.m]\ntext = [\"q\\\"\\\\\"]\nlist = [[3, 4]]", "r.toml").runs;
  schema.load("", "r.toml", runs[0].assignments);
  EXPECT_EQ(text, "q\"\\");
  EXPECT_EQ(list, (std::vector<int64_t>{3, 4}));
  EXPECT_EQ(schema.at("m.text").origin(), "r.toml:2:9");
}

TEST(Sweep, RefusesWrongThingsWithTheirPlaces) {
  EXPECT_EQ(problem("sweep = 3"), "r.toml:1:9: 'sweep' is a table, not an integer");
  EXPECT_EQ(problem("extra = 3"), "r.toml:1:9: 'extra' is a list of tables: write [[extra]]");
  EXPECT_EQ(problem("[extra]\na = 3"), "r.toml:1:1: 'extra' is a list of tables: write [[extra]]");
  EXPECT_EQ(problem("[sweep]\na.x = 1\nb = []\n[[extra]]\n[[extra]]\nlabel = 3\nc = [{d = 1}]"),
            "r.toml:2:7: 'a.x' in [sweep] takes a list of values, not an integer\n"
            "r.toml:3:5: 'b' in [sweep] has no values\n"
            "r.toml:4:1: [[extra]] changes nothing\n"
            "r.toml:6:9: 'label' takes a string that is not empty\n"
            "r.toml:7:6: 'c' takes values, not a table");
  EXPECT_EQ(problem("[sweep]\na.x = [1, 1]"),
            "r.toml:2:11: two runs are called 'x=1'; change a value or give one a 'label'");
  EXPECT_EQ(problem("[sweep]\na.x = [1]\n[[extra]]\nlabel='x=1'\nb=2"),
            "r.toml:5:3: two runs are called 'x=1'; change a value or give one a 'label'");
  std::string ten = "[1,2,3,4,5,6,7,8,9,10]";
  EXPECT_EQ(problem("[sweep]\na = " + ten + "\nb = " + ten + "\nc = " + ten + "\nd = " + ten),
            "r.toml:5:5: [sweep] and [[extra]] ask for more than 1000 runs");
}

TEST(Sweep, ABadOneGivesEveryReadableValueToBeChecked) {
  const Sweep sweep = expand_sweep("[sweep]\na.x = 1\nb = [2, {d = 1}]\n[[extra]]\nc = 'z'", "r.toml");
  EXPECT_EQ(sweep.problems.size(), 2u);
  ASSERT_EQ(sweep.runs.size(), 1u);
  Strings values;
  for (const Schema::Assignment& a : sweep.runs[0].assignments)
    values.push_back(a.origin + " " + a.key + " " + a.value);
  EXPECT_EQ(values, (Strings{"r.toml:2:7 a.x 1", "r.toml:3:6 b 2", "r.toml:5:5 c \"z\""}));
}

}  // namespace
}  // namespace exactmamba::core
