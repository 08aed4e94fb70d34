// Texts that all threads encode, a batch of them at a time, handed on in their order.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <ATen/Parallel.h>

#include "core/error.h"

namespace exactmamba::data {

/// Of an Item `where` is "file:line".
template <class Item>
class EncodeBatch {
 public:
  using Encode = std::function<void(Item& item)>;           // may be called by any thread
  using Take = std::function<void(std::span<Item> items)>;  // encoded
  /// `batch_bytes`: memory of a batch before it is encoded.
  EncodeBatch(size_t batch_bytes, Encode encode, Take take)
      : batch_bytes_(batch_bytes), encode_(std::move(encode)), take_(std::move(take)) {}

  /// With so many bytes of text. @throws as flush()
  void add(Item item, size_t text_bytes) {
    items_.push_back(std::move(item));
    bytes_ += text_bytes + sizeof(Item);
    if (bytes_ >= batch_bytes_) flush();
  }

  /// Takes what is there; to be called at the end. @throws InputError ("file:line: …") of the first item of
  /// which `encode` throws one, when those before it are taken
  void flush() {
    std::vector<Item> items = std::exchange(items_, {});
    bytes_ = 0;
    std::vector<std::string> problems(items.size());
    at::parallel_for(0, static_cast<int64_t>(items.size()), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) problems[i] = problem_of(items[i]);
    });
    const auto first =
        std::find_if(problems.begin(), problems.end(), [](const auto& problem) { return !problem.empty(); });
    take_(std::span(items).first(static_cast<size_t>(first - problems.begin())));
    if (first != problems.end()) throw core::InputError(*first);
  }

 private:
  std::string problem_of(Item& item) const {
    try {
      encode_(item);
    } catch (const core::InputError& error) {
      return fmt::format("{}: {}", item.where, error.what());
    }
    return "";
  }

  size_t batch_bytes_, bytes_ = 0;
  Encode encode_;
  Take take_;
  std::vector<Item> items_;
};

}  // namespace exactmamba::data
