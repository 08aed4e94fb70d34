// Text from ids that come one by one.
#pragma once

#include <string>
#include <vector>

#include "data/tokenizer.h"

namespace exactmamba::data {

/// Never half a character. It decodes all ids anew for each: for text that somebody waits for.
class StreamDecoder {
 public:
  /// `tokenizer` must outlive it.
  StreamDecoder(const Tokenizer& tokenizer, SpecialTokens special)
      : tokenizer_(tokenizer), special_(special) {}
  /// What is certain now: a U+FFFD at the end may yet become a character. @throws as Tokenizer::decode
  std::string push(int64_t id);
  /// The rest. All pieces together are what decode() gives.
  std::string finish();

 private:
  std::string text_until(size_t end);

  const Tokenizer& tokenizer_;
  SpecialTokens special_;
  std::vector<int64_t> ids_;
  std::string text_;  // of them
  size_t given_ = 0;  // bytes of it
};

}  // namespace exactmamba::data
