// Whether two sentences are the same but for how they are written.
#pragma once

#include <string>
#include <string_view>

namespace exactmamba::data {

/// Letters, digits and marks of `text` (valid UTF-8) in Unicode's NFKC with case folded: neither punctuation,
/// white space nor how a tokeniser writes them ("don &apos;t", "Don't") makes a difference. `text` itself
/// where there are none.
std::string sentence_key(std::string_view text);

}  // namespace exactmamba::data
