#include "data/token_store.h"

#include "core/error.h"

namespace exactmamba::data {
TokenStore::TokenStore(int64_t vocab_size) {
  core::require(vocab_size >= 1 && vocab_size <= INT32_MAX,
                "a vocabulary of {} tokens is not between 1 and 2^31 - 1", vocab_size);
  if (vocab_size > int64_t{UINT16_MAX} + 1) ids_ = std::vector<int32_t>();
}

void TokenStore::append(const std::vector<int64_t>& ids) {
  std::visit(
      [&](auto& own) {
        using Id = typename std::decay_t<decltype(own)>::value_type;
        for (const int64_t id : ids) own.push_back(static_cast<Id>(id));
      },
      ids_);
}

int64_t TokenStore::size() const {
  return std::visit([](const auto& own) { return static_cast<int64_t>(own.size()); }, ids_);
}

std::vector<int64_t> TokenStore::slice(int64_t begin, int64_t end) const {
  return std::visit(
      [&](const auto& own) { return std::vector<int64_t>(own.begin() + begin, own.begin() + end); }, ids_);
}

std::string TokenStore::hash() const {
  return std::visit([](const auto& own) { return hash_of(own); }, ids_);
}

}  // namespace exactmamba::data
