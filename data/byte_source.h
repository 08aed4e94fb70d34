// The bytes of a file, decompressed as its name says: .gz (any number of members), .xz (any number of
// streams), .zst (any number of frames), or plain. "-" is stdin.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>

namespace exactmamba::data {

/// A file name.
inline constexpr const char* kStdin = "-";

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  /// Up to `size` bytes into `to`; 0 at the end.
  /// @throws IoError, InputError ("file: byte N of the compressed data: …": cut short, checksum, not gzip, …)
  virtual size_t read(char* to, size_t size) = 0;
  /// Whether read() would return at once; of a pipe or terminal, after waiting for so long.
  virtual bool is_ready(int /*milliseconds*/) { return true; }
};

/// @throws IoError when the file cannot be opened, InputError for .bz2 and other compressions that are not
/// read.
std::unique_ptr<ByteSource> open_bytes(const std::filesystem::path& file);

/// Whether there is nothing in a file, decompressed. @throws as open_bytes and ByteSource::read
bool is_empty(const std::filesystem::path& file);

/// The name without the ending of its compression: "a.jsonl.gz" → "a.jsonl".
std::filesystem::path uncompressed_name(const std::filesystem::path& file);

}  // namespace exactmamba::data
