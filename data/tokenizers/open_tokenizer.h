// Tokenizers by name, and those that models' folders carry.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "data/tokenizer.h"
#include "data/tokenizers/bpe_tokenizer.h"
#include "data/tokenizers/sentencepiece_tokenizer.h"

namespace exactmamba::data {

/// "byte", "copy" (of 26 letters), a tokenizer.json, a SentencePiece model (.model, .spm), or the folder that
/// has tokenizer.json or tokenizer.model. @throws IoError, InputError
std::shared_ptr<const Tokenizer> open_tokenizer(const std::string& name);

/// The files by which a model's folder carries its tokenizer.
inline constexpr const char* kTokenizerFiles[] = {kTokenizerFile, kTokenizerConfigFile, kSentencePieceFile};

/// Of the tokenizer `name`, as open_tokenizer() takes it, by their names there; none of bytes and letters.
/// @throws IoError, InputError
std::map<std::string, std::string> carried_files(const std::string& name);

/// [nullable]: `model` carries none. @throws as open_tokenizer
std::shared_ptr<const Tokenizer> carried_tokenizer(const std::filesystem::path& model);

}  // namespace exactmamba::data
