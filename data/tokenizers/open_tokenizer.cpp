#include "data/tokenizers/open_tokenizer.h"

#include <filesystem>

#include "core/environment.h"
#include "data/byte_tokenizer.h"
#include "data/copy_tokenizer.h"
#include "data/tokenizers/bpe_tokenizer.h"
#include "data/tokenizers/sentencepiece_tokenizer.h"

namespace exactmamba::data {

std::shared_ptr<const Tokenizer> open_tokenizer(const std::string& name) {
  if (name == "byte") return std::make_shared<ByteTokenizer>();
  if (name == "copy") return std::make_shared<CopyTokenizer>();
  const std::filesystem::path path = core::expand_environment(name);
  const std::string ending = path.extension().string();
  if (ending == ".model" || ending == ".spm") return std::make_shared<SentencePieceTokenizer>(path);
  return BpeTokenizer::load(path);
}

}  // namespace exactmamba::data
