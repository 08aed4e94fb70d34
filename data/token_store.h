// Many token ids in little memory.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "core/hash.h"

namespace exactmamba::data {

/// 2 bytes an id when the vocabulary allows, else 4.
class TokenStore {
 public:
  /// @throws InputError unless 1 ≤ vocab_size ≤ 2^31 − 1.
  explicit TokenStore(int64_t vocab_size);
  void append(const std::vector<int64_t>& ids);  // each within the vocabulary
  int64_t size() const;
  /// Ids begin … end − 1.
  std::vector<int64_t> slice(int64_t begin, int64_t end) const;
  std::string hash() const;

 private:
  std::variant<std::vector<uint16_t>, std::vector<int32_t>> ids_;
};

/// Hash of the bytes of `values`.
template <class T>
std::string hash_of(const std::vector<T>& values) {
  return core::hash_hex({reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)});
}

}  // namespace exactmamba::data
