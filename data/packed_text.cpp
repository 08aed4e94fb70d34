#include "data/packed_text.h"

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "core/hash.h"
#include "data/text_reader.h"

namespace exactmamba::data {

PackedText::PackedText(const TextSource& source, std::shared_ptr<const Tokenizer> tokenizer, int64_t context,
                       const std::filesystem::path& cache)
    : name_(file_names(source.files)),
      tokenizer_(std::move(tokenizer)),
      context_(context),
      tokens_(source, *tokenizer_, cache) {
  core::require(context_ >= 2, "data.context = {} must be at least 2: a token and its target", context_);
}

/// A last row of one token would be an end of document alone: nothing to predict.
int64_t PackedText::size() const {
  return tokens_.size() / context_ + (tokens_.size() % context_ > 1 ? 1 : 0);
}

Row PackedText::row(int64_t index) const {
  core::require(index >= 0 && index < size(), "row {} is outside {}, which has {} rows", index, name_,
                size());
  const int64_t begin = index * context_, end = std::min(begin + context_, tokens_.size());
  Row row{tokens_.slice(begin, end), tokens_.slice(begin + 1, std::min(end + 1, tokens_.size())), {0}};
  row.targets.resize(row.input_ids.size(), kIgnoredTarget);
  const std::span<const int64_t> begins = tokens_.document_begins();
  auto next = std::upper_bound(begins.begin(), begins.end(), begin);
  for (; next != begins.end() && *next <= end; ++next) {
    row.targets[*next - begin - 1] = kIgnoredTarget;  // of the end of the document before
    if (*next < end) row.starts.push_back(*next - begin);
  }
  return row;
}

std::string PackedText::fingerprint() const {
  return core::hash_hex(fmt::format("text 2; tokenizer {}; context {}; tokens {}", tokenizer_->name(),
                                    context_, tokens_.hash()));
}

}  // namespace exactmamba::data
