// Copying (Jelassi et al. 2024): examples "$s|s." of random letters, predicted after "|" only. Token ids:
// copy_tokenizer.h.
#pragma once

#include <string>
#include <unordered_set>
#include <vector>

#include "data/copy_tokenizer.h"
#include "data/dataset.h"

namespace exactmamba::data {

struct CopyOptions {
  int64_t alphabet = 26;                    // letters
  int64_t min_length = 5, max_length = 20;  // characters of s, uniform
  int64_t context = 220;                    // tokens of a packed row
  int64_t held_out = 1000;                  // distinct strings that training never shows
};

/// What is wrong with the options, or "": lengths the wrong way round; a context shorter than the longest
/// example; `held_out` above a quarter of the strings (of all lengths, each counted like the shortest), too
/// many to be kept from training.
std::string lengths_problem(const CopyOptions& options);
std::string context_problem(const CopyOptions& options);
std::string held_out_problem(const CopyOptions& options);
/// @throws InputError with the first of them
void check(const CopyOptions& options);

enum class CopyPart { kTrain, kHeldOut };

/// One example inside a row, by columns of the row. Row `outputs[m]` of an interaction map predicts character
/// m of the copy, whose one gold source is column `sources[m]`.
struct CopyExample {
  int64_t begin;                          // column of '$'
  std::string text;                       // s
  std::vector<int64_t> sources, outputs;  // [character of s]
};

/// kTrain has no end: row r depends on (seed, r) only, and holds no held-out string. kHeldOut is finite and
/// depends on the seed.
class CopyTask final : public Dataset {
 public:
  /// Packed rows have `context` tokens, the rest being padding as a sequence of its own; others are as long
  /// as their example. Both parts must be given the same options and seed. @throws as check()
  CopyTask(const CopyOptions& options, uint64_t seed, CopyPart part, RowLayout layout);

  std::string name() const override;
  int64_t size() const override;
  Row row(int64_t index) const override;
  int64_t vocab_size() const override { return tokenizer_.vocab_size(); }
  std::string token_text(int64_t id) const override { return tokenizer_.token_text(id); }
  std::string fingerprint() const override;

  const CopyTokenizer& tokenizer() const { return tokenizer_; }
  const std::vector<std::string>& held_out() const { return held_out_; }
  /// The examples of a row of this task, found by its sequence starts.
  std::vector<CopyExample> examples(const Row& row) const;

 private:
  std::vector<std::string> training_strings(int64_t index) const;
  void draw_held_out();
  void pack_held_out();
  void append(Row& row, const std::string& text) const;
  void pad(Row& row) const;

  CopyOptions options_;
  uint64_t seed_;
  CopyPart part_;
  RowLayout layout_;
  CopyTokenizer tokenizer_;
  std::vector<std::string> held_out_;
  std::unordered_set<std::string> held_out_set_;
  std::vector<size_t> row_begins_;  // [row + 1] of kHeldOut: its first string
};

}  // namespace exactmamba::data
