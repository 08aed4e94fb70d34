// Encodes the texts of a file by several threads: tokenize_bench TOKENIZER TEXTS THREADS. Prints a JSON line
// a way, ids alone and ids with offsets. tokenize_bench.py compares it with Hugging Face's tokenizers.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <zlib.h>

#include "core/error.h"
#include "data/text_reader.h"
#include "data/tokenizers/open_tokenizer.h"

namespace {

using namespace exactmamba;

/// Seconds that `encode(text)`, giving ids, takes for all texts with a tokenizer that has seen none of them.
template <class Encode>
void measure(const char* way, const std::string& name, const std::vector<std::string>& texts,
             const Encode& encode) {
  const auto tokenizer = data::open_tokenizer(name);
  std::vector<std::vector<int64_t>> ids(texts.size());
  const auto begin = std::chrono::steady_clock::now();
  at::parallel_for(0, static_cast<int64_t>(texts.size()), 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) ids[i] = encode(*tokenizer, texts[i]);
  });
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  uLong checksum = crc32(0, nullptr, 0);
  size_t tokens = 0;
  for (const std::vector<int64_t>& each : ids) {
    const std::vector<int32_t> narrow(each.begin(), each.end());
    checksum =
        crc32_z(checksum, reinterpret_cast<const Bytef*>(narrow.data()), narrow.size() * sizeof(int32_t));
    tokens += each.size();
  }
  fmt::print("{{\"way\": \"{}\", \"seconds\": {:.3f}, \"tokens\": {}, \"crc32\": {}}}\n", way,
             seconds.count(), tokens, checksum);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return std::fputs("usage: tokenize_bench TOKENIZER TEXTS THREADS\n", stderr), 2;
  try {
    at::set_num_threads(std::atoi(argv[3]));
    std::vector<std::string> texts;
    data::read_texts(argv[2], "text", data::OnInvalidUtf8::kFail,
                     [&](const std::string& text, const std::string&) { texts.push_back(text); });
    measure("ids", argv[1], texts,
            [](const auto& tokenizer, const auto& text) { return tokenizer.encode(text); });
    measure("ids and offsets", argv[1], texts,
            [](const auto& tokenizer, const auto& text) { return tokenizer.encode_with_offsets(text).ids; });
    return 0;
  } catch (const core::Error& error) {
    std::fprintf(stderr, "tokenize_bench: %s\n", error.what());
    return error.exit_code();
  }
}
