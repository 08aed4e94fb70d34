#define PCRE2_CODE_UNIT_WIDTH 8
#include "data/tokenizers/word_pattern.h"

#include <pcre2.h>

#include "core/error.h"
#include "core/utf8.h"
#include "data/tokenizers/unicode_classes.h"

namespace exactmamba::data {
namespace {

constexpr char kSigns[] = {'\x80', '\x81', '\x82', '\x83'};  // [CharacterClass] beyond ASCII

#define LETTERS "A-Za-z\\x80"
#define NUMBERS "0-9\\x81"
#define SPACES "\\t-\\r \\x82"
constexpr const char* kPattern =
    "'s|'t|'re|'ve|'m|'ll|'d| ?[" LETTERS "]+| ?[" NUMBERS "]+| ?[^" SPACES LETTERS NUMBERS "]+|[" SPACES
    "]+(?![^" SPACES "])|[" SPACES "]+";
#undef LETTERS
#undef NUMBERS
#undef SPACES

std::string message_of(int code) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(code, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

}  // namespace

void WordSplitter::make_signs(std::string_view text) {
  signs_.clear();
  for (size_t at = 0; at < text.size();) {
    const size_t beyond = core::find_beyond_ascii(text, at);
    signs_.append(text.substr(at, beyond - at));
    if ((at = beyond) == text.size()) break;
    signs_.push_back(kSigns[static_cast<size_t>(character_class(core::next_code_point(text, at)))]);
  }
}

void WordPattern::Free::operator()(pcre2_real_code_8* code) const { pcre2_code_free(code); }

void WordSplitter::Free::operator()(pcre2_real_match_data_8* data) const { pcre2_match_data_free(data); }

WordPattern::WordPattern() {
  int error = 0;
  PCRE2_SIZE offset = 0;
  code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(kPattern), PCRE2_ZERO_TERMINATED, PCRE2_ANCHORED,
                            &error, &offset, nullptr));
  core::require(code_ != nullptr, "PCRE2 refuses the pattern of words at {}: {}", offset, message_of(error));
  pcre2_jit_compile(code_.get(),
                    PCRE2_JIT_COMPLETE);  // where the system forbids it, the pattern is interpreted
}

WordSplitter::WordSplitter(const WordPattern& pattern)
    : pattern_(pattern), data_(pcre2_match_data_create_from_pattern(pattern.code_.get(), nullptr)) {
  core::require(data_ != nullptr, "PCRE2 has no memory to match words");
}

size_t WordSplitter::end_of_word(std::string_view signs, size_t begin) {
  const int count = pcre2_match(pattern_.code_.get(), reinterpret_cast<PCRE2_SPTR>(signs.data()),
                                signs.size(), begin, 0, data_.get(), nullptr);
  core::require(count > 0, "PCRE2 cannot divide the text at character {}: {}", begin, message_of(count));
  return pcre2_get_ovector_pointer(data_.get())[1];
}

}  // namespace exactmamba::data
