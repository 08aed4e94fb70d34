// The words of tokenised sentences: what blanks and tabs separate. No other character does, so that a word
// with a no-break space in it stays one, as in the files that gold links are numbered by.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "eval/alignment/links.h"

namespace exactmamba::eval {

/// Views into `sentence`.
std::vector<std::string_view> words_of(std::string_view sentence);

/// Of pairs named as data::read_pairs takes them. @throws as data::read_pairs
std::vector<SentenceLengths> read_sentence_lengths(const std::string& pairs);

}  // namespace exactmamba::eval
