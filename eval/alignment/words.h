// The words of tokenised sentences: what blanks and tabs separate. No other character does, so that a word
// with a no-break space in it stays one, as in the files that gold links are numbered by.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "data/parallel_text.h"
#include "data/tokenizer.h"
#include "eval/alignment/links.h"

namespace exactmamba::eval {

/// Views into `sentence`.
std::vector<std::string_view> words_of(std::string_view sentence);

/// The number of the word that each token is a part of: the one of its first character that is no blank. A
/// token of blanks alone belongs to the word behind it, at the end to the last one, as " word" does, which
/// byte-level BPE makes one token; −1 where there is no word.
std::vector<int64_t> words_of_tokens(std::string_view sentence, const std::vector<data::Span>& offsets);

SentenceLengths lengths_of(const data::SentencePair& pair);
/// Of pairs named as data::read_pairs takes them. @throws as data::read_pairs
std::vector<SentenceLengths> read_sentence_lengths(const std::string& pairs);

}  // namespace exactmamba::eval
