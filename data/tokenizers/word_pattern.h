// GPT-2's division of text into words, 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+|
// ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+, by PCRE2. The library sees a sign for each character, which says what
// class ours (unicode_classes.h) puts it into, so that its own version of Unicode does not matter.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "core/utf8.h"

struct pcre2_real_code_8;
struct pcre2_real_match_data_8;

namespace exactmamba::data {

/// May be shared by threads; each has a splitter of its own.
class WordPattern {
 public:
  WordPattern();

 private:
  friend class WordSplitter;
  struct Free {
    void operator()(pcre2_real_code_8* code) const;
  };
  std::unique_ptr<pcre2_real_code_8, Free> code_;
};

class WordSplitter {
 public:
  explicit WordSplitter(const WordPattern& pattern);  // which must outlive it

  /// Calls `take` with the words of `text`, which is valid UTF-8; together they are the text.
  template <class Take>
  void split(std::string_view text, const Take& take) {
    const bool ascii = core::find_beyond_ascii(text, 0) == text.size();  // then it is its own signs
    if (!ascii) make_signs(text);
    const std::string_view signs = ascii ? text : std::string_view(signs_);
    for (size_t sign = 0, byte = 0; sign < signs.size();) {
      const size_t sign_end = end_of_word(signs, sign);
      size_t byte_end = ascii ? sign_end : byte;
      for (; !ascii && sign < sign_end; ++sign) byte_end += core::utf8_length(text[byte_end]);
      take(text.substr(byte, byte_end - byte));
      sign = sign_end;
      byte = byte_end;
    }
  }

 private:
  struct Free {
    void operator()(pcre2_real_match_data_8* data) const;
  };
  void make_signs(std::string_view text);
  size_t end_of_word(std::string_view signs, size_t begin);

  const WordPattern& pattern_;
  std::unique_ptr<pcre2_real_match_data_8, Free> data_;
  std::string signs_;  // a byte for each character: ASCII as it is, one of four values above it for the
                       // classes of the others
};

}  // namespace exactmamba::data
