#include "eval/alignment/words.h"

#include <algorithm>

#include "data/parallel_text.h"

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

std::vector<SentenceLengths> read_sentence_lengths(const std::string& pairs) {
  std::vector<SentenceLengths> lengths;
  data::read_pairs(pairs, data::OnInvalidUtf8::kFail,
                   [&lengths](const data::SentencePair& pair, const std::string&) {
                     lengths.push_back({static_cast<int64_t>(words_of(pair.source).size()),
                                        static_cast<int64_t>(words_of(pair.target).size())});
                   });
  return lengths;
}

}  // namespace exactmamba::eval
