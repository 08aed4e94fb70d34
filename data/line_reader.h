// The lines of a text file ("-": stdin), plain or compressed: UTF-8, ended by LF or CR LF.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "core/json.h"
#include "data/byte_source.h"
#include "data/tolerance.h"

namespace exactmamba::data {

/// Longest line in bytes: a small compressed file, or one without line feeds, must not fill the memory.
inline constexpr size_t kLongestLine = size_t{1} << 30;

/// At the start of a file. kKeep: it is the first line's first character.
enum class ByteOrderMark { kSkip, kKeep };

class LineReader {
 public:
  /// @throws as open_bytes
  explicit LineReader(const std::filesystem::path& file, OnInvalidUtf8 on_invalid = OnInvalidUtf8::kRefuse,
                      size_t longest_line = kLongestLine, ByteOrderMark mark = ByteOrderMark::kSkip);

  /// The next line without its end; false after the last.
  /// @throws IoError, BadRecord ("file:line: …" for invalid UTF-8; `line` holds it), InputError (the same for
  /// a line that is too long; see ByteSource for compression)
  bool next(std::string& line);
  /// The next lines, up to `most`: as many as there are without waiting for what writes a pipe, one at least;
  /// none after the last. @throws as next()
  std::vector<std::string> next_lines(size_t most);

  int64_t line_number() const { return line_number_; }  // of the line given last, from 1
  bool line_ended() const { return line_ended_; }       // whether that line had an end (the last one may not)
  const std::string& file() const { return name_; }
  std::string where() const;  // "file:line"

 private:
  bool refill();
  bool has_line();
  void append_until_line_feed(std::string& line);
  void refuse_invalid_utf8(const std::string& line) const;

  std::string name_;
  std::unique_ptr<ByteSource> source_;
  std::vector<char> chunk_;
  size_t begin_ = 0, end_ = 0;  // unread part of chunk_
  std::string started_;         // what of the next line stood before it
  bool at_end_ = false;         // of the source
  OnInvalidUtf8 on_invalid_;
  size_t longest_line_;
  ByteOrderMark mark_;
  int64_t line_number_ = 0;
  bool line_ended_ = false;
};

/// Whether `file`, without the ending of its compression, is named as JSON lines: .jsonl or .ndjson.
bool is_json_lines(const std::filesystem::path& file);

/// The objects of a JSON-lines file; lines of white space only are skipped.
class JsonLineReader {
 public:
  /// @throws as LineReader
  explicit JsonLineReader(const std::filesystem::path& file,
                          OnInvalidUtf8 on_invalid = OnInvalidUtf8::kRefuse)
      : lines_(file, on_invalid) {}
  /// @throws BadRecord ("file:line:column: …") when a line is no JSON object (NaN and Infinity are not JSON);
  /// as LineReader.
  bool next(core::Json& object);
  std::string where() const { return lines_.where(); }

 private:
  LineReader lines_;
  std::string line_;
};

}  // namespace exactmamba::data
