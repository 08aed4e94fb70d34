#include "data/tokenizers/open_tokenizer.h"

#include "core/environment.h"
#include "core/files.h"
#include "data/byte_tokenizer.h"
#include "data/copy_tokenizer.h"

namespace exactmamba::data {
namespace {

namespace fs = std::filesystem;

/// Of a folder the one in it.
fs::path file_of(const fs::path& path) {
  const fs::path json = tokenizer_file(path), sentencepiece = path / kSentencePieceFile;
  return !fs::is_regular_file(json) && fs::is_regular_file(sentencepiece) ? sentencepiece : json;
}

std::shared_ptr<const Tokenizer> load_tokenizer(const fs::path& path) {
  const fs::path file = file_of(path);
  if (is_sentencepiece(file)) return std::make_shared<SentencePieceTokenizer>(file);
  return BpeTokenizer::load(file);
}

}  // namespace

std::shared_ptr<const Tokenizer> open_tokenizer(const std::string& name) {
  if (name == "byte") return std::make_shared<ByteTokenizer>();
  if (name == "copy") return std::make_shared<CopyTokenizer>();
  return load_tokenizer(core::expand_environment(name));
}

std::map<std::string, std::string> carried_files(const std::string& name) {
  if (name == "byte" || name == "copy") return {};
  const fs::path file = file_of(core::expand_environment(name));
  if (is_sentencepiece(file)) return {{kSentencePieceFile, core::read_file(file)}};
  std::map<std::string, std::string> files = {{kTokenizerFile, core::read_file(file)}};
  const fs::path config = file.parent_path() / kTokenizerConfigFile;
  if (fs::is_regular_file(config)) files[kTokenizerConfigFile] = core::read_file(config);
  return files;
}

std::shared_ptr<const Tokenizer> carried_tokenizer(const fs::path& model) {
  return fs::is_regular_file(file_of(model)) ? load_tokenizer(model) : nullptr;
}

}  // namespace exactmamba::data
