// tokenize and train-tokenizer, run as a user would.
#include <algorithm>
#include <filesystem>
#include <sstream>

#include <gtest/gtest.h>

#include "core/files.h"
#include "core/json.h"
#include "tests/support/golden_json.h"
#include "tests/support/program.h"
#include "tests/support/tensors.h"

namespace exactmamba::cli {
namespace {

namespace fs = std::filesystem;
using core::Json;
using testing::golden;
using testing::put_file;
using testing::run_program;
using testing::TemporaryFolder;

const std::string kTiny = golden("tokenizers/tiny_nfc").string();

std::vector<Json> objects_of(const std::string& lines) {
  std::istringstream text(lines);
  std::vector<Json> objects;
  for (std::string line; std::getline(text, line);) objects.push_back(Json::parse(line));
  return objects;
}

TEST(Tokenize, GoldenTextsThereAndBack) {
  const TemporaryFolder folder;
  const Json cases = testing::golden_json("tokenizers/neox/encodings.json")["cases"];
  std::string texts;
  for (const Json& row : cases) texts += Json{{"text", row["text"]}}.dump() + "\n";
  put_file(folder / "texts.jsonl", texts);
  const std::string tokenizer = golden("tokenizers/neox").string();
  const auto encoded =
      run_program({"tokenize", tokenizer, (folder / "texts.jsonl").string(), "--threads", "2"});
  ASSERT_EQ(encoded.code, 0) << encoded.err;
  const std::vector<Json> lines = objects_of(encoded.out);
  ASSERT_EQ(lines.size(), cases.size());
  for (size_t i = 0; i < lines.size(); ++i) {
    EXPECT_EQ(lines[i]["ids"], cases[i]["ids"]) << cases[i]["name"];
    EXPECT_EQ(lines[i]["offsets"], cases[i]["offsets"]) << cases[i]["name"];
  }
  for (const std::string key : {"decoded", "decoded_skip_special"}) {
    std::vector<std::string> arguments = {"tokenize", tokenizer, "--decode", "--json"};
    if (key == "decoded_skip_special") arguments.push_back("--skip-special");
    const auto decoded = run_program(arguments, {.input = encoded.out});
    ASSERT_EQ(decoded.code, 0) << decoded.err;
    const std::vector<Json> back = objects_of(decoded.out);
    ASSERT_EQ(back.size(), cases.size());
    for (size_t i = 0; i < back.size(); ++i)
      EXPECT_EQ(back[i]["text"], cases[i].contains(key) ? cases[i][key] : cases[i]["decoded"])
          << cases[i]["name"];
  }
}

TEST(Tokenize, LinesOfStdin) {
  const auto outcome = run_program({"tokenize", "byte"}, {.input = "ab\r\n\n\u00e9"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out,
            "{\"ids\": [97, 98], \"offsets\": [[0, 1], [1, 2]]}\n"
            "{\"ids\": [], \"offsets\": []}\n"
            "{\"ids\": [195, 169], \"offsets\": [[0, 1], [0, 1]]}\n");
  EXPECT_EQ(run_program({"tokenize", kTiny}, {.input = ""}).out, "");
  EXPECT_EQ(run_program({"tokenize", kTiny, "--decode"}, {.input = ""}).out, "");
  const auto text =
      run_program({"tokenize", "byte", "--decode"}, {.input = "{\"ids\": [97, 256, 98]}\n{\"ids\": []}\n"});
  EXPECT_EQ(text.out, "ab\n\n");
}

TEST(Tokenize, AHugeLine) {
  std::string line;
  for (int i = 0; i < 500'000; ++i) line += "wor\u0301d" + std::to_string(i % 1000) + (i % 7 == 0 ? " " : "");
  const auto encoded = run_program({"tokenize", kTiny}, {.input = line});
  ASSERT_EQ(encoded.code, 0) << encoded.err;
  const auto decoded = run_program({"tokenize", kTiny, "--decode"}, {.input = encoded.out});
  EXPECT_EQ(decoded.out.size(), line.size() - 500'000 + 1);  // "ŕ" is "ŕ", a byte less; and the line's end
}

TEST(Tokenize, BytesThatAreNoText) {
  const TemporaryFolder folder;
  put_file(folder / "a.txt",
           "good\nb\xE4"
           "d\n");
  const std::string file = (folder / "a.txt").string();
  const auto refused = run_program({"tokenize", kTiny, file});
  EXPECT_EQ(refused.code, 1);
  EXPECT_EQ(refused.err, "exactmamba: error: " + file +
                             ":2: this is not UTF-8: byte 1 of the line is 0xe4; convert the file, or have "
                             "what is wrong replaced "
                             "(data.on_invalid_utf8, --on-invalid-utf8)\n");
  const auto replaced = run_program({"tokenize", kTiny, file, "--on-invalid-utf8", "replace"});
  EXPECT_EQ(replaced.code, 0) << replaced.err;
  EXPECT_EQ(run_program({"tokenize", kTiny, "--decode"}, {.input = replaced.out}).out, "good\nb\uFFFDd\n");
  EXPECT_CONTAINS(run_program({"tokenize", kTiny}, {.input = "x\n\xFF"}).err,
                  "error: stdin:2: this is not UTF-8");
}

TEST(Tokenize, APipeThatClosesEarlyEndsItSilently) {
  const TemporaryFolder folder;
  const std::string command = "yes 'some words of text' | head -n 300000 | " +
                              std::string(EXACTMAMBA_PROGRAM) + " tokenize " + kTiny + " 2> " +
                              (folder / "err").string() + " | head -n 1 > " + (folder / "out").string();
  EXPECT_EQ(std::system(("bash -c \"" + command + "\"").c_str()), 0);
  EXPECT_TRUE(core::read_file(folder / "out").starts_with("{\"ids\": ["));
  EXPECT_EQ(core::read_file(folder / "err"), "");
}

TEST(Tokenize, ErrorsSayWhere) {
  const auto error = [](const std::vector<std::string>& arguments, const std::string& input = "") {
    const auto outcome = run_program(arguments, {.input = input});
    EXPECT_NE(outcome.code, 0);
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    return outcome.err;
  };
  EXPECT_CONTAINS(error({"tokenize", "nowhere.json"}), "nowhere.json");
  EXPECT_CONTAINS(error({"tokenize", kTiny, "nowhere.txt"}), "nowhere.txt: No such file");
  EXPECT_CONTAINS(error({"tokenize", golden("models/mamba1-hf/config.json").string()}), "is not supported");
  EXPECT_CONTAINS(error({"tokenize", "copy"}, "ab\nA\n"), "stdin:2: 'A'");
  EXPECT_CONTAINS(error({"tokenize", "byte", "--decode"}, "{\"ids\": [1]}\n{\"ids\": [300]}\n"),
                  "stdin:2: token id 300 is outside");
  EXPECT_CONTAINS(error({"tokenize", "byte", "--decode"}, "{\"id\": [1]}"), "stdin:1: there is no key 'ids'");
  EXPECT_CONTAINS(error({"tokenize", "byte", "--decode"}, "[1]"), "stdin:1");
  EXPECT_CONTAINS(error({"tokenize", "byte", "--skip-special"}), "--decode");
}

TEST(TrainTokenizer, MakesTheGoldenMerges) {
  const TemporaryFolder folder;
  const std::string corpus = golden("tokenizers/bpe_training/corpus.txt").string();
  const std::string file = (folder / "tokenizer.json").string();
  const auto outcome = run_program(
      {"train-tokenizer", corpus, "--vocab-size", "600", "--special", "<eos>", "<sep>", "--output", file});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, file + ": 600 tokens, 342 merges\n");
  const Json made = core::read_json(file),
             expected = core::read_json(golden("tokenizers/bpe_training/expected.json"));
  EXPECT_EQ(made["model"]["merges"], expected["results"][0]["merges"]);
  const auto encoded = run_program({"tokenize", file}, {.input = "Tom <sep> Mary\n"});
  EXPECT_EQ(run_program({"tokenize", file, "--decode"}, {.input = encoded.out}).out, "Tom <sep> Mary\n");
  EXPECT_CONTAINS(run_program({"train-tokenizer", corpus, "--vocab-size", "600", "--output", file}).err,
                  "exists already");
  EXPECT_CONTAINS(run_program({"train-tokenizer", "-", "--vocab-size", "600", "--output", "-"}).err,
                  "there is no text in -");
  EXPECT_CONTAINS(run_program({"train-tokenizer", corpus, "--vocab-size", "100", "--output", "-"}).err,
                  "--vocab-size: a vocabulary of 100 tokens is not between 256");
  EXPECT_CONTAINS(run_program({"train-tokenizer", "no.txt", "--vocab-size", "600", "--special", "a", "a",
                               "--output", "-"})
                      .err,
                  "--special: the special token 'a' is given twice; leave one out");
  EXPECT_CONTAINS(
      run_program({"train-tokenizer", "no.txt", "--vocab-size", "600", "--output", "nowhere/t.json"}).err,
      "--output nowhere/t.json: there is no folder nowhere; make it");  // and not that there is no text
  EXPECT_CONTAINS(run_program({"train-tokenizer", corpus, "--vocab-size", "600", "--output", folder.path(),
                               "--overwrite"})
                      .err,
                  folder.path().string() + ": is a folder");
}

TEST(TrainTokenizer, SaysWhenTheTextIsTooSmall) {
  const auto outcome = run_program({"train-tokenizer", "-", "--vocab-size", "300", "--output", "-"},
                                   {.input = "aab\naab\n"});  // "aa" and "aab"
  EXPECT_EQ(outcome.code, 0);
  EXPECT_CONTAINS(outcome.err, "258 tokens instead of --vocab-size 300");
  EXPECT_EQ(
      run_program({"train-tokenizer", "-", "--vocab-size", "258", "--output", "-"}, {.input = "aab\naab\n"})
          .err,
      "");
}

TEST(Tokenize, ReadsColumnsOfParquet) {
  const std::string file = golden("data/parquet/one-row-per-group.snappy.parquet").string();
  const auto refused = run_program({"tokenize", "byte", file});  // of 7 rows one is null
  EXPECT_EQ(refused.code, 1);
  EXPECT_CONTAINS(refused.err, file + ": row group 5, row 0: there is no text (null); --on-bad-record skip");
  const auto outcome = run_program({"tokenize", "byte", file, "--on-bad-record", "skip"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(std::count(outcome.out.begin(), outcome.out.end(), '\n'), 6);
  EXPECT_CONTAINS(outcome.err, file + ": 1 rows without a text (null) are left out");
  const auto trained = run_program({"train-tokenizer", file, "--vocab-size", "257", "--output", "-"});
  EXPECT_EQ(trained.code, 0) << trained.err;
  EXPECT_CONTAINS(trained.err, file + ": 1 rows without a text (null) are left out");
  const auto skipped =
      run_program({"tokenize", "byte", "--on-bad-record", "skip"}, {.input = "a\n\xFF\nb\n"});
  EXPECT_EQ(std::count(skipped.out.begin(), skipped.out.end(), '\n'), 2);
  EXPECT_CONTAINS(skipped.err, "-: 1 bad records are left out");
  EXPECT_CONTAINS(run_program({"tokenize", "byte", file, "--text-key", "body"}).err, "no column 'body'");
}

/// As recipes do: the shell does not look into quotes, which braces need.
TEST(TrainTokenizer, ExpandsVariablesInNames) {
  const TemporaryFolder folder;
  put_file(folder / "a.de", "aab\n");
  put_file(folder / "a.en", "aab\n");
  const auto outcome =
      run_program({"train-tokenizer", "$CORPUS/a.{de,en}", "--vocab-size", "258", "--output", "-"},
                  {.environment = {{"CORPUS", folder.path().string()}}});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_CONTAINS(
      run_program({"train-tokenizer", "$CORPUS/a.de", "--vocab-size", "258", "--output", "-"}).err,
      "the environment variable CORPUS is not set; set it, or write the path");
}

TEST(TrainTokenizer, DoesNotReplaceItsText) {
  const TemporaryFolder folder;
  put_file(folder / "text.txt", "Some words\n");
  const auto outcome = run_program(
      {"train-tokenizer", "text.txt", "--vocab-size", "300", "--output", "./text.txt", "--overwrite"},
      {.folder = folder.path()});
  EXPECT_EQ(outcome.code, 2);
  EXPECT_CONTAINS(outcome.err, "--output ./text.txt is the text text.txt, which it would replace");
  EXPECT_EQ(testing::content_of(folder / "text.txt"), "Some words\n");
}

TEST(Recipe, TextIsReadByATokenizer) {
  const TemporaryFolder folder;
  put_file(folder / "a.txt", "Some words to learn from.\n");
  put_file(folder / "r.toml",
           "data.task = \"text\"\ndata.train = [\"a.txt\"]\ndata.tokenizer = \"" + kTiny + "\"\n");
  const auto outcome = run_program({"validate", "r.toml", "--json"}, {.folder = folder.path()});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(Json::parse(outcome.out)["runs"][0]["vocabulary"], 1000);
}

TEST(Tokenize, ModelsCarryTheirSentencePieceModel) {
  const TemporaryFolder folder;
  const std::string pieces = golden("comet/softmax/encoder/sentencepiece.bpe.model").string();
  const Json example = core::read_json(golden("comet/softmax/expected.json"))["cases"][2];
  const std::string text = example["mt"];
  put_file(folder / "text.txt",
           text + " Nobody else could, either, and so we all went home early that day.\n");
  put_file(folder / "r.toml",
           "[run]\noutput = 'out'\n[data]\ntask = 'text'\ntrain = ['text.txt']\ncontext = 8\ntokenizer = '" +
               pieces +
               "'\n[model]\nd_model = 16\nd_state = 8\nheaddim = 8\n[train]\nsteps = 2\nbatch_size = 1\n");
  const auto program = [&folder](const std::vector<std::string>& arguments, const std::string& input = "") {
    const auto outcome = run_program(arguments, {.folder = folder.path(), .input = input});
    return outcome.code == 0 ? outcome.out : outcome.err;
  };
  const std::string model = Json::parse(program({"train", "r.toml", "--json"}))[0]["result"]["checkpoint"];
  const std::string found = program({"generate", "out", "--text", text, "--json"});
  EXPECT_EQ(Json::parse(found)["prompt_ids"].size() + 2, example["tokens"][1]);  // without <s> and </s>
  EXPECT_EQ(program({"tokenize", model}, text), program({"tokenize", pieces}, text));
  program({"convert", model, "--output", "published"});
  EXPECT_EQ(program({"generate", "published", "--text", text, "--json"}), found);
  fs::remove(folder / "published/tokenizer.model");
  EXPECT_CONTAINS(program({"generate", "published", "--text", text}),
                  "published: carries no tokenizer, and its vocabulary of 1000 tokens is not that of bytes");
}

}  // namespace
}  // namespace exactmamba::cli
