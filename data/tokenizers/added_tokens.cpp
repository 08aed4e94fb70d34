#include "data/tokenizers/added_tokens.h"

namespace exactmamba::data {

size_t AddedTokens::child(size_t node, unsigned char byte) const {
  for (const auto& [key, next] : nodes_[node].next)
    if (key == byte) return next;
  return 0;
}

void AddedTokens::add(std::string_view content, int64_t id) {
  first_bytes_[static_cast<unsigned char>(content.front())] = true;
  size_t node = 0;
  for (const char c : content) {
    const auto byte = static_cast<unsigned char>(c);
    size_t next = child(node, byte);
    if (next == 0) {
      next = nodes_.size();
      nodes_[node].next.emplace_back(byte, next);
      nodes_.emplace_back();
    }
    node = next;
  }
  if (nodes_[node].id == kText) nodes_[node].id = id;
}

AddedTokens::Match AddedTokens::match_at(std::string_view text, size_t begin) const {
  Match longest{begin, begin, kText};
  size_t node = 0;
  for (size_t at = begin; at < text.size(); ++at) {
    node = child(node, static_cast<unsigned char>(text[at]));
    if (node == 0) break;
    if (nodes_[node].id != kText) longest = {begin, at + 1, nodes_[node].id};
  }
  return longest;
}

AddedTokens::Match AddedTokens::find(std::string_view text, size_t from) const {
  for (size_t at = from; at < text.size(); ++at) {
    if (!first_bytes_[static_cast<unsigned char>(text[at])]) continue;
    const Match match = match_at(text, at);
    if (match.id != kText) return match;
  }
  return {text.size(), text.size(), kText};
}

}  // namespace exactmamba::data
