// Training on pairs of sentences, and `translate` and `generate` with what it leaves.
#include <algorithm>
#include <atomic>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <map>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sstream>
#include <sys/stat.h>
#include <termios.h>
#include <thread>
#include <unistd.h>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "cli/recipe.h"
#include "cli/trained_tokenizer.h"
#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/safetensors.h"
#include "core/stop_signal.h"
#include "tests/cli/recipe_folder.h"
#include "tests/support/program.h"
#include "tests/support/weights.h"

namespace exactmamba::cli {
namespace {

namespace fs = std::filesystem;
using core::Json;
using testing::ProgramOutcome;
using testing::put_file;
using testing::run_program;
using testing::TemporaryFolder;

constexpr const char* kTranslator = R"(
[run]
output = "out"
[data]
task = "translation"
train = ["train.{de,en}"]
valid = ["valid.tsv"]
exclude = ["valid.tsv"]
context = 40
[model]
d_model = 16
d_state = 8
headdim = 8
[train]
steps = 4
batch_size = 2
eval_every = 2
[decompose]
max_rows = 2
)";

const std::string kLines = "Guten Tag\na\n\nEin Satz, der länger ist\n  \nzwei\n";  // six lines

const std::string kPairs = "sechs\tsix\ndrei und vier\tthree and four\nvier fünf\tfour five\n";

std::vector<std::string> lines_of(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

class TranslateTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    put_file(*folder_ / "r.toml", kTranslator);
    put_file(*folder_ / "train.de", "eins\nzwei\ndrei\nvier fünf\nsechs\n");
    put_file(*folder_ / "train.en", "one\ntwo\nthree\nfour five\nsix\n");
    put_file(*folder_ / "valid.tsv", "zwei\tanother two\nsieben\tseven\n");
    run_ = new ProgramOutcome(run_program({"run", "r.toml"}, {.folder = folder_->path()}));
  }
  static void TearDownTestSuite() {
    delete run_;
    delete folder_;
  }
  ProgramOutcome program(const std::vector<std::string>& arguments, const std::string& input = kLines) const {
    return run_program(arguments, {.folder = folder_->path(), .input = input});
  }
  std::string succeed(const std::vector<std::string>& arguments, const std::string& input = kLines) const {
    const ProgramOutcome outcome = program(arguments, input);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return outcome.out;
  }
  /// In double, so that no rounding depends on what is translated together.
  std::string translate(std::vector<std::string> more, const std::string& input = kLines) const {
    more.insert(more.begin(), {"translate", "out", "--dtype", "float64"});
    return succeed(more, input);
  }
  fs::path checkpoint() const {
    for (const fs::directory_entry& stage : fs::directory_iterator(*folder_ / "out/stages"))
      if (stage.path().filename().string().starts_with("train-"))
        return stage.path() / "checkpoints/step-00000004";
    return {};
  }

  static TemporaryFolder* folder_;
  static ProgramOutcome* run_;
};
TemporaryFolder* TranslateTest::folder_;
ProgramOutcome* TranslateTest::run_;

TEST_F(TranslateTest, ARunTrainsDecomposesAndReports) {
  EXPECT_EQ(run_->code, 0) << run_->err;
  EXPECT_CONTAINS(run_->err, "1 of 5 pairs left out");
  EXPECT_TRUE(fs::exists(*folder_ / "out/report.html"));
  EXPECT_TRUE(fs::exists(checkpoint() / "tokenizer.json"));
}

TEST_F(TranslateTest, EveryLineHasItsLine) {
  const std::vector<std::string> lines = lines_of(translate({}));
  ASSERT_EQ(lines.size(), 6u);
  EXPECT_EQ(lines[2], "");
  EXPECT_EQ(lines[4], "");
  EXPECT_EQ(translate({}, "Guten Tag"), lines[0] + "\n");  // without an end of line
  EXPECT_EQ(translate({}, "\n"), "\n");
  EXPECT_EQ(translate({}, ""), "");
  const std::string beam = translate({});
  for (const char* window : {"1", "2", "1000"}) {
    EXPECT_EQ(translate({"--window", window}), beam);
    EXPECT_EQ(translate({"--window", window, "--batch-tokens", "1"}), beam);
  }
}

TEST_F(TranslateTest, LengthsAndBeamsAreChosen) {
  for (const std::string& line : lines_of(translate({"--max-ratio", "0.1", "--beam", "1"})))
    EXPECT_LE(line.size(), 9u) << line;  // 3 tokens of bytes, each at most U+FFFD
  const std::vector<std::string> moses = lines_of(translate({"--n-best", "2", "--beam", "3"}));
  ASSERT_EQ(moses.size(), 10u);  // two lines are empty, and have but one translation
  EXPECT_EQ(moses[4], "2 |||  ||| 0.000000");
  EXPECT_EQ(moses[5].rfind("3 ||| ", 0), 0u);
  EXPECT_EQ(moses[6].rfind("3 ||| ", 0), 0u);
  const std::vector<std::string> best = lines_of(translate({"--beam", "3"}));
  const std::vector<std::string> json = lines_of(translate({"--json", "--n-best", "2", "--beam", "3"}));
  ASSERT_EQ(json.size(), 6u);
  for (size_t i = 0; i < json.size(); ++i) {
    const Json found = Json::parse(json[i])["translations"];
    ASSERT_EQ(found.size(), i == 2 || i == 4 ? 1u : 2u);
    EXPECT_EQ(found.front()["text"], best[i]);
    EXPECT_GE(found.front()["score"], found.back()["score"]);
  }
}

TEST_F(TranslateTest, GenerateKnowsTheTokenizerToo) {
  const std::vector<std::string> greedy = lines_of(translate({"--beam", "1"}, "zwei\n"));
  const std::string model = checkpoint().string();
  EXPECT_EQ(
      succeed({"generate", model, "--text", "zwei<SEP>", "--max-new-tokens", "10", "--dtype", "float64"}),
      greedy.at(0) + "\n");
  EXPECT_EQ(
      succeed({"generate", "out", "--text", "zwei<SEP>", "--max-new-tokens", "10", "--dtype", "float64"}),
      greedy.at(0) + "\n");
  const Json json = Json::parse(
      succeed({"generate", model, "--text", "zwei<SEP>", "--beam", "3", "--n-best", "3", "--json"}));
  EXPECT_EQ(json["prompt_ids"], Json({'z', 'w', 'e', 'i', 256}));
  EXPECT_EQ(json["results"].size(), 3u);
  EXPECT_GE(json["results"][0]["score"], json["results"][1]["score"]);
  const std::vector<std::string> drawing = {"generate", model, "--ids",  "5,6,256", "--temperature", "1.5",
                                            "--top-k",  "9",   "--seed", "3",       "--n-best",      "4"};
  EXPECT_EQ(succeed(drawing), succeed(drawing));
  EXPECT_EQ(lines_of(succeed(drawing)).size(), 4u);
}

TEST_F(TranslateTest, GenerateContinuesEachLine) {
  const std::vector<std::string> prompts = {"zwei<SEP>", "Guten Tag<SEP>", "", "a", "fünf sechs<SEP>"};
  std::string input;
  for (const std::string& prompt : prompts) input += prompt + "\n";
  put_file(*folder_ / "prompts", input);
  using Words = std::vector<std::string>;
  for (const Words& choice :
       {Words{}, Words{"--beam", "3", "--n-best", "2"}, Words{"--temperature", "2", "--n-best", "2"}}) {
    const auto found = [&](const Words& more) {
      Words all = {"generate", "out", "--dtype", "float64", "--max-new-tokens", "12", "--stop", "-1"};
      all.insert(all.end(), choice.begin(), choice.end());
      all.insert(all.end(), more.begin(), more.end());
      return succeed(all, input);
    };
    const std::string json = found({"--prompts", "-", "--json"});
    for (const char* batch : {"1", "2"})
      EXPECT_EQ(found({"--prompts", "prompts", "--batch", batch, "--json"}), json);
    const Words lines = lines_of(json), texts = lines_of(found({"--prompts", "-"}));
    ASSERT_EQ(lines.size(), prompts.size());
    ASSERT_EQ(texts.size(), choice.empty() ? 5u : 9u);
    EXPECT_EQ(Json::parse(lines[2])["prompt_ids"], Json::array());
    EXPECT_EQ(texts[choice.empty() ? 2 : 4], choice.empty() ? "" : "2 ||| ");
    for (const size_t i : {0, 1, 3, 4}) {
      const Json alone = Json::parse(found({"--text", prompts[i], "--json"}));
      // What is drawn depends on the number of the prompt.
      const bool drawn = !choice.empty() && choice[0] == "--temperature";
      if (i == 0 || !drawn) {
        EXPECT_EQ(Json::parse(lines[i]), alone);
      }
      std::string text = Json::parse(lines[i]).value("text", "");
      std::replace(text.begin(), text.end(), '\n', ' ');
      std::replace(text.begin(), text.end(), '\r', ' ');
      if (choice.empty()) {
        EXPECT_EQ(texts[i], text);
      }
    }
  }
}

TEST_F(TranslateTest, MaxRatioLimitsEachContinuation) {
  for (const std::string choice : {"--quiet", "--temperature=2", "--beam=3"}) {
    const std::vector<std::string> lines =
        lines_of(succeed({"generate", "out", "--prompts", "-", "--json", "--stop", "-1", "--max-new-tokens",
                          "4", choice, "--max-ratio=0.6"},
                         "a\nabcde\nabcdefghijk\n"));
    for (const auto& [line, tokens] : {std::pair{0, 1}, {1, 3}, {2, 4}})
      EXPECT_EQ(Json::parse(lines.at(line))["ids"].size(), tokens) << choice;
  }
}

/// A writer that waits for its answer before it goes on, as other programs use a filter.
class Conversation {
 public:
  explicit Conversation(const std::vector<std::string>& arguments, const fs::path& folder) {
    for (const char* pipe : {"in", "out"}) ::mkfifo((streams_ / pipe).c_str(), 0600);
    child_ = testing::start_program(
        arguments, {.folder = folder, .stdin_file = streams_ / "in", .stdout_file = streams_ / "out"},
        folder_of_errors_);
    to_.open(streams_ / "in");
    from_ = ::open((streams_ / "out").c_str(), O_RDONLY);
  }
  ~Conversation() { ::close(from_); }
  void say(const std::string& text) { to_ << text << std::flush; }
  /// The next line; what there is of it when nothing more comes for a minute, or at the end.
  std::string answer() {
    std::string line;
    pollfd there{.fd = from_, .events = POLLIN, .revents = 0};
    char c = 0;
    while (::poll(&there, 1, 60'000) == 1 && ::read(from_, &c, 1) == 1 && c != '\n') line += c;
    return line;
  }
  int end() {
    to_.close();
    return testing::finish_program(child_, folder_of_errors_).code;
  }

 private:
  TemporaryFolder streams_, folder_of_errors_;
  pid_t child_ = 0;
  std::ofstream to_;
  int from_ = -1;
};

TEST_F(TranslateTest, AnswersBeforeTheEndOfAPipe) {
  const std::vector<std::string> words = {"zwei", "", "Guten Tag", "drei"};
  for (const std::vector<std::string>& command :
       {std::vector<std::string>{"translate", "out", "--dtype", "float64"},
        {"generate", "out", "--dtype", "float64", "--prompts", "-", "--max-new-tokens", "9"}}) {
    std::string input;
    for (const std::string& word : words) input += word + "\n";
    const std::vector<std::string> expected = lines_of(succeed(command, input));
    Conversation program(command, folder_->path());
    for (size_t i = 0; i < words.size(); ++i) {
      program.say(words[i] + "\n");
      EXPECT_EQ(program.answer(), expected.at(i)) << command[0];
    }
    program.say(input);
    for (const std::string& line : expected) EXPECT_EQ(program.answer(), line) << command[0];
    EXPECT_EQ(program.end(), 0);
  }
}

/// What comes to a terminal, which changes nothing.
class Terminal {
 public:
  Terminal() {
    termios raw{};
    ::cfmakeraw(&raw);
    char name[64] = "";
    EXPECT_EQ(::openpty(&own_, &its_, name, &raw, nullptr), 0);
    name_ = name;
  }
  ~Terminal() {
    ::close(own_);
    ::close(its_);
  }
  const std::string& name() const { return name_; }
  /// So many bytes, or what comes without a pause of so long.
  std::string read(size_t most, int milliseconds) {
    std::string text;
    pollfd there{.fd = own_, .events = POLLIN, .revents = 0};
    char c = 0;
    while (text.size() < most && ::poll(&there, 1, milliseconds) == 1 && ::read(own_, &c, 1) == 1) text += c;
    return text;
  }

 private:
  int own_ = -1, its_ = -1;
  std::string name_;
};

TEST_F(TranslateTest, TextComesToATerminalAsItIsMade) {
  const auto start = [&](Terminal& terminal, const std::vector<std::string>& more,
                         const TemporaryFolder& rest) {
    std::vector<std::string> all = {"generate", "out", "--text", "zwei<SEP>", "--stop", "-1"};
    all.insert(all.end(), more.begin(), more.end());
    return testing::start_program(all, {.folder = folder_->path(), .stdout_file = terminal.name()}, rest);
  };
  const TemporaryFolder rest;
  Terminal terminal;
  for (const std::string choice : {"--top-k=1", "--temperature=3"}) {
    const pid_t child = start(terminal, {choice, "--max-new-tokens", "80"}, rest);
    EXPECT_EQ(testing::finish_program(child, rest).code, 0);
    EXPECT_EQ(terminal.read(10'000, 100), succeed({"generate", "out", "--text", "zwei<SEP>", "--stop", "-1",
                                                   choice, "--max-new-tokens", "80"}));
  }
  const pid_t child = start(terminal, {"--max-new-tokens", "1000000"}, rest);
  EXPECT_EQ(terminal.read(50, 60'000).size(), 50u);
  EXPECT_EQ(::waitpid(child, nullptr, WNOHANG), 0);  // it goes on
  ::kill(child, SIGKILL);
  testing::finish_program(child, rest);
}

TEST_F(TranslateTest, PublishedModelsCarryTheTokenizer) {
  succeed({"convert", checkpoint().string(), "--output", "published"});
  EXPECT_EQ(succeed({"translate", "published", "--dtype", "float64"}), translate({}));
  fs::remove(*folder_ / "published/tokenizer.json");
  const ProgramOutcome without = program({"translate", "published"});
  EXPECT_EQ(without.code, 3);
  EXPECT_CONTAINS(without.err, "published/tokenizer.json: no such file; a model that translates has its");
}

/// By the numbers of `translate` and `score`, for one process and for two.
TEST_F(TranslateTest, BleuChoosesTheBestCheckpoint) {
  put_file(*folder_ / "learned.tsv",
           "eins zwei drei\tone and two and three\nzwei drei eins\ttwo and three and one\n");
  put_file(*folder_ / "targets", "one and two and three\ntwo and three and one\n");
  for (const std::string processes : {"1", "2"}) {
    std::vector<std::string> arguments = {"train", "r.toml", "--json", "--processes", processes};
    for (const std::string set : {"data.train=[\"learned.tsv\"]", "data.valid=[\"learned.tsv\"]",
                                  "data.exclude=[]", "train.steps=80", "train.lr=0.02", "train.eval_every=40",
                                  "train.best_measure=bleu", "train.result=best", "train.dtype=float64"})
      arguments.insert(arguments.end(), {"--set", set});
    const std::string batch = processes == "1" ? "train.batch_size=2" : "train.batch_size=1";
    arguments.insert(arguments.end(), {"--set", batch, "--set", "run.output=bleu-" + processes});
    const Json result = Json::parse(succeed(arguments))[0]["result"];
    EXPECT_GT(result["best"]["value"], 5) << "the test needs a model that learned";
    EXPECT_EQ(result["best"]["checkpoint"], result["checkpoint"]);
    const std::string found =
        succeed({"translate", result["checkpoint"], "--beam", "1", "--dtype", "float64"},
                "eins zwei drei\nzwei drei eins\n");
    const Json score = Json::parse(
        succeed({"score", "bleu", "-", "--reference", "targets", "--json", "--width", "9"}, found));
    EXPECT_NEAR(score["score"], result["best"]["value"], 1e-8) << score;
  }
}

TEST_F(TranslateTest, TheModelOfARunIsItsResult) {
  for (const std::string result : {"last", "best"}) {
    const std::string output = "worse-" + result;
    const Json trained =
        Json::parse(succeed({"train", "r.toml", "--json", "--set", "train.lr=2", "--set",
                             "train.result=" + result, "--set", "run.output=" + output}))[0]["result"];
    ASSERT_NE(trained["best"]["step"], 4) << "the test needs a training that gets worse";
    const ProgramOutcome outcome = program({"translate", output, "--beam", "1"}, "zwei\n");
    EXPECT_CONTAINS(outcome.err, "model: " + trained["checkpoint"].get<std::string>());
    EXPECT_EQ(trained["checkpoint"] == trained["best"]["checkpoint"], result == "best");
  }
}

TEST_F(TranslateTest, TwoVersionsOfARunAreToldApart) {
  std::map<std::string, std::string> trainings;  // with what the program must tell them apart by
  for (const std::string rate : {"0.1", "0.2"}) {
    put_file(*folder_ / "changing.tsv", kPairs + "eins\t" + rate + "\n");  // not told: the option says enough
    const Json result =
        Json::parse(succeed({"train", "r.toml", "--json", "--set", "run.output=versions", "--set",
                             "data.train=[\"changing.tsv\"]", "--set", "train.lr=" + rate}))[0];
    const fs::path checkpoint = result["result"]["checkpoint"].get<std::string>();
    trainings[checkpoint.parent_path().parent_path().string()] = " ('r', train.lr = " + rate + ")";
  }
  ASSERT_EQ(trainings.size(), 2u);
  const ProgramOutcome which = program({"translate", "versions"});
  EXPECT_EQ(which.code, 3);
  EXPECT_EQ(std::count(which.err.begin(), which.err.end(), '\n'), 1) << which.err;
  for (const auto& [training, version] : trainings) {
    EXPECT_CONTAINS(which.err, training + version);
    EXPECT_CONTAINS(program({"translate", training}).err, "model: " + training);
  }
}

TEST_F(TranslateTest, VersionsOfTheSameOptionsAreToldApartByTheirData) {
  std::map<std::string, std::string> trainings;  // with what the program must tell them apart by
  const std::string data = "data.train=[\"changing.tsv\"]", output = "run.output=data-versions";
  for (const std::string text : {"eins\tone\n", "acht\teight\n"}) {
    put_file(*folder_ / "changing.tsv", kPairs + text);
    const Json result = Json::parse(succeed(
        {"train", "r.toml", "--json", "--set", output, "--set", data, "--set", "data.exclude=[]"}))[0];
    const fs::path training =
        fs::path(result["result"]["checkpoint"].get<std::string>()).parent_path().parent_path();
    const Json record = core::read_json(*folder_ / training / "stage.json");
    trainings[training.string()] =
        fmt::format("training data = changing.tsv {})",
                    record["inputs"]["training data"].get<std::string>().substr(0, 18));
  }
  ASSERT_EQ(trainings.size(), 2u);
  std::string told = program({"translate", "data-versions"}).err;
  for (const auto& [training, version] : trainings) EXPECT_CONTAINS(told, training + " ('r', " + version);
  for (const auto& [training, version] : trainings) {  // as of a record without a label
    const fs::path file = *folder_ / training / "stage.json";
    Json record = core::read_json(file);
    record["result"].erase("label");
    core::write_json(file, record);
  }
  told = program({"translate", "data-versions"}).err;
  for (const auto& [training, version] : trainings) EXPECT_CONTAINS(told, training + " (" + version);
}

/// A norm whose results overflow; with two processes, of which one has no pair to translate.
TEST_F(TranslateTest, BleuOfLogitsThatAreNotFiniteIsTheWorst) {
  const fs::path model = *folder_ / "overflowing";
  fs::copy(checkpoint(), model);
  fs::remove(model / "checksums.json");
  core::NamedTensors weights = testing::weights_of(model);
  for (auto& [name, values] : weights)
    if (name.find("norm_f") != std::string::npos) values.fill_(3e38);
  core::write_safetensors(model / "model.safetensors", weights);
  std::string recipe = kTranslator;
  const size_t sizes = recipe.find("[model]"), behind = recipe.find("[train]");
  put_file(*folder_ / "overflowing.toml", recipe.replace(sizes, behind - sizes, ""));
  put_file(*folder_ / "one.tsv", "zwei\ttwo\n");
  for (const std::string processes : {"1", "2"}) {
    std::vector<std::string> arguments = {"train", "overflowing.toml", "--processes", processes};
    for (const std::string set :
         {"model.from=overflowing", "data.valid=[\"one.tsv\"]", "data.exclude=[]", "train.max_bad_steps=9",
          "train.best_measure=bleu", "run.peer_timeout=30", "train.batch_size=1"})
      arguments.insert(arguments.end(), {"--set", set});
    arguments.insert(arguments.end(), {"--set", "run.output=overflowing-" + processes});
    const ProgramOutcome outcome = program(arguments);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_CONTAINS(outcome.err, "evaluation after update 4: bleu is not finite, which counts as worst");
  }
}

TEST_F(TranslateTest, TranslationForBleuStopsWhenAsked) {
  std::string many;
  for (int line = 0; line < 3000; ++line) many += "eine Zeile von vielen\tone line of many\n";
  put_file(*folder_ / "many.tsv", many);
  const TemporaryFolder streams;
  const pid_t child = testing::start_program(
      {"train", "r.toml", "--set", "data.valid=[\"many.tsv\"]", "--set", "data.exclude=[]", "--set",
       "data.max_valid_rows=3000", "--set", "train.best_measure=bleu", "--set", "run.output=stopped"},
      {.folder = folder_->path()}, streams);
  fs::path stage;
  wait_for(child, [&] {
    std::error_code none_yet;
    for (const auto& entry : fs::directory_iterator(*folder_ / "stopped/stages", none_yet))
      stage = entry.path();
    return fs::exists(stage / "metrics.jsonl");
  });
  ::kill(child, SIGINT);
  const ProgramOutcome stopped = testing::finish_program(child, streams);
  EXPECT_EQ(stopped.code, 130) << stopped.err;
  EXPECT_CONTAINS(stopped.err, "stopped after update 0 of 4");
  EXPECT_EQ(core::read_json(stage / "checkpoints/step-00000000/trainer.json")["evaluation_pending"], true);
  const ProgramOutcome unfinished = program({"translate", "stopped", "--beam", "1"}, "zwei\n");
  EXPECT_EQ(unfinished.code, 0);
  EXPECT_CONTAINS(unfinished.err, "warning: stopped/stages/" + stage.filename().string() +
                                      ": this training is not finished; its last checkpoint is used");
}

TEST_F(TranslateTest, ContradictionsAreRefused) {
  const auto refusal = [this](const std::vector<std::string>& arguments, int code) {
    const ProgramOutcome outcome = program(arguments);
    EXPECT_EQ(outcome.code, code) << outcome.err;
    EXPECT_EQ(outcome.out, "");
    return outcome.err;
  };
  const std::string model = checkpoint().string();
  EXPECT_CONTAINS(refusal({"translate", "out", "--n-best", "6"}, 2),
                  "--n-best: a beam of 5 has no 6 results; give --beam 6");
  EXPECT_CONTAINS(refusal({"translate", "out", "--max-ratio", "0"}, 2),
                  "--max-ratio: 0 is no number above 0");
  EXPECT_CONTAINS(refusal({"generate", model, "--ids", "1", "--n-best", "4", "--beam", "3"}, 2),
                  "--n-best: a beam of 3 has no 4 results; give --beam 4");
  EXPECT_CONTAINS(refusal({"generate", model, "--ids", "1", "--top-p", "1.5"}, 2),
                  "--top-p: 1.5 is no number above 0 and at most 1");
  EXPECT_CONTAINS(refusal({"generate", model, "--text", ""}, 2),
                  "--text: is empty; give at least one character");
  EXPECT_CONTAINS(refusal({"generate", model}, 2), "--prompts");
  EXPECT_CONTAINS(refusal({"generate", model, "--prompts", "-", "--text", "a"}, 2), "--prompts");
  EXPECT_CONTAINS(refusal({"generate", model, "--ids", "1", "--tokenizer", "byte"}, 2), "--tokenizer");
  EXPECT_CONTAINS(refusal({"generate", model, "--prompts", "-", "--tokenizer", "copy"}, 1), "stdin:1: ");
  EXPECT_CONTAINS(refusal({"translate", "missing"}, 3), "missing");
  EXPECT_CONTAINS(refusal({"generate", model, "--ids", "1", "--beam", "2", "--top-k", "3"}, 2), "--beam");
  EXPECT_CONTAINS(refusal({"generate", model, "--ids", "1", "--length-penalty", "1"}, 2), "--beam");
  EXPECT_CONTAINS(refusal({"generate", model, "--ids", "1", "--seed", "1"}, 2), "--temperature");
  EXPECT_CONTAINS(refusal({"generate", model, "--ids", "1", "--n-best", "2"}, 2), "--beam");
  EXPECT_CONTAINS(refusal({"generate", model, "--ids", "1", "--temperature", "0"}, 1), "temperature is 0");
  const ProgramOutcome invalid = program({"translate", "out"}, "a\n\xff\n");
  EXPECT_EQ(invalid.code, 1);
  EXPECT_CONTAINS(invalid.err, "stdin:2");
  EXPECT_EQ(lines_of(succeed({"translate", "out", "--on-invalid-utf8", "replace"}, "a\n\xff\n")).size(), 2u);
}

std::vector<fs::path> tokenizer_stages(const fs::path& output) {
  std::vector<fs::path> found;
  for (const fs::directory_entry& stage : fs::directory_iterator(output / "stages"))
    if (stage.path().filename().string().starts_with("tokenizer-")) found.push_back(stage.path());
  return found;
}

/// By two runs and two processes; it is what train-tokenizer makes of the same pairs.
TEST(RecipeTokenizer, IsMadeOnceAndShared) {
  const TemporaryFolder folder;
  put_file(folder / "r.toml", std::string(kTranslator) + "[sweep]\n\"run.seed\" = [1, 2]\n");
  put_file(folder / "train.de", "eins\nzwei\ndrei\nvier fünf\nsechs\n");
  put_file(folder / "train.en", "one\ntwo\nthree\nfour five\nsix\n");
  put_file(folder / "valid.tsv", "zwei\tanother two\nsieben\tseven\n");
  put_file(folder / "kept.de", "eins\ndrei\nvier fünf\nsechs\n");
  put_file(folder / "kept.en", "one\nthree\nfour five\nsix\n");
  const auto program = [&folder](const std::string& command, const std::vector<std::string>& more) {
    std::vector<std::string> all = {
        command, "r.toml",         "--set", "data.tokenizer=bpe", "--set", "data.vocab_size=270",
        "--set", "data.pack=false"};
    all.insert(all.end(), more.begin(), more.end());
    return run_program(all, {.folder = folder.path()});
  };
  EXPECT_CONTAINS(program("validate", {}).out, "270 token ids of a tokenizer that is made first");
  const ProgramOutcome early = program("report", {});
  EXPECT_EQ(early.code, 1);
  EXPECT_CONTAINS(
      early.err, "'seed=1': its tokenizer is not made yet: there is no finished stage out/stages/tokenizer-");
  EXPECT_EQ(program("train", {"--set", "evaluate.test=[\"kept.{de,en}\", \"x/kept.{en,de}\"]"}).code, 3);
  EXPECT_FALSE(fs::exists(folder / "out"));
  const ProgramOutcome first = program("train", {"--processes", "2"});
  ASSERT_EQ(first.code, 0) << first.err;
  const std::vector<fs::path> stages = tokenizer_stages(folder / "out");
  ASSERT_EQ(stages.size(), 1u);
  const std::string made = core::read_file(stages[0] / "tokenizer.json");
  const ProgramOutcome alone = run_program({"train-tokenizer", "kept.{de,en}", "--vocab-size", "270",
                                            "--special", "<SEP>", "<EOS>", "--output", "-"},
                                           {.folder = folder.path()});
  EXPECT_EQ(alone.out, made) << alone.err;
  int trainings = 0;
  for (const fs::directory_entry& stage : fs::directory_iterator(folder / "out/stages")) {
    if (!stage.path().filename().string().starts_with("train-")) continue;
    EXPECT_EQ(core::read_file(stage.path() / "checkpoints/step-00000004/tokenizer.json"), made);
    ++trainings;
  }
  EXPECT_EQ(trainings, 2);
  const ProgramOutcome which = run_program({"translate", "out"}, {.folder = folder.path()});
  EXPECT_EQ(which.code, 3);
  EXPECT_CONTAINS(
      which.err, "out: holds several trainings; give the folder of one, the newest first: out/stages/train-");
  EXPECT_LT(which.err.find("('seed=2')"), which.err.find("('seed=1')"));
  for (const char* label : {"('seed=1')", "('seed=2')"}) EXPECT_CONTAINS(which.err, label);
  EXPECT_EQ(std::count(which.err.begin(), which.err.end(), '\n'), 1) << which.err;

  const ProgramOutcome again = program("train", {});
  EXPECT_EQ(again.code, 0) << again.err;
  EXPECT_CONTAINS(first.err, "making a tokenizer of 270 tokens");
  EXPECT_EQ(first.err.find("making a tokenizer"), first.err.rfind("making a tokenizer")) << first.err;
  EXPECT_EQ(first.err.find("pairs left out"), first.err.rfind("pairs left out")) << first.err;
  EXPECT_CONTAINS(again.err, "seed=1: tokenizer-");
  EXPECT_EQ(again.err.find("making a tokenizer"), std::string::npos) << again.err;
  put_file(stages[0] / "tokenizer.json", "{}");
  const ProgramOutcome damaged = program("train", {});
  EXPECT_EQ(damaged.code, 1);
  EXPECT_CONTAINS(damaged.err, "delete out/stages/tokenizer-");
  fs::remove_all(stages[0]);
  const ProgramOutcome anew = program("train", {});
  EXPECT_EQ(anew.code, 0) << anew.err;
  EXPECT_CONTAINS(anew.err, " is done");
  EXPECT_EQ(core::read_file(tokenizer_stages(folder / "out").at(0) / "tokenizer.json"), made);
}

TEST(RecipeTokenizer, AStopIsSaidAndNothingIsKept) {
  const TemporaryFolder folder, streams;
  std::string pairs;
  for (int i = 0; i < 300'000; ++i)
    pairs += fmt::format("some words {} to learn from\tother words {}\n", i, i * 7);
  put_file(folder / "train.tsv", pairs);
  put_file(folder / "valid.tsv", "two\tthree\n");
  put_file(folder / "r.toml", kTranslator);
  const pid_t child = testing::start_program({"train", "r.toml", "--set", "data.tokenizer=bpe", "--set",
                                              "data.vocab_size=8000", "--set", "data.train=[\"train.tsv\"]"},
                                             {.folder = folder.path()}, streams);
  wait_for(child, [&streams] {
    return testing::content_of(streams / "err").find("making a tokenizer") != std::string::npos;
  });
  ::kill(child, SIGINT);
  const ProgramOutcome outcome = testing::finish_program(child, streams);
  EXPECT_EQ(outcome.code, 128 + SIGINT);
  EXPECT_CONTAINS(outcome.err,
                  "error: stopped while making the tokenizer, of which nothing is kept; run again");
  EXPECT_FALSE(fs::exists(tokenizer_stages(folder / "out").at(0) / "tokenizer.json"));
}

/// The signal comes when the tokenizer is being written; should it come after that, the next try is made.
TEST(RecipeTokenizer, AStopWhileItIsWrittenIsSaid) {
  const TemporaryFolder folder;
  put_file(folder / "train.tsv", "eins zwei\tone two\ndrei\tthree\n");
  put_file(folder / "r.toml", kTranslator);
  std::string said;
  for (int attempt = 0; attempt < 50 && said.empty(); ++attempt) {
    const std::string output = (folder / std::to_string(attempt)).string();
    const std::string pairs = "[\"" + (folder / "train.tsv").string() + "\"]";
    const RecipeFile file = load_recipe(
        (folder / "r.toml").string(), {"data.train=" + pairs, "data.valid=" + pairs, "data.exclude=[]",
                                       "data.tokenizer=bpe", "data.vocab_size=262", "run.output=" + output});
    const core::StopHandler handler;
    std::atomic<bool> over = false;
    std::thread sender([&] {
      const auto is_begun = [&output] {
        std::error_code none_yet;
        for (const auto& entry : fs::recursive_directory_iterator(output, none_yet))
          if (entry.path().string().find("tokenizer.json") != std::string::npos) return true;
        return false;
      };
      while (!over && !is_begun()) continue;
      ::kill(::getpid(), SIGINT);
    });
    try {
      trained_tokenizer(*file.runs.front(), make_and_keep);
    } catch (const core::Interrupted& stop) {
      said = stop.what();
    }
    over = true;
    sender.join();
    core::clear_stop_request();
  }
  EXPECT_EQ(said, "stopped when the tokenizer was made, which is kept; run again to continue");
}

}  // namespace
}  // namespace exactmamba::cli
