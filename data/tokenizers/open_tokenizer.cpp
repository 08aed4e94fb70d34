#include "data/tokenizers/open_tokenizer.h"

#include "core/environment.h"
#include "core/error.h"
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

/// What is no name of a tokenizer need not have been meant as that of a file.
void require_there(const fs::path& path) {
  core::require<core::IoError>(
      fs::exists(path),
      "{}: no such file or folder; a tokenizer is byte, copy, a tokenizer.json, a SentencePiece model "
      "(.model, .spm), or the folder that has tokenizer.json or tokenizer.model",
      path.string());
  core::require<core::IoError>(!fs::is_directory(path) || fs::is_regular_file(file_of(path)),
                               "{}: this folder has neither {} nor {}", path.string(), kTokenizerFile,
                               kSentencePieceFile);
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
  const fs::path path = core::expand_environment(name);
  require_there(path);
  return load_tokenizer(path);
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
