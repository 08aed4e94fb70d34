#include "data/tokenizers/bpe_model.h"

#include <algorithm>
#include <string_view>

#include "core/error.h"
#include "data/tokenizers/byte_characters.h"

namespace exactmamba::data {

BpeModel::BpeModel(const BpeSpec& spec) {
  std::unordered_map<std::string_view, int32_t> ids;
  for (size_t id = 0; id < spec.vocab.size(); ++id)
    if (!spec.vocab[id].empty()) ids.emplace(spec.vocab[id], static_cast<int32_t>(id));
  for (size_t byte = 0; byte < byte_ids_.size(); ++byte) {
    const auto found = ids.find(byte_characters()[byte]);
    byte_ids_[byte] = found == ids.end() ? -1 : found->second;
  }
  merges_.reserve(spec.merges.size());
  for (size_t rank = 0; rank < spec.merges.size(); ++rank) {
    const auto& [left, right] = spec.merges[rank];
    const Merge merge{static_cast<int32_t>(rank), ids.at(left + right)};
    merges_.insert_or_assign(key(ids.at(left), ids.at(right)), merge);
  }
}

void BpeModel::push_candidate(const std::vector<Symbol>& symbols, int32_t left,
                              std::vector<Candidate>& heap) const {
  if (left < 0 || symbols[left].next < 0) return;
  const auto merge = merges_.find(key(symbols[left].id, symbols[symbols[left].next].id));
  if (merge == merges_.end()) return;
  heap.push_back({merge->second.rank, left, merge->second.id});
  std::push_heap(heap.begin(), heap.end());
}

void BpeModel::encode(std::string_view word, std::vector<int32_t>& ids) const {
  std::vector<Symbol> symbols;
  const auto size = static_cast<int32_t>(word.size());
  for (int32_t i = 0; i < size; ++i) {
    const auto byte = static_cast<unsigned char>(word[i]);
    core::require(byte_ids_[byte] >= 0, "byte 0x{:02x} of the text has no token: '{}' is not in model.vocab",
                  byte, byte_characters()[byte]);
    symbols.push_back({byte_ids_[byte], i - 1, i + 1 < size ? i + 1 : -1});
  }
  std::vector<Candidate> heap;
  for (int32_t i = 0; i < size; ++i) push_candidate(symbols, i, heap);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end());
    const Candidate best = heap.back();
    heap.pop_back();
    Symbol& left = symbols[best.left];
    if (left.id < 0 || left.next < 0) continue;
    Symbol& right = symbols[left.next];
    const auto merge = merges_.find(key(left.id, right.id));
    if (merge == merges_.end() || merge->second.rank != best.rank) continue;
    left.id = best.id;
    right.id = -1;
    left.next = right.next;
    if (right.next >= 0) symbols[right.next].previous = best.left;
    push_candidate(symbols, best.left, heap);
    push_candidate(symbols, left.previous, heap);
  }
  for (int32_t i = 0; i >= 0 && i < size; i = symbols[i].next) ids.push_back(symbols[i].id);
}

}  // namespace exactmamba::data
