// Normalisation form C as Hugging Face's tokenizers 0.23 makes it: by utf8proc, less what came into Unicode
// after version 9 (see nfc.cpp), with the origin of every character.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace exactmamba::data {

/// Whether nfc(text) is `text` for sure; text without combining marks is. `text` is valid UTF-8, here and
/// below.
bool is_surely_nfc(std::string_view text);

/// `origins` [nullable] receives, for each character of the result, the index of the character of `text` that
/// it comes from: of a composed one, the first of them.
std::string nfc(std::string_view text, std::vector<uint32_t>* origins = nullptr);

}  // namespace exactmamba::data
