#include "data/tokenizers/bpe_tokenizer.h"

#include <algorithm>
#include <span>

#include "core/error.h"
#include "core/hash.h"
#include "core/utf8.h"
#include "data/token_label.h"
#include "data/tokenizers/byte_characters.h"
#include "data/tokenizers/nfc.h"
#include "data/tokenizers/unicode_classes.h"

namespace exactmamba::data {
namespace {

namespace fs = std::filesystem;

constexpr const char* kEndsOfDocuments[] = {"<|endoftext|>", "</s>", "<eos>", "[EOS]"};
constexpr char32_t kSpaceCharacter = 0x120;  // "Ġ"

/// The added token called `name`, or for "" the first of the usual ones.
std::optional<int64_t> find_end(const std::vector<AddedToken>& tokens, const std::string& name) {
  const auto id_of = [&](std::string_view content) -> std::optional<int64_t> {
    const auto found = std::find_if(tokens.begin(), tokens.end(),
                                    [&](const AddedToken& token) { return token.content == content; });
    return found == tokens.end() ? std::nullopt : std::optional(found->id);
  };
  if (!name.empty()) return id_of(name);
  for (const char* usual : kEndsOfDocuments)
    if (const auto id = id_of(usual)) return id;
  return std::nullopt;
}

bool is_white_space(char32_t c) {
  return c == kSpaceCharacter || character_class(c) == CharacterClass::kSpace;
}

struct WhiteSpace {
  int64_t before, after;  // characters
};
WhiteSpace white_space_around(std::string_view token) {
  std::vector<bool> white;
  for (size_t at = 0; at < token.size();) white.push_back(is_white_space(core::next_code_point(token, at)));
  const auto before = std::find(white.begin(), white.end(), false) - white.begin();
  const auto after = std::find(white.rbegin(), white.rend(), false) - white.rbegin();
  return {before, after};
}

}  // namespace

/// An encoder that no other call uses, for the length of this one.
class BpeTokenizer::Borrowed {
 public:
  explicit Borrowed(const BpeTokenizer& owner) : owner_(owner) {
    const std::lock_guard lock(owner_.mutex_);
    if (owner_.idle_.empty()) {
      encoder_ =
          std::make_unique<WordEncoder>(owner_.model_, owner_.spec_.split_words ? &owner_.pattern_ : nullptr);
    } else {
      encoder_ = std::move(owner_.idle_.back());
      owner_.idle_.pop_back();
    }
  }
  ~Borrowed() {
    const std::lock_guard lock(owner_.mutex_);
    owner_.idle_.push_back(std::move(encoder_));
  }
  Borrowed(const Borrowed&) = delete;
  Borrowed& operator=(const Borrowed&) = delete;
  WordEncoder& operator*() const { return *encoder_; }

 private:
  const BpeTokenizer& owner_;
  std::unique_ptr<WordEncoder> encoder_;
};

/// One text on its way through the tokenizer.
class BpeTokenizer::Run {
 public:
  Run(const BpeTokenizer& tokenizer, bool with_offsets)
      : tokenizer_(tokenizer), encoder_(tokenizer), with_offsets_(with_offsets) {}

  Encoding encode(std::string_view text) {
    core::require_utf8(text);
    tokenizer_.raw_.split(text, [this](std::string_view part, int64_t id) {
      const size_t size = with_offsets_ ? core::count_characters(part) : 0;
      if (id == AddedTokens::kText) {
        encode_raw(part, size);
      } else {
        add(id, begin_, begin_ + size);
      }
      begin_ += size;
    });
    if (with_offsets_ && tokenizer_.spec_.trim_offsets) tokenizer_.trim(result_);
    return std::move(result_);
  }

 private:
  using Origins = std::span<const uint32_t>;  // [character of a part]: that of the whole text, less begin_

  void encode_raw(std::string_view part, size_t size) {
    std::vector<uint32_t> origins;
    if (tokenizer_.spec_.nfc && !is_surely_nfc(part)) {
      const std::string normalized = nfc(part, with_offsets_ ? &origins : nullptr);
      return split_normalized(normalized, origins);
    }
    for (uint32_t i = 0; i < size; ++i) origins.push_back(i);
    split_normalized(part, origins);
  }

  void split_normalized(std::string_view text, Origins origins) {
    size_t character = 0;
    tokenizer_.normalized_.split(text, [&](std::string_view part, int64_t id) {
      const size_t size = with_offsets_ ? core::count_characters(part) : 0;
      const Origins own = origins.subspan(character, size);
      if (id == AddedTokens::kText) {
        encode_prefixed(part, own);
      } else {
        add(id, with_offsets_ ? begin_ + own.front() : 0, with_offsets_ ? begin_ + own.back() + 1 : 0);
      }
      character += size;
    });
  }

  void encode_prefixed(std::string_view part, Origins origins) {
    if (!tokenizer_.spec_.add_prefix_space || part.front() == ' ') return encode_words(part, origins);
    std::vector<uint32_t> prefixed;
    if (with_offsets_) prefixed.push_back(origins.front());
    prefixed.insert(prefixed.end(), origins.begin(), origins.end());
    encode_words(" " + std::string(part), prefixed);
  }

  void encode_words(std::string_view part, Origins origins) {
    const size_t first = result_.ids.size();
    (*encoder_).encode(part, result_.ids);
    if (with_offsets_) add_offsets(part, origins, first);
  }

  /// Of the tokens from `first` on, which together are the bytes of `part`.
  void add_offsets(std::string_view part, Origins origins, size_t first) {
    size_t character = 0, character_end = core::utf8_length(part[0]), byte = 0;
    for (size_t i = first; i < result_.ids.size(); ++i) {
      const int64_t begin = static_cast<int64_t>(begin_ + origins[character]);
      byte += tokenizer_.tokens_[result_.ids[i]].bytes.size();
      for (; character_end < byte; ++character) character_end += core::utf8_length(part[character_end]);
      result_.offsets.push_back({begin, static_cast<int64_t>(begin_ + origins[character] + 1)});
      if (character_end > byte || byte == part.size()) continue;
      ++character;
      character_end += core::utf8_length(part[byte]);
    }
  }

  void add(int64_t id, size_t begin, size_t end) {
    result_.ids.push_back(id);
    if (with_offsets_) result_.offsets.push_back({static_cast<int64_t>(begin), static_cast<int64_t>(end)});
  }

  const BpeTokenizer& tokenizer_;
  const Borrowed encoder_;
  const bool with_offsets_;
  size_t begin_ = 0;  // character of the text where the present part begins
  Encoding result_;
};

BpeTokenizer::BpeTokenizer(BpeSpec spec, const std::string& end_of_document)
    : spec_(std::move(spec)), name_("bpe-" + core::hash_hex(core::json_text(json_of(spec_)))), model_(spec_) {
  tokens_.resize(spec_.vocab.size());
  for (size_t id = 0; id < tokens_.size(); ++id) tokens_[id].text = std::move(spec_.vocab[id]);
  for (const AddedToken& token : spec_.added_tokens) {
    if (token.id >= vocab_size()) tokens_.resize(static_cast<size_t>(token.id) + 1);
    tokens_[token.id].text = token.content;
    tokens_[token.id].special = token.special;
    const bool late = token.normalized && spec_.nfc;
    (token.normalized ? normalized_ : raw_).add(late ? nfc(token.content) : token.content, token.id);
  }
  for (Token& token : tokens_) token.bytes = bytes_of(token.text).value_or(token.text);
  eos_id_ = find_end(spec_.added_tokens, end_of_document);
  core::require(end_of_document.empty() || eos_id_,
                "the end of a document, '{}', is none of the added tokens", core::printable(end_of_document));
  spec_.vocab.clear();
  spec_.merges = {};
}

std::shared_ptr<const BpeTokenizer> BpeTokenizer::load(const fs::path& path) {
  const fs::path file = tokenizer_file(path);
  const fs::path config = file.parent_path() / kTokenizerConfigFile;
  return std::make_shared<const BpeTokenizer>(read_bpe_spec(file), configured_token(config, "eos_token"));
}

fs::path tokenizer_file(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored) ? path / kTokenizerFile : path;
}

/// A string, or an object with its "content".
std::string configured_token(const fs::path& config, const std::string& role) {
  std::error_code ignored;
  if (!fs::is_regular_file(config, ignored)) return "";
  const core::Json json = core::read_json(config);
  const core::Json token = json.is_object() ? json.value(role, core::Json()) : core::Json();
  if (token.is_null()) return "";
  const core::Json content = token.is_object() ? token.value("content", core::Json()) : token;
  core::require(content.is_string(), "{}: {} is {}, but it must be a string", config.string(), role,
                core::printable(core::json_text(token)));
  return content.get<std::string>();
}

std::vector<int64_t> BpeTokenizer::encode(std::string_view text) const {
  return Run(*this, false).encode(text).ids;
}

Encoding BpeTokenizer::encode_with_offsets(std::string_view text) const {
  return Run(*this, true).encode(text);
}

/// As the tokenizers library's post-processor ByteLevel.
void BpeTokenizer::trim(Encoding& encoding) const {
  for (size_t i = 0; i < encoding.ids.size(); ++i) {
    auto [before, after] = white_space_around(tokens_[encoding.ids[i]].text);
    Span& offsets = encoding.offsets[i];
    const bool first = i == 0 || offsets.begin == 0;
    if (first && spec_.trim_keeps_prefix) before = 0;
    offsets.begin = std::min(offsets.begin + before, offsets.end);
    if (offsets.end >= after) offsets.end = std::max(offsets.end - after, offsets.begin);
  }
}

std::string BpeTokenizer::token_bytes(int64_t id, SpecialTokens special) const {
  core::require(id >= 0, "token id {} is negative", id);
  if (id >= vocab_size() || (special == SpecialTokens::kSkip && tokens_[id].special)) return "";
  return tokens_[id].bytes;
}

std::string BpeTokenizer::decode(const std::vector<int64_t>& ids, SpecialTokens special) const {
  std::string bytes;
  for (const int64_t id : ids) bytes += token_bytes(id, special);
  return core::replace_invalid_utf8(bytes);
}

std::string BpeTokenizer::token_text(int64_t id) const {
  return id < 0 || id >= vocab_size() ? "" : token_label(tokens_[id].bytes);
}

int64_t BpeTokenizer::eos_id() const {
  core::require(eos_id_.has_value(),
                "the tokenizer has no end of document: none of its added tokens is <|endoftext|>, </s>, "
                "<eos> or [EOS], and there is no eos_token in a tokenizer_config.json beside it "
                "(exactmamba train-tokenizer: --special '<|endoftext|>')");
  return *eos_id_;
}

}  // namespace exactmamba::data
