// [data] of a recipe.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/schema.h"
#include "data/copy_task.h"

namespace exactmamba::data {

struct DataOptions {
  std::string task = "copy";
  int64_t context = 256;
  bool shuffle = true;
  bool pack = true;
  int64_t prefetch = 2;
  int64_t max_valid_rows = 0;
  std::vector<std::string> train, valid;           // text, tokens, translation
  std::vector<double> weights;                     // the same: of the files of train
  std::string text_key = "text";                   // text
  std::string tokenizer = "byte";                  // text, translation
  std::string on_invalid_utf8 = "fail";            // text, translation
  std::string on_bad_record = "fail";              // text, translation
  int64_t min_characters = 0, max_characters = 0;  // text, translation
  std::string cache;                               // text
  int64_t vocab_size = 0;                          // tokens; of tokenizer = "bpe"
  std::string separator = "<SEP>";                 // translation, these and the next four
  std::string end = "<EOS>";
  std::vector<std::string> exclude;
  std::string on_long_pair = "fail";
  double max_pair_ratio = 0;
  int64_t alphabet = CopyOptions{}.alphabet;  // copy, these and the rest
  int64_t min_length = CopyOptions{}.min_length, max_length = CopyOptions{}.max_length;
  int64_t held_out = CopyOptions{}.held_out;
};

/// Declares [data] and its rules.
void bind(core::Schema& schema, DataOptions& options);

/// Of the task copy.
CopyOptions copy_options(const DataOptions& options);

/// The end of documents of a tokenizer that is made.
inline constexpr const char* kEndOfDocument = "<|endoftext|>";

/// Special tokens of a tokenizer that is made: that one, or of translation data.separator and data.end.
std::vector<std::string> made_special_tokens(const DataOptions& options);

/// Whether another seed makes other data sets: generated ones, and mixtures.
bool depends_on_seed(const DataOptions& options);

/// Whether the tokenizer is made from the training text: data.tokenizer = "bpe".
bool trains_tokenizer(const DataOptions& options);

}  // namespace exactmamba::data
