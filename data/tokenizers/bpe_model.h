// Byte pair encoding of one word: of its bytes, the pair of neighbours that comes first in the list of merges
// becomes one token, the leftmost first, until no such pair is left (Sennrich et al. 2016; on bytes: GPT-2).
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "data/tokenizers/bpe_spec.h"

namespace exactmamba::data {

class BpeModel {
 public:
  explicit BpeModel(const BpeSpec& spec);
  /// Appends the ids of `word`; time n log n. @throws InputError when one of its bytes has no token
  void encode(std::string_view word, std::vector<int32_t>& ids) const;

 private:
  struct Merge {
    int32_t rank, id;
  };
  /// Two neighbours that may be merged; stale when their place has changed since.
  struct Candidate {
    int32_t rank, left, id;
    bool operator<(const Candidate& other) const {  // the largest comes first out of a heap
      return rank != other.rank ? rank > other.rank : left > other.left;
    }
  };
  struct Symbol {
    int32_t id, previous, next;  // places in the word; −1: none, and the id of a symbol that was swallowed
  };
  static uint64_t key(int32_t left, int32_t right) {
    return (static_cast<uint64_t>(left) << 32) | static_cast<uint32_t>(right);
  }
  void push_candidate(const std::vector<Symbol>& symbols, int32_t left, std::vector<Candidate>& heap) const;

  std::array<int32_t, 256> byte_ids_;           // −1: no token
  std::unordered_map<uint64_t, Merge> merges_;  // [key(left, right)]
};

}  // namespace exactmamba::data
