#include "eval/alignment/words.h"

#include <algorithm>

#include "core/utf8.h"

namespace exactmamba::eval {
namespace {

constexpr std::string_view kBlanks = " \t";

}  // namespace

std::vector<std::string_view> words_of(std::string_view sentence) {
  std::vector<std::string_view> words;
  for (size_t end = 0; end < sentence.size();) {
    const size_t begin = sentence.find_first_not_of(kBlanks, end);
    if (begin == std::string_view::npos) break;
    end = std::min(sentence.find_first_of(kBlanks, begin), sentence.size());
    words.push_back(sentence.substr(begin, end - begin));
  }
  return words;
}

std::vector<int64_t> words_of_tokens(std::string_view sentence, const std::vector<data::Span>& offsets) {
  std::vector<int64_t> ends;  // [word] characters up to its end
  size_t at = 0, characters = 0;
  for (const std::string_view word : words_of(sentence)) {
    const size_t end = static_cast<size_t>(word.data() - sentence.data()) + word.size();
    characters += core::count_characters(sentence.substr(at, end - at));
    ends.push_back(static_cast<int64_t>(characters));
    at = end;
  }
  std::vector<int64_t> words;
  for (const data::Span& token : offsets) {
    const auto word = std::upper_bound(ends.begin(), ends.end(), token.begin) - ends.begin();
    words.push_back(std::min<int64_t>(word, static_cast<int64_t>(ends.size()) - 1));
  }
  return words;
}

SentenceLengths lengths_of(const data::SentencePair& pair) {
  return {static_cast<int64_t>(words_of(pair.source).size()),
          static_cast<int64_t>(words_of(pair.target).size())};
}

std::vector<SentenceLengths> read_sentence_lengths(const std::string& pairs) {
  std::vector<SentenceLengths> lengths;
  data::read_pairs(pairs, data::OnInvalidUtf8::kRefuse,
                   [&lengths](const data::SentencePair& pair, const std::string&) {
                     lengths.push_back(lengths_of(pair));
                   });
  return lengths;
}

}  // namespace exactmamba::eval
