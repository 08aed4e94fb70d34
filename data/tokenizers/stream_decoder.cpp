#include "data/tokenizers/stream_decoder.h"

#include <string_view>

#include "core/utf8.h"

namespace exactmamba::data {

std::string StreamDecoder::push(int64_t id) {
  constexpr std::string_view kReplacement = "\uFFFD";
  ids_.push_back(id);
  text_ = tokenizer_.decode(ids_, special_);
  std::string_view certain = text_;
  certain.remove_suffix(core::unfinished_bytes(certain));
  while (certain.ends_with(kReplacement)) certain.remove_suffix(kReplacement.size());
  return text_until(certain.size());
}

std::string StreamDecoder::finish() { return text_until(text_.size()); }

std::string StreamDecoder::text_until(size_t end) {
  if (end <= given_) return "";
  std::string piece = text_.substr(given_, end - given_);
  given_ = end;
  return piece;
}

}  // namespace exactmamba::data
