#include "data/copy_task.h"

#include <map>
#include <set>

#include <gtest/gtest.h>

#include "core/error.h"

namespace exactmamba::data {
namespace {

constexpr uint64_t kSeed = 20;

CopyTask train(const CopyOptions& options, uint64_t seed = kSeed) {
  return CopyTask(options, seed, CopyPart::kTrain, RowLayout::kPacked);
}
CopyTask held_out(const CopyOptions& options, RowLayout layout = RowLayout::kOneExample) {
  return CopyTask(options, kSeed, CopyPart::kHeldOut, layout);
}

bool operator==(const Row& a, const Row& b) {
  return a.input_ids == b.input_ids && a.targets == b.targets && a.starts == b.starts;
}

/// An example as the text of its tokens and of its targets ('_': none), read off a row without the class
/// under test.
struct Shown {
  std::string tokens, targets;
};
std::vector<Shown> show(const Row& row) {
  static const std::string signs = "*$|.abcdefghijklmnopqrstuvwxyz";
  std::vector<Shown> examples;
  for (size_t s = 0; s < row.starts.size(); ++s) {
    const size_t end = s + 1 < row.starts.size() ? row.starts[s + 1] : row.input_ids.size();
    examples.emplace_back();
    for (size_t i = row.starts[s]; i < end; ++i) {
      examples.back().tokens += signs.at(row.input_ids[i]);
      examples.back().targets += row.targets[i] == kIgnoredTarget ? '_' : signs.at(row.targets[i]);
    }
  }
  return examples;
}

/// "$s|s." and nothing else, with targets "s." after '|'. Returns s.
std::string check_example(const Shown& example) {
  const size_t n = (example.tokens.size() - 3) / 2;
  const std::string s = example.tokens.substr(1, n);
  EXPECT_EQ(example.tokens, "$" + s + "|" + s + ".");
  EXPECT_EQ(example.targets, std::string(n + 1, '_') + s + "._");
  EXPECT_EQ(s.find_first_not_of("abcdefghijklmnopqrstuvwxyz"), std::string::npos);
  return s;
}

TEST(CopyTask, PacksWholeExamplesAndPadsTheRest) {
  const CopyOptions options;
  const CopyTask task = train(options);
  for (int64_t r = 0; r < 200; ++r) {
    const Row row = task.row(r);
    ASSERT_EQ(row.input_ids.size(), 220u);
    std::vector<Shown> examples = show(row);
    if (examples.back().tokens.front() == '*') {
      EXPECT_EQ(examples.back().tokens.find_first_not_of('*'), std::string::npos);
      EXPECT_EQ(examples.back().targets.find_first_not_of('_'), std::string::npos);
      EXPECT_LT(examples.back().tokens.size(), 43u);  // else another example would have fitted
      examples.pop_back();
    }
    ASSERT_FALSE(examples.empty());
    for (const Shown& example : examples) check_example(example);
  }
}

TEST(CopyTask, NeverTrainsOnAHeldOutString) {
  // 5 letters, 3 to 6 characters: a quarter of the short strings is held out, so that redrawing matters.
  const CopyOptions options{.alphabet = 5, .min_length = 3, .max_length = 6, .context = 220, .held_out = 100};
  const CopyTask task = train(options);
  const std::set<std::string> kept(task.held_out().begin(), task.held_out().end());
  ASSERT_EQ(kept.size(), 100u);
  int64_t strings = 0, seen_short = 0;
  for (int64_t r = 0; strings < 25000; ++r) {
    for (const Shown& example : show(task.row(r))) {
      if (example.tokens.front() == '*') continue;
      const std::string s = check_example(example);
      EXPECT_FALSE(kept.contains(s)) << s;
      ++strings;
      seen_short += s.size() == 3;
    }
  }
  EXPECT_GT(seen_short, 0);
}

TEST(CopyTask, DefaultSetKeepsAThousandStringsFromTraining) {
  const CopyTask task = train({});
  const std::set<std::string> kept(task.held_out().begin(), task.held_out().end());
  ASSERT_EQ(kept.size(), 1000u);
  int64_t strings = 0;
  for (int64_t r = 0; strings < 25000; ++r) {
    for (const CopyExample& example : task.examples(task.row(r))) {
      ASSERT_FALSE(kept.contains(example.text));
      ++strings;
    }
  }
}

TEST(CopyTask, LengthsAndLettersAreUniform) {
  // One example a row: packing ends a row at the first example that does not fit, which is more often a long
  // one.
  const CopyOptions options{.alphabet = 26, .min_length = 5, .max_length = 12, .context = 27, .held_out = 10};
  const CopyTask task(options, kSeed, CopyPart::kTrain, RowLayout::kOneExample);
  std::map<size_t, double> lengths;
  std::map<char, double> letters;
  double characters = 0;
  constexpr int kRows = 20000;
  for (int64_t r = 0; r < kRows; ++r) {
    const std::string s = check_example(show(task.row(r)).front());
    ++lengths[s.size()];
    for (const char c : s) ++letters[c];
    characters += static_cast<double>(s.size());
  }
  // χ² with 7 and 25 degrees of freedom; below these with probability 1 − 1e-4.
  double length_chi2 = 0, letter_chi2 = 0;
  for (size_t n = 5; n <= 12; ++n) length_chi2 += std::pow(lengths[n] - kRows / 8.0, 2) / (kRows / 8.0);
  for (char c = 'a'; c <= 'z'; ++c)
    letter_chi2 += std::pow(letters[c] - characters / 26, 2) / (characters / 26);
  EXPECT_LT(length_chi2, 29.88);
  EXPECT_LT(letter_chi2, 61.66);
}

TEST(CopyTask, ARowDependsOnSeedAndIndexOnly) {
  const CopyTask task = train({}), same = train({}), other = train({}, kSeed + 1);
  const Row seventh = task.row(7);
  EXPECT_TRUE(same.row(7) == seventh);
  for (int64_t r = 0; r < 20; ++r) EXPECT_TRUE(same.row(r) == task.row(r));
  EXPECT_FALSE(other.row(7) == seventh);
  EXPECT_FALSE(task.row(8) == seventh);
  EXPECT_EQ(task.fingerprint(), same.fingerprint());
  EXPECT_NE(task.fingerprint(), other.fingerprint());
  EXPECT_NE(task.fingerprint(), held_out({}).fingerprint());
}

TEST(CopyTask, HeldOutRowsHoldEachStringOnce) {
  const CopyTask task = held_out({.held_out = 77});
  ASSERT_EQ(task.size(), 77);
  for (int64_t r = 0; r < 77; ++r) {
    const std::vector<Shown> shown = show(task.row(r));
    ASSERT_EQ(shown.size(), 1u);
    EXPECT_EQ(check_example(shown.front()), task.held_out()[r]);
  }
  EXPECT_EQ(train({.held_out = 77}).held_out(), task.held_out());
  EXPECT_THROW(task.row(77), core::InputError);
  EXPECT_THROW(task.row(-1), core::InputError);
}

TEST(CopyTask, HeldOutRowsCanBePacked) {
  const CopyTask task = held_out({.context = 64, .held_out = 77}, RowLayout::kPacked);
  std::vector<std::string> strings;
  for (int64_t r = 0; r < task.size(); ++r) {
    const Row row = task.row(r);
    EXPECT_EQ(row.input_ids.size(), 64u);
    for (const Shown& example : show(row)) {
      if (example.tokens.front() != '*') strings.push_back(check_example(example));
    }
  }
  EXPECT_EQ(strings, task.held_out());
  EXPECT_LT(task.size(), 77);
}

TEST(CopyTask, ExamplesTellWhereEachCharacterIsReadAndPredicted) {
  const CopyTask task = train({});
  const Row row = task.row(0);
  const std::vector<CopyExample> examples = task.examples(row);
  ASSERT_GT(examples.size(), 1u);
  for (const CopyExample& example : examples) {
    const auto n = static_cast<int64_t>(example.text.size());
    ASSERT_EQ(example.sources.size(), example.text.size());
    ASSERT_EQ(example.outputs.size(), example.text.size());
    for (int64_t m = 0; m < n; ++m) {
      EXPECT_EQ(example.sources[m], example.begin + 1 + m);
      EXPECT_EQ(example.outputs[m], example.begin + n + 1 + m);
      EXPECT_EQ(row.targets[example.outputs[m]], row.input_ids[example.sources[m]]);
    }
    EXPECT_EQ(row.input_ids[example.outputs[0]], CopyTokenizer::kSeparator);
  }
}

TEST(CopyTask, RefusesWhatCannotWork) {
  EXPECT_THROW(train({.context = 42}), core::InputError);  // 2·20 + 3 = 43
  EXPECT_NO_THROW(train({.context = 43}));
  EXPECT_THROW(train({.min_length = 6, .max_length = 5}), core::InputError);
  EXPECT_THROW(train({.min_length = 0}), core::InputError);
  EXPECT_THROW(train({.alphabet = 27}), core::InputError);
  EXPECT_THROW(train({.alphabet = 0}), core::InputError);
  EXPECT_THROW(train({.held_out = 0}), core::InputError);
  EXPECT_THROW(train({.alphabet = 2, .min_length = 3, .max_length = 3, .held_out = 3}),
               core::InputError);  // of 8
  EXPECT_NO_THROW(train({.alphabet = 2, .min_length = 3, .max_length = 3, .held_out = 2}));
}

TEST(CopyTokenizer, ReadsAndWritesEverySign) {
  const CopyTokenizer tokenizer(3);
  EXPECT_EQ(tokenizer.vocab_size(), 7);
  EXPECT_EQ(tokenizer.encode("*$|.abc"), (std::vector<int64_t>{0, 1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(tokenizer.decode({6, 4, 3}), "ca.");
  EXPECT_EQ(tokenizer.token_text(2), "|");
  EXPECT_EQ(tokenizer.token_text(7), "");
  EXPECT_EQ(tokenizer.decode({tokenizer.eos_id()}), ".");
  EXPECT_THROW(tokenizer.encode("abcd"), core::InputError);
  EXPECT_THROW(tokenizer.encode("é"), core::InputError);
  EXPECT_THROW(tokenizer.decode({7}), core::InputError);
  EXPECT_THROW(tokenizer.decode({-1}), core::InputError);
}

}  // namespace
}  // namespace exactmamba::data
