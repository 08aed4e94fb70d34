// What sacreBLEU 2.6.0 makes of a line before it counts words: equal to it to the last character.
#pragma once

#include <string>
#include <string_view>

#include "core/names.h"

namespace exactmamba::eval {

/// k13a: mteval-v13a, for Western languages. kInternational: mteval-v14, by Unicode's classes. kZh: Chinese
/// characters one by one, the rest as k13a.
enum class BleuTokenizer { k13a, kInternational, kChar, kZh, kNone };
inline constexpr core::Names<5> kBleuTokenizerNames = {"13a", "intl", "char", "zh", "none"};

std::u32string bleu_tokenized(std::u32string_view line, BleuTokenizer tokenizer);

/// tercom's normaliser; the fields are TER's options.
struct TerTokenizer {
  bool normalized = false;      // entities, punctuation apart
  bool no_punct = false;        // without punctuation
  bool asian_support = false;   // both of them for Chinese and Japanese too
  bool case_sensitive = false;  // lower case otherwise

  std::u32string operator()(std::u32string_view line) const;
};

}  // namespace exactmamba::eval
