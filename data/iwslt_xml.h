// The XML of IWSLT's development and test sets (NIST's mteval form): <doc docid> with <seg id>.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "data/line_reader.h"

namespace exactmamba::data {

struct Segment {
  std::string document, id;  // as the attributes say; empty without them
  std::string text;          // entities resolved, white space squeezed and trimmed
  int64_t line;              // where it begins, from 1
};

/// The segments in file order; everything else is skipped.
/// @throws IoError, InputError ("file:line: …") for XML that is not well-formed, as LineReader, and when
/// there is no segment.
std::vector<Segment> read_segments(const std::filesystem::path& file, OnInvalidUtf8 on_invalid);

/// With one space for any run of white space (Unicode's) and none at the ends.
std::string squeeze_space(std::string_view text);

}  // namespace exactmamba::data
