// The sentence pairs of [evaluate.alignment] with their gold.
#pragma once

#include <string>
#include <vector>

#include "data/parallel_text.h"
#include "eval/alignment/aer.h"
#include "eval/options.h"

namespace exactmamba::eval {

struct AlignmentTask {
  std::vector<data::SentencePair> pairs;  // those of the development part first
  std::vector<GoldLinks> gold;            // [pair]
  std::vector<SentenceLengths> lengths;   // [pair]
  size_t development = 0;                 // pairs that layers are chosen by, and that no test score counts
  size_t file_begin = 0;                  // first pair of the file `sentences`

  size_t size() const { return pairs.size(); }
};

/// The pairs of one file with their links in another, in the form that gold has in `options`; none is of a
/// development part. @throws IoError, InputError as below
AlignmentTask read_aligned_pairs(const std::string& sentences, const std::string& gold,
                                 const AlignmentOptions& options);

/// @throws InputError when none of the `pairs` of the file `sentences` is left to test
void check_dev_pairs(const AlignmentOptions& options, size_t pairs);

/// File names as in data.train. @throws IoError, InputError: missing and malformed files, gold that does not
/// fit its sentences, no pair left to test
AlignmentTask read_alignment_task(const AlignmentOptions& options);

std::string sentence_fingerprint(const AlignmentTask& task);
/// Of gold and the development part.
std::string gold_fingerprint(const AlignmentTask& task);

/// Of the pairs that are no development part.
std::vector<SanityRow> test_sanity_rows(const AlignmentTask& task);

}  // namespace exactmamba::eval
