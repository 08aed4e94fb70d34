// Every kind of problem that a recipe can have, with its exact message.
#include "core/schema.h"

#include <algorithm>
#include <limits>

#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/support/files.h"

namespace exactmamba::core {
namespace {

struct Values {
  bool shuffle = true;
  int64_t steps = 100, warmup = 10;
  bool all = false;
  int64_t seed = 0;
  double floor = 0;
  double lr = 1e-3, ceiling = std::numeric_limits<double>::infinity();
  std::string schedule = "cosine", name;
  std::vector<int64_t> layers;
  std::vector<double> betas = {0.9, 0.95};
  std::vector<std::string> methods = {"lp"};
};

/// A schema of two tables and one nested table over `v`.
void declare(Schema& schema, Values& v) {
  schema.table("train", "How weights change.");
  schema.option("train.lr", &v.lr).range(0, 10).help("Peak learning rate.");
  schema.option("train.steps", &v.steps).range(1, 1e9).unit("updates").help("Length of the run.");
  schema.option("train.warmup_steps", &v.warmup).range(0, 1e9).unit("updates").help("Linear warm-up.");
  schema.option("train.schedule", &v.schedule)
      .choices({"cosine", "linear", "constant"})
      .help("After warm-up.");
  schema.option("train.betas", &v.betas).range(0, 1).help("Of AdamW.");
  schema.option("train.limits.ceiling", &v.ceiling).help("No a|b.");
  schema.option("data.shuffle", &v.shuffle).help("New order every epoch.");
  schema.option("data.name", &v.name).required().help("What to read.");
  schema.option("data.layers", &v.layers).range(0, 47).help("Which layers.");
  schema.option("report.methods", &v.methods).choices({"lp", "alti"}).cosmetic().help("Which maps.");
  schema.option("train.floor", &v.floor).only_with("train.schedule", {"cosine", "linear"}).help("Least lr.");
  schema.option("data.seed", &v.seed).only_with("data.shuffle", {"true"}).only_with("data.layers");
  schema.option("data.all", &v.all).only_without("data.layers");
  schema.rule({"train.warmup_steps", "train.steps"},
              [&v] { return v.warmup > v.steps ? std::string("the warm-up is longer than the run") : ""; });
}

/// The message of loading `text`, or "".
std::string problems(const std::string& text, const std::vector<std::string>& sets = {}) {
  Values v;
  Schema schema;
  declare(schema, v);
  std::vector<Schema::Assignment> assignments;
  for (const std::string& set : sets) assignments.push_back(command_line_assignment(set));
  try {
    schema.load(text, "r.toml", assignments, {"sweep"});
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

struct Case {
  std::string text, message;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.text; }

class SchemaProblems : public ::testing::TestWithParam<Case> {};

TEST_P(SchemaProblems, HasThisMessage) {
  EXPECT_EQ(problems("\"data.name\" = \"x\"\n" + GetParam().text), GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, SchemaProblems,
    ::testing::Values(
        Case{"[train]\nlrr = 1", "r.toml:3:1: unknown key 'train.lrr'; did you mean 'train.lr'?"},
        Case{"[train]\nshedule = 1",
             "r.toml:3:1: unknown key 'train.shedule'; did you mean 'train.schedule'?"},
        Case{"[train]\nsetps = 1", "r.toml:3:1: unknown key 'train.setps'; did you mean 'train.steps'?"},
        Case{"[train]\nsch = 1", "r.toml:3:1: unknown key 'train.sch'; did you mean 'train.schedule'?"},
        Case{"[train]\nmomentum = 1", "r.toml:3:1: unknown key 'train.momentum'"},
        Case{"lr = 1", "r.toml:2:1: unknown key 'lr'; did you mean 'train.lr'?"},
        Case{"[trian]\nlr = 1\nx = 2", "r.toml:2:2: unknown table 'trian'; did you mean 'train'?"},
        Case{"train = 3", "r.toml:2:1: 'train' is a table of options, not an integer"},
        Case{"[[train]]\nlr = 1", "r.toml:2:3: 'train' is a table of options, not a list"},
        Case{"[train.lr]\nx = 1", "r.toml:2:1: 'train.lr' takes a number, not a table"},
        Case{"[train]\nlr = \"0.1\"", "r.toml:3:6: 'train.lr' takes a number, not a string (\"0.1\")"},
        Case{"[train]\nsteps = 1.5", "r.toml:3:9: 'train.steps' takes an integer, not a number (1.5)"},
        Case{"[train]\nsteps = 2001-01-01",
             "r.toml:3:9: 'train.steps' takes an integer, not a date or time (2001-01-01)"},
        Case{"[data]\nshuffle = 1", "r.toml:3:11: 'data.shuffle' takes a boolean, not an integer (1)"},
        Case{"[train]\nschedule = true",
             "r.toml:3:12: 'train.schedule' takes a string, not a boolean (true): one of \"cosine\", "
             "\"linear\", \"constant\""},
        Case{"[data]\nlayers = 3",
             "r.toml:3:10: 'data.layers' takes a list of integers, not an integer (3); write [3]"},
        Case{"[data]\nlayers = 'a'",
             "r.toml:3:10: 'data.layers' takes a list of integers, not a string (\"a\")"},
        Case{"[data]\nlayers = [1, \"a\"]",
             "r.toml:3:10: 'data.layers' takes a list of integers, not a list ([1, \"a\"])"},
        Case{"[data]\nlayers = [1, 48]",
             "r.toml:3:10: 'data.layers' element 48 is out of range; allowed: 0 to 47"},
        Case{"[train]\nlr = 20", "r.toml:3:6: 'train.lr' = 20 is out of range; allowed: 0 to 10"},
        Case{"[train]\nlr = nan", "r.toml:3:6: 'train.lr' = nan is not a number"},
        Case{"[train]\nschedule = \"cosin\"",
             "r.toml:3:12: 'train.schedule' = \"cosin\" is not one of: cosine, linear, constant"},
        Case{"[report]\nmethods = [\"lp\", \"atli\"]",
             "r.toml:3:11: 'report.methods' element \"atli\" is not one of: lp, alti"},
        Case{"[train]\nsteps = 5",
             "r.toml:3:9: the warm-up is longer than the run [train.warmup_steps = 10 (default), train.steps "
             "= 5 (r.toml:3:9)]"},
        Case{"\"train.lr\" = 1\n[train]\nlr = 2", "r.toml:4:6: 'train.lr' is set twice"}));

TEST(Schema, CollectsEveryProblemInTheOrderOfTheFile) {
  EXPECT_EQ(problems("[train]\nstepz = 3\nlr = 'a'\n[dat]\nx = 1\n",
                     {"train.lr=11", "foo=1", "tarin.x=1", "train=", "train.betas=1", "train.betas=[1"}),
            "r.toml:2:1: unknown key 'train.stepz'; did you mean 'train.steps'?\n"
            "r.toml:3:6: 'train.lr' takes a number, not a string (\"a\")\n"
            "r.toml:4:2: unknown table 'dat'; did you mean 'data'?\n"
            "--set train.lr=11: 'train.lr' = 11 is out of range; allowed: 0 to 10\n"
            "--set foo=1: unknown key 'foo'\n"
            "--set tarin.x=1: unknown table 'tarin'; did you mean 'train'?\n"
            "--set train=: 'train' is a table of options; name one of them\n"
            "--set train.betas=1: 'train.betas' takes a list of numbers, not an integer (1); write --set "
            "'train.betas=[1]'\n"
            "--set train.betas=[1: [1 is not a TOML value; a shell takes quotes away unless there are others "
            "around them: --set 'train.betas=…'\n"
            "r.toml: missing key 'data.name' (string): What to read.");
}

TEST(Schema, SaysOfANumberThatItIsTooLarge) {
  const std::string nines = "99999999999999999999",
                    integer = nines + " is too large for an integer (up to 9223372036854775807)",
                    number = "1e400 is too large for a number (up to 1.8e308)";
  EXPECT_EQ(problems("[train]\nsteps = " + nines + "\n"), "r.toml:2:29: " + integer);
  EXPECT_EQ(problems("[train]\nlr = 1e400\n"), "r.toml:2:11: " + number);
  EXPECT_EQ(problems("data.name = 'x'", {"train.steps=" + nines, "train.steps=1e400", "data.layers=" + nines,
                                         "data.layers=[1, " + nines + "]"}),
            "--set train.steps=" + nines + ": 'train.steps' takes an integer, and " + integer +
                "\n--set train.steps=1e400: 'train.steps' takes an integer, and " + number +
                "\n--set data.layers=" + nines + ": 'data.layers' takes a list of integers, and " + integer +
                "\n--set data.layers=[1, " + nines + "]: [1, " + nines + "]: " + integer);
  EXPECT_EQ(problems("data.name = 'x'", {"data.name=" + nines}), "");  // a word
  EXPECT_EQ(problems("data.name = 'x'", {"train.steps=\"" + nines + "\""}),
            "--set train.steps=\"" + nines + "\": 'train.steps' takes an integer, not a string (\"" + nines +
                "\")");
}

TEST(Schema, ReportsASyntaxErrorWithItsPlace) {
  EXPECT_EQ(problems("[train]\nlr = = 2").rfind("r.toml:2:6: ", 0), 0u) << problems("[train]\nlr = = 2");
  EXPECT_EQ(problems("a = 1\na = 2").rfind("r.toml:2:", 0), 0u);
  EXPECT_EQ(problems("x = \"\xff\"").rfind("r.toml:1:", 0), 0u);
}

TEST(Schema, RefusesDeepNestingWithoutExhaustingTheStack) {
  std::string key = "a";
  for (int i = 0; i < 200000; ++i) key += ".a";
  EXPECT_EQ(problems(key + " = 1"), "r.toml:1:1: keys may have at most 16 parts");
  EXPECT_EQ(problems("x = " + std::string(200000, '[')).rfind("r.toml:1:", 0), 0u);
  EXPECT_EQ(problems("[a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q]\nr = 1").rfind("r.toml:1:", 0), 0u);
}

TEST(Schema, ReadsEveryTypeAndRemembersWhereItCameFrom) {
  Values v;
  Schema schema;
  declare(schema, v);
  schema.load(
      "[train]\nlr = 1\nbetas = [0, 0.5]\nlimits.ceiling = 3\n[data]\nshuffle = false\nname = 'n'\nlayers = "
      "[]\n[sweep]\nx=1",
      "r.toml",
      {command_line_assignment("train.schedule=linear"), command_line_assignment("report.methods=['alti']")},
      {"sweep"});
  EXPECT_EQ(v.lr, 1.0);
  EXPECT_EQ(v.betas, (std::vector<double>{0.0, 0.5}));
  EXPECT_EQ(v.ceiling, 3.0);
  EXPECT_FALSE(v.shuffle);
  EXPECT_EQ(v.name, "n");
  EXPECT_EQ(v.schedule, "linear");
  EXPECT_EQ(v.methods, std::vector<std::string>{"alti"});
  EXPECT_EQ(schema.at("train.lr").origin(), "r.toml:2:6");
  EXPECT_EQ(schema.at("train.steps").origin(), "default");
  EXPECT_EQ(schema.at("train.schedule").origin(), "--set train.schedule=linear");
  EXPECT_NE(schema.listing().find("train.schedule = \"linear\"   # --set train.schedule=linear\n"),
            std::string::npos)
      << schema.listing();
}

TEST(Schema, TellsWhichValueWasReplaced) {
  Values v;
  Schema schema;
  declare(schema, v);
  schema.load("[train]\nlr = 1\nschedule = 'linear'\n[data]\nname = 'n'", "r.toml",
              {{"train.lr", "2", "r.toml:7:7"}, command_line_assignment("train.steps=30")});
  EXPECT_EQ(v.lr, 2.0);
  EXPECT_EQ(schema.at("train.lr").replaced(), "r.toml:2:6");
  EXPECT_CONTAINS(schema.listing(), "  # r.toml:7:7, replaces r.toml:2:6\n");
  for (const char* key : {"train.schedule", "train.steps", "data.name"})
    EXPECT_EQ(schema.at(key).replaced(), "") << key;
}

TEST(Schema, TakesABareWordAsAString) {
  for (const std::string value : {"some/path.txt", "a b", "1.2.3", "x=y", "'quoted'", "\"quoted\""}) {
    Values v;
    Schema schema;
    declare(schema, v);
    schema.load("", "r.toml", {command_line_assignment("data.name=" + value)});
    EXPECT_EQ(v.name, value.find("quoted") == std::string::npos ? value : "quoted");
  }
  EXPECT_EQ(problems("", {"data.name=3"}),
            "--set data.name=3: 'data.name' takes a string, not an integer (3)");
  EXPECT_EQ(problems("", {"data.name=x\ny=3", "train.lr=1\nb=2"}),
            "--set train.lr=1\nb=2: 'train.lr' takes a number, not a string (\"1\\u000Ab=2\")");
}

TEST(Schema, AnAssignmentOfNothingTakesTheKeyAway) {
  Values v;
  Schema schema;
  declare(schema, v);
  const std::string text =
      "[train]\nlr = 1\nsteps = 50\nbetas = [0.5]\nschedule = 'linear'\nlimits.ceiling = 3\n"
      "[data]\nname = 'n'\nshuffle = false\nseed = 4\n";
  std::vector<Schema::Assignment> assignments;
  for (const char* set : {"train.lr=", "train.betas=", "train.schedule=", "train.limits.ceiling=",
                          "data.shuffle=", "data.seed=", "train.steps=", "train.steps=60"})
    assignments.push_back(command_line_assignment(set));
  schema.load(text, "r.toml", assignments);
  EXPECT_EQ(v.lr, 1e-3);
  EXPECT_EQ(v.betas, (std::vector<double>{0.9, 0.95}));
  EXPECT_EQ(v.schedule, "cosine");
  EXPECT_EQ(v.ceiling, std::numeric_limits<double>::infinity());
  EXPECT_TRUE(v.shuffle);
  EXPECT_EQ(v.steps, 60);
  EXPECT_TRUE(schema.unused().empty());  // data.seed would be without data.layers
  EXPECT_FALSE(schema.at("train.lr").is_set());
  EXPECT_CONTAINS(schema.listing(), "  # default, by --set train.lr=, replaces r.toml:2:6\n");
  EXPECT_CONTAINS(schema.listing(), "  # --set train.steps=60, replaces r.toml:3:9\n");
  EXPECT_EQ(problems("data.name = 'n'", {"data.name="}),
            "--set data.name=: missing key 'data.name' (string): What to read.");
  EXPECT_EQ(problems("data.name = 'n'", {"data.nam="}),
            "--set data.nam=: unknown key 'data.nam'; did you mean 'data.name'?");
}

TEST(Schema, AKeyThatIsTakenAwayMayHaveHadAWrongValue) {
  const std::string name = "data.name = 'n'\n";
  EXPECT_EQ(problems(name + "train.lr = 'a'", {"train.lr="}), "");
  EXPECT_EQ(problems(name, {"train.lr=11", "train.lr="}), "");
  EXPECT_EQ(problems(name, {"train.lr=", "train.lr=11"}),
            "--set train.lr=11: 'train.lr' = 11 is out of range; allowed: 0 to 10");
  EXPECT_EQ(problems(name + "train.warmup_steps = 200\ntrain.steps = 'a'", {"train.steps="}),
            "--set train.steps=: the warm-up is longer than the run [train.warmup_steps = 200 (r.toml:2:22), "
            "train.steps = 100 (default, by --set train.steps=)]");
}

TEST(Schema, RefusesAnAssignmentWithoutKeyOrValue) {
  EXPECT_THROW(command_line_assignment("train.lr"), UsageError);
  EXPECT_THROW(command_line_assignment("=3"), UsageError);
}

TEST(Schema, RefusesAnAssignmentThatIsNotUtf8) {
  for (const std::string argument : {"data.name=\xff", "data.\xff=x", "data.name=ab\xc3"}) {
    const std::string message = testing::error_of<UsageError>([&] { command_line_assignment(argument); });
    EXPECT_CONTAINS(message, "this is not UTF-8");
    EXPECT_EQ(std::count_if(message.begin(), message.end(), [](char c) { return c < 0x20 || c > 0x7e; }), 0);
  }
  EXPECT_EQ(command_line_assignment("data.name=grüße").value, "grüße");
}

TEST(Schema, LeavesTheMemberAloneWhenTheValueIsWrong) {
  Values v;
  Schema schema;
  declare(schema, v);
  EXPECT_THROW(schema.load("[train]\nlr = 11\nbetas = [0.5, 2]", "r.toml", {}), InputError);
  EXPECT_EQ(v.lr, 1e-3);
  EXPECT_EQ(v.betas, (std::vector<double>{0.9, 0.95}));
}

TEST(Schema, CanonicalFormIsSortedAndWithoutCosmetics) {
  Values v;
  Schema schema;
  declare(schema, v);
  EXPECT_EQ(
      schema.canonical({"train"}).dump(),
      R"({"train.betas":[0.9,0.95],"train.floor":0.0,"train.limits.ceiling":{"__float__":"Infinity"},"train.lr":0.001,)"
      R"("train.schedule":"cosine","train.steps":100,"train.warmup_steps":10})");
  EXPECT_EQ(schema.canonical({"report"}).dump(), "{}");
}

TEST(Schema, ReferenceShowsEveryDeclaration) {
  Values v;
  Schema schema;
  declare(schema, v);
  const std::string page = schema.reference_markdown();
  EXPECT_NE(page.find("## [train]\n\nHow weights change.\n\n"), std::string::npos) << page;
  EXPECT_NE(page.find("| `lr` | number |  | 0 to 10 | `0.001` | Peak learning rate. |\n"), std::string::npos)
      << page;
  EXPECT_NE(page.find("| `steps` | integer | updates | 1 to 1000000000 | `100` | Length of the run. |\n"),
            std::string::npos)
      << page;
  EXPECT_NE(page.find("| `limits.ceiling` | number |  |  | `inf` | No a\\|b. |\n"), std::string::npos)
      << page;
  EXPECT_CONTAINS(page, "| Least lr. Only with train.schedule = \"cosine\" or \"linear\". |\n");
  EXPECT_NE(page.find("| `name` | string |  |  | required | What to read. |\n"), std::string::npos) << page;
  EXPECT_NE(page.find("| `methods` | list of strings |  | lp, alti | `[\"lp\"]` | Which maps. |\n"),
            std::string::npos)
      << page;
}

TEST(Schema, ListingIsTomlThatGivesTheSameValues) {
  Values v, again;
  v.name = "quote \" and \\ and \n";
  Schema schema, copy;
  declare(schema, v);
  declare(copy, again);
  copy.load(schema.listing(), "listing", {});
  EXPECT_EQ(copy.canonical({"train", "data"}), schema.canonical({"train", "data"}));
}

/// What was given where it has no meaning, a line each.
std::string unused(const std::string& text, const std::vector<std::string>& sets = {}) {
  Values v;
  Schema schema;
  declare(schema, v);
  std::vector<Schema::Assignment> assignments = {command_line_assignment("data.name=x")};
  for (const std::string& set : sets) assignments.push_back(command_line_assignment(set));
  schema.load(text, "r.toml", assignments);
  std::string lines;
  for (const Schema::Unused& each : schema.unused()) lines += each.message + "\n";
  return lines;
}

TEST(Schema, SaysWhatIsGivenWhereItHasNoMeaning) {
  EXPECT_EQ(unused(""), "");
  EXPECT_EQ(unused("train.floor = 1"), "");
  EXPECT_EQ(unused("data.layers = [1]\ndata.seed = 1"), "");
  EXPECT_EQ(unused("data.all = true"), "");
  EXPECT_EQ(
      unused("train.floor = 0.5", {"train.schedule=constant"}),
      "r.toml:1:15: 'train.floor' = 0.5 has a meaning only with train.schedule = \"cosine\" or \"linear\", "
      "but train.schedule = \"constant\" (--set train.schedule=constant); remove it, or change "
      "train.schedule\n");
  EXPECT_EQ(
      unused("data.layers = [1]\ndata.shuffle = false\ndata.all = false", {"data.seed=1"}),
      "--set data.seed=1: 'data.seed' = 1 has a meaning only with data.shuffle = true, but data.shuffle = "
      "false (r.toml:2:16); remove it, or change data.shuffle\n"
      "r.toml:3:12: 'data.all' = false has a meaning only without data.layers, but data.layers = [1] "
      "(r.toml:1:15); remove it, or change data.layers\n");
  EXPECT_EQ(unused("data.seed = 1\ndata.layers = [1]", {"data.layers="}),
            "r.toml:1:13: 'data.seed' = 1 has a meaning only with data.layers, but data.layers = [] "
            "(default, by --set data.layers=); remove it, or change data.layers\n");
  EXPECT_EQ(
      unused("data.seed = 1"),
      "r.toml:1:13: 'data.seed' = 1 has a meaning only with data.layers, but data.layers = [] (default); "
      "remove it, or change data.layers\n");
}

TEST(Schema, AConditionOnWhatHasNoMeaningItselfIsVoid) {
  bool generated = false;
  std::string file;
  int64_t rows = 0;
  Schema schema;
  schema.option("generated", &generated);
  schema.option("file", &file).only_with("generated", {"false"});
  schema.option("rows", &rows).only_with("file");
  for (const auto& [text, applies] : {std::pair{"generated = true", true},
                                      {"generated = false\nfile = \"a\"", true},
                                      {"generated = false", false}}) {
    file.clear();
    schema.load(text, "r.toml", {});
    EXPECT_EQ(schema.applies("rows"), applies) << text;
  }
}

TEST(Schema, AWrongValueSaysNothingAboutWhatDependsOnIt) {
  Values v;
  Schema schema;
  declare(schema, v);
  EXPECT_THROW(schema.load("data.name = 'x'\ntrain.floor = 1\ntrain.schedule = 'constnt'", "r.toml", {}),
               InputError);
  EXPECT_TRUE(schema.unused().empty());
}

TEST(Schema, ValuesOfABrokenSweepAskNoRules) {
  Values v;
  Schema schema;
  declare(schema, v);
  schema.load("data.name = 'x'\ntrain.warmup_steps = 200", "r.toml", {}, {}, {"train.steps"});
  EXPECT_EQ(v.warmup, 200);
}

TEST(Schema, WhatDoesNotApplyIsNoPartOfHashesAndACommentInTheListing) {
  Values v;
  Schema schema;
  declare(schema, v);
  schema.load("data.name = 'x'\ntrain.schedule = 'constant'", "r.toml", {});
  EXPECT_FALSE(schema.applies("train.floor"));
  EXPECT_FALSE(schema.canonical({"train"}).contains("train.floor"));
  EXPECT_CONTAINS(schema.listing(), "# train.floor = 0.0");
  EXPECT_CONTAINS(schema.listing(),
                  "# default, has a meaning only with train.schedule = \"cosine\" or \"linear\"\n");
}

TEST(Schema, AContradictionIsToldWhereTheLastWordWasSaid) {
  const std::string text = "data.name = 'x'\ntrain.warmup_steps = 50";
  EXPECT_EQ(
      problems(text, {"train.steps=20"}),
      "--set train.steps=20: the warm-up is longer than the run [train.warmup_steps = 50 (r.toml:2:22), "
      "train.steps = 20 (--set train.steps=20)]");
  EXPECT_EQ(problems("train.steps = 20\n" + text).rfind("r.toml:3:22: the warm-up", 0), 0u);
}

TEST(Schema, RefusesTwoDeclarationsOfOneKey) {
  Values v;
  Schema schema;
  declare(schema, v);
  EXPECT_THROW(schema.option("train.lr", &v.lr), InputError);
}

}  // namespace
}  // namespace exactmamba::core
