#include "data/copy_tokenizer.h"

#include "core/error.h"

namespace exactmamba::data {

CopyTokenizer::CopyTokenizer(int64_t alphabet) : signs_("*$|.") {
  core::require(alphabet >= 1 && alphabet <= kMaxAlphabet,
                "an alphabet of {} letters is not between 1 and {}", alphabet, kMaxAlphabet);
  for (int64_t i = 0; i < alphabet; ++i) signs_.push_back(static_cast<char>('a' + i));
}

std::string CopyTokenizer::name() const { return fmt::format("copy-{}", vocab_size() - kFirstLetter); }

std::vector<int64_t> CopyTokenizer::encode(std::string_view text) const {
  std::vector<int64_t> ids;
  ids.reserve(text.size());
  for (const char c : text) {
    const size_t id = signs_.find(c);
    core::require(id != std::string::npos, "'{}' (byte {}) is not in the vocabulary of the copy task, {}", c,
                  ids.size(), signs_);
    ids.push_back(static_cast<int64_t>(id));
  }
  return ids;
}

Encoding CopyTokenizer::encode_with_offsets(std::string_view text) const {
  Encoding encoding{encode(text), {}};  // a character each
  for (int64_t i = 0; i < static_cast<int64_t>(text.size()); ++i) encoding.offsets.push_back({i, i + 1});
  return encoding;
}

std::string CopyTokenizer::decode(const std::vector<int64_t>& ids, SpecialTokens) const {
  std::string text;
  for (const int64_t id : ids) {
    core::require(id >= 0 && id < vocab_size(),
                  "token id {} is outside the vocabulary of {} ids of the copy task", id, vocab_size());
    text.push_back(signs_[id]);
  }
  return text;
}

std::string CopyTokenizer::token_text(int64_t id) const {
  return id >= 0 && id < vocab_size() ? std::string(1, signs_[id]) : "";
}

}  // namespace exactmamba::data
