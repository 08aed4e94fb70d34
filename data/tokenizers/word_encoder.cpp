#include "data/tokenizers/word_encoder.h"

namespace exactmamba::data {
namespace {

constexpr size_t kMostWords = size_t{1} << 18;  // remembered, some 25 MB; then all are forgotten
constexpr size_t kLongestWord = 64;             // remembered; longer ones hardly come back

}  // namespace

WordEncoder::WordEncoder(const BpeModel& model, const WordPattern* pattern) : model_(model) {
  if (pattern != nullptr) splitter_.emplace(*pattern);
}

void WordEncoder::encode(std::string_view text, std::vector<int64_t>& ids) {
  if (!splitter_) return encode_word(text, ids);
  splitter_->split(text, [&](std::string_view word) { encode_word(word, ids); });
}

void WordEncoder::encode_word(std::string_view word, std::vector<int64_t>& ids) {
  if (word.size() > kLongestWord) {
    long_word_.clear();
    model_.encode(word, long_word_);
    ids.insert(ids.end(), long_word_.begin(), long_word_.end());
    return;
  }
  const auto found = known_.find(word);
  const Place place = found == known_.end() ? remember(word) : found->second;
  ids.insert(ids.end(), known_ids_.begin() + place.begin, known_ids_.begin() + place.end);
}

WordEncoder::Place WordEncoder::remember(std::string_view word) {
  if (known_.size() == kMostWords) {
    known_.clear();
    known_ids_.clear();
  }
  const auto begin = static_cast<uint32_t>(known_ids_.size());
  model_.encode(word, known_ids_);
  const Place place{begin, static_cast<uint32_t>(known_ids_.size())};
  known_.emplace(word, place);
  return place;
}

}  // namespace exactmamba::data
