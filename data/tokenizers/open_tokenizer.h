// Tokenizers by name.
#pragma once

#include <memory>
#include <string>

#include "data/tokenizer.h"

namespace exactmamba::data {

/// "byte", "copy" (of 26 letters), a tokenizer.json or the folder that has it, or a SentencePiece model
/// (.model, .spm).
/// @throws IoError, InputError
std::shared_ptr<const Tokenizer> open_tokenizer(const std::string& name);

}  // namespace exactmamba::data
