#include "data/translation_tokenizer.h"

#include <algorithm>

#include "core/environment.h"
#include "core/error.h"
#include "data/tokenizers/byte_characters.h"
#include "data/tokenizers/sentencepiece_tokenizer.h"

namespace exactmamba::data {
namespace {

namespace fs = std::filesystem;

constexpr const char *kSeparatorRole = "sep_token", *kEndRole = "eos_token";

/// The id of a special token of `spec`, which gets it if it has none of that content.
int64_t special_token(BpeSpec& spec, const std::string& content) {
  const auto& bytes = byte_characters();
  core::require(
      std::find(bytes.begin(), bytes.end(), content) == bytes.end(),
      "'{}' is the token of a byte and cannot be a special one; choose another, as <SEP> and <EOS> are",
      content);
  auto next = static_cast<int64_t>(spec.vocab.size());
  for (AddedToken& token : spec.added_tokens) {
    next = std::max(next, token.id + 1);
    if (token.content != content) continue;
    token.special = true;
    return token.id;
  }
  const auto known = std::find(spec.vocab.begin(), spec.vocab.end(), content);
  const int64_t id = known == spec.vocab.end() ? next : known - spec.vocab.begin();
  spec.added_tokens.push_back({id, content, true, false});
  return id;
}

BpeSpec byte_spec() {
  BpeSpec spec;
  spec.vocab.assign(byte_characters().begin(), byte_characters().end());
  return spec;
}

}  // namespace

TranslationTokenizer::TranslationTokenizer(BpeSpec spec, std::string separator, std::string end)
    : spec_(std::move(spec)), separator_text_(std::move(separator)), end_text_(std::move(end)) {
  core::require(!separator_text_.empty() && !end_text_.empty() && separator_text_ != end_text_,
                "the separator '{}' and the end '{}' of a translation must be two special tokens",
                core::printable(separator_text_), core::printable(end_text_));
  separator_ = special_token(spec_, separator_text_);
  end_ = special_token(spec_, end_text_);
  tokenizer_ = std::make_shared<const BpeTokenizer>(spec_, end_text_);
}

TranslationTokenizer TranslationTokenizer::open(const std::string& name, const std::string& separator,
                                                const std::string& end) {
  if (name == "byte") return {byte_spec(), separator, end};
  const fs::path file = tokenizer_file(core::expand_environment(name));
  core::require(!is_sentencepiece(file),
                "{}: is a SentencePiece model, which takes no new tokens such as {}; translation needs "
                "byte-level BPE, a tokenizer.json as exactmamba train-tokenizer makes it",
                file.string(), core::printable(separator));
  return {read_bpe_spec(file), separator, end};
}

TranslationTokenizer TranslationTokenizer::load(const fs::path& model) {
  const fs::path file = model / kTokenizerFile, config = model / kTokenizerConfigFile;
  core::require<core::IoError>(
      fs::is_regular_file(file),
      "{}: no such file; a model that translates has its tokenizer beside its weights", file.string());
  const std::string separator = configured_token(config, kSeparatorRole),
                    end = configured_token(config, kEndRole);
  core::require(!separator.empty() && !end.empty(),
                "{}: has no {}; a model that translates names its {} (between source and target) and its {} "
                "(behind the target)",
                config.string(), separator.empty() ? kSeparatorRole : kEndRole, kSeparatorRole, kEndRole);
  return {read_bpe_spec(file), separator, end};
}

std::vector<int64_t> TranslationTokenizer::encode(std::string_view sentence) const {
  std::vector<int64_t> ids = tokenizer_->encode(sentence);
  std::erase_if(ids, [this](int64_t id) { return id == separator_ || id == end_; });
  return ids;
}

std::vector<int64_t> TranslationTokenizer::prompt(std::string_view source) const {
  std::vector<int64_t> ids = encode(source);
  ids.push_back(separator_);
  return ids;
}

std::string TranslationTokenizer::decode(const std::vector<int64_t>& target) const {
  std::string text = tokenizer_->decode(target, SpecialTokens::kSkip);
  std::replace_if(
      text.begin(), text.end(), [](char c) { return c == '\n' || c == '\r'; }, ' ');
  return text;
}

std::map<std::string, std::string> TranslationTokenizer::files() const {
  const core::Json config = {{kSeparatorRole, separator_text_}, {kEndRole, end_text_}};
  return {{kTokenizerFile, core::json_text(json_of(spec_), 2) + "\n"},
          {kTokenizerConfigFile, core::json_text(config, 2) + "\n"}};
}

}  // namespace exactmamba::data
