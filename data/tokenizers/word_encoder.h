// Text between added tokens → ids, word by word; words seen before are remembered. For one thread at a time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizers/bpe_model.h"
#include "data/tokenizers/word_map.h"
#include "data/tokenizers/word_pattern.h"

namespace exactmamba::data {

class WordEncoder {
 public:
  /// Both must outlive it. `pattern` [nullable]: the text is one word.
  WordEncoder(const BpeModel& model, const WordPattern* pattern);
  /// Appends to `ids`. `text` is valid UTF-8. @throws as BpeModel::encode
  void encode(std::string_view text, std::vector<int64_t>& ids);

 private:
  struct Place {
    uint32_t begin, end;  // in known_ids_
  };
  void encode_word(std::string_view word, std::vector<int64_t>& ids);
  Place remember(std::string_view word);

  const BpeModel& model_;
  std::optional<WordSplitter> splitter_;
  std::vector<int32_t> long_word_;
  WordMap<Place> known_;
  std::vector<int32_t> known_ids_;
};

}  // namespace exactmamba::data
