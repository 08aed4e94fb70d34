#include "data/tokenizers/open_tokenizer.h"

#include "core/environment.h"
#include "data/byte_tokenizer.h"
#include "data/copy_tokenizer.h"
#include "data/tokenizers/bpe_tokenizer.h"

namespace exactmamba::data {

std::shared_ptr<const Tokenizer> open_tokenizer(const std::string& name) {
  if (name == "byte") return std::make_shared<ByteTokenizer>();
  if (name == "copy") return std::make_shared<CopyTokenizer>();
  return BpeTokenizer::load(core::expand_environment(name));
}

}  // namespace exactmamba::data
