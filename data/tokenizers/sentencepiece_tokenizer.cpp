#include "data/tokenizers/sentencepiece_tokenizer.h"

#include <algorithm>
#include <sentencepiece_processor.h>

#include "core/error.h"
#include "core/files.h"
#include "core/hash.h"
#include "core/json.h"
#include "core/utf8.h"
#include "data/token_label.h"
#include "data/tokenizers/added_tokens.h"
#include "data/tokenizers/unicode_classes.h"

namespace exactmamba::data {
namespace {

constexpr int64_t kXlmrBegin = 0, kXlmrPad = 1, kXlmrEnd = 2, kXlmrUnknown = 3;

std::string_view without_trailing_space(std::string_view text) {
  size_t end = 0;
  for (size_t at = 0; at < text.size();)
    if (character_class(core::next_code_point(text, at)) != CharacterClass::kSpace) end = at;
  return text.substr(0, end);
}

}  // namespace

bool is_sentencepiece(const std::filesystem::path& file) {
  return file.extension() == ".model" || file.extension() == ".spm";
}

SentencePieceTokenizer::SentencePieceTokenizer(const std::filesystem::path& file)
    : processor_(std::make_unique<sentencepiece::SentencePieceProcessor>()) {
  const std::string model = core::read_file(file);
  name_ = "sentencepiece-" + core::hash_hex(model);
  // The library's own message names lines of its source.
  const bool loaded = processor_->LoadFromSerializedProto(model).ok() && processor_->GetPieceSize() > 0;
  core::require(loaded, "{}: is no SentencePiece model, or not a whole one ({} bytes); copy it again",
                file.string(), model.size());
}

SentencePieceTokenizer::~SentencePieceTokenizer() = default;

std::vector<int64_t> SentencePieceTokenizer::encode(std::string_view text) const {
  core::require_utf8(text);
  const std::vector<int> ids = processor_->EncodeAsIds(text);
  return {ids.begin(), ids.end()};
}

Encoding SentencePieceTokenizer::encode_with_offsets(std::string_view text) const {
  core::require_utf8(text);
  auto pieces = processor_->EncodeAsImmutableProto(text);
  pieces.ConvertToUnicodeSpans();
  Encoding encoding;
  for (const auto& piece : pieces.pieces()) {
    encoding.ids.push_back(piece.id());
    encoding.offsets.push_back({piece.begin(), piece.end()});
  }
  return encoding;
}

std::string SentencePieceTokenizer::decode(const std::vector<int64_t>& ids, SpecialTokens) const {
  std::vector<int> known;
  for (const int64_t id : ids) {
    core::require(id >= 0 && id < vocab_size(), "token id {} is outside the vocabulary of {} pieces", id,
                  vocab_size());
    known.push_back(static_cast<int>(id));
  }
  return processor_->DecodeIds(known);
}

std::string SentencePieceTokenizer::token_text(int64_t id) const {
  return id < 0 || id >= vocab_size() ? "" : token_label(processor_->IdToPiece(static_cast<int>(id)));
}

int64_t SentencePieceTokenizer::vocab_size() const { return processor_->GetPieceSize(); }

int64_t SentencePieceTokenizer::eos_id() const {
  core::require(processor_->eos_id() >= 0,
                "the SentencePiece model has no token that ends a document (</s>)");
  return processor_->eos_id();
}

std::vector<int64_t> SentencePieceTokenizer::xlmr_ids(std::string_view text, size_t most_ids) const {
  core::require(most_ids >= 2, "{} ids cannot hold <s> and </s>", most_ids);
  core::require_utf8(text);
  AddedTokens special;
  special.add("<s>", kXlmrBegin);
  special.add("<pad>", kXlmrPad);
  special.add("</s>", kXlmrEnd);
  special.add("<unk>", kXlmrUnknown);
  special.add("<mask>", vocab_size() + 1);
  std::vector<int64_t> ids = {kXlmrBegin};
  special.split(text, [&](std::string_view part, int64_t id) {
    if (id != AddedTokens::kText) return ids.push_back(id);
    for (const int64_t piece : encode(without_trailing_space(part)))
      ids.push_back(piece == processor_->unk_id() ? kXlmrUnknown : piece + 1);
  });
  ids.resize(std::min(ids.size(), most_ids - 1));
  ids.push_back(kXlmrEnd);
  return ids;
}

}  // namespace exactmamba::data
