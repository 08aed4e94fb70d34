#include "data/sentence_key.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>
#include <utf8proc.h>

#include "core/error.h"
#include "core/utf8.h"

namespace exactmamba::data {
namespace {

/// Those that Moses' tokeniser and XML write. They stand for punctuation, which no key has.
constexpr std::array<std::string_view, 9> kEntities = {"&apos;", "&quot;", "&amp;",  "&lt;", "&gt;",
                                                       "&#91;",  "&#93;",  "&#124;", "&#39;"};

/// Bytes of the entity that `text` begins with; 0: none.
size_t entity_size(std::string_view text) {
  if (!text.starts_with('&')) return 0;
  const auto* found = std::find_if(kEntities.begin(), kEntities.end(),
                                   [text](std::string_view entity) { return text.starts_with(entity); });
  return found == kEntities.end() ? 0 : found->size();
}

std::string without_entities(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    const size_t entity = entity_size(text);
    if (entity == 0) result.push_back(text.front());
    text.remove_prefix(std::max(entity, size_t{1}));
  }
  return result;
}

std::string folded(const std::string& text) {
  utf8proc_uint8_t* bytes = nullptr;
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT |
                                                      UTF8PROC_CASEFOLD);
  const utf8proc_ssize_t size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                             static_cast<utf8proc_ssize_t>(text.size()), &bytes, options);
  core::require(size >= 0, "the sentence cannot be normalised: {}", utf8proc_errmsg(size));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(bytes, &std::free);
  return {reinterpret_cast<const char*>(bytes), static_cast<size_t>(size)};
}

bool is_kept(char32_t c) {
  const utf8proc_category_t category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NO;  // letters, marks, numbers
}

}  // namespace

std::string sentence_key(std::string_view text) {
  const std::string all = folded(without_entities(text));
  std::string key;
  for (size_t at = 0; at < all.size();) {
    const char32_t c = core::next_code_point(all, at);
    if (is_kept(c)) core::append_utf8(key, c);
  }
  return key.empty() ? std::string(text) : key;
}

}  // namespace exactmamba::data
