// Any text is a tokenizer or an InputError; an accepted tokenizer encodes a text and decodes it.
#include <fmt/format.h>

#include "core/error.h"
#include "core/json.h"
#include "data/tokenizers/bpe_tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace exactmamba;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const data::BpeTokenizer tokenizer(
        data::bpe_spec_from_json(core::parse_json(text, "tokenizer.json"), "tokenizer.json"));
    const data::Encoding encoding =
        tokenizer.encode_with_offsets("a  e\u0301 <pad>\u0301 don't  \u3000 x12\n");
    if (encoding.ids.size() != encoding.offsets.size()) std::abort();
    tokenizer.decode(encoding.ids);
    for (int64_t id = 0; id < tokenizer.vocab_size() && id < 1000; ++id) tokenizer.token_text(id);
  } catch (const core::Error&) {
  }
  return 0;
}
