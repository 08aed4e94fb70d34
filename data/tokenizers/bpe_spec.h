// What a tokenizer.json of Hugging Face's tokenizers says, of the byte-level BPE family (GPT-2, GPT-NeoX).
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/json.h"

namespace exactmamba::data {

struct AddedToken {
  int64_t id;
  std::string content;
  bool special;     // may be left out when decoding
  bool normalized;  // looked for after the normalisation instead of before
};

struct BpeSpec {
  bool nfc = false;
  bool add_prefix_space = false;  // before each part that does not begin with one
  bool split_words = true;        // use_regex
  bool trim_offsets = false;      // offsets without the white space around a token …
  bool trim_keeps_prefix =
      false;  // … but with that before the first word (the post-processor's add_prefix_space)
  std::vector<std::string> vocab = {};                           // [id], in byte characters; "": no token
  std::vector<std::pair<std::string, std::string>> merges = {};  // the most urgent first
  std::vector<AddedToken> added_tokens = {};
};

/// Ids are below it: an id far out must not fill the memory.
inline constexpr int64_t kMostTokens = int64_t{1} << 22;

/// @throws InputError ("file: model.dropout: …") for malformed content, contradictions, and components or
/// settings other than those of the family, each by its name
BpeSpec bpe_spec_from_json(const core::Json& json, const std::string& file);
BpeSpec read_bpe_spec(const std::filesystem::path& tokenizer_json);  // @throws IoError, too

/// As the tokenizers library writes it.
core::Json json_of(const BpeSpec& spec);

}  // namespace exactmamba::data
