// Tokens that are cut out of a text before anything else looks at it: leftmost first, the longest at that
// place.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace exactmamba::data {

class AddedTokens {
 public:
  static constexpr int64_t kText = -1;

  /// `content` is not empty. Of two with one content, which only the normalisation makes of different tokens,
  /// the first counts (the tokenizers library takes either, another one in another process).
  void add(std::string_view content, int64_t id);

  /// Calls `take(part, id)` for each part of `text`, in order and none of them empty; id is kText between the
  /// tokens.
  template <class Take>
  void split(std::string_view text, const Take& take) const {
    for (size_t at = 0; at < text.size();) {
      const Match match = find(text, at);
      if (match.begin > at) take(text.substr(at, match.begin - at), kText);
      if (match.id != kText) take(text.substr(match.begin, match.end - match.begin), match.id);
      at = match.end;
    }
  }

 private:
  struct Match {
    size_t begin, end;
    int64_t id;
  };
  /// A step through the bytes of the tokens.
  struct Node {
    int64_t id = kText;                                  // of the token that ends here
    std::vector<std::pair<unsigned char, size_t>> next;  // by the next byte: the node
  };

  Match find(std::string_view text, size_t from) const;  // {size, size, kText} when there is none
  Match match_at(std::string_view text, size_t begin) const;
  size_t child(size_t node, unsigned char byte) const;  // 0: none

  std::vector<Node> nodes_ = std::vector<Node>(1);
  std::array<bool, 256> first_bytes_{};
};

}  // namespace exactmamba::data
