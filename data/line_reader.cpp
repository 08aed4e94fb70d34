#include "data/line_reader.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "core/error.h"
#include "core/utf8.h"

namespace exactmamba::data {
namespace {

constexpr size_t kChunk = size_t{1} << 16;
constexpr int kPatience = 100;  // milliseconds: a writer that is only slow shall not decide what is a batch
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
constexpr int kMaxDepth = 64;
constexpr std::string_view kWhiteSpace = " \t\r\n";  // of JSON

}  // namespace

LineReader::LineReader(const std::filesystem::path& file, OnInvalidUtf8 on_invalid, size_t longest_line,
                       ByteOrderMark mark)
    : name_(file == kStdin ? "stdin" : file.string()),
      source_(open_bytes(file)),
      chunk_(kChunk),
      on_invalid_(on_invalid),
      longest_line_(longest_line),
      mark_(mark) {}

std::string LineReader::where() const { return fmt::format("{}:{}", name_, line_number_); }

bool LineReader::refill() {
  if (begin_ < end_) return true;
  if (at_end_) return false;
  begin_ = 0;
  end_ = source_->read(chunk_.data(), chunk_.size());
  at_end_ = end_ == 0;
  return !at_end_;
}

/// Whether next() would not wait: a whole line is there, or the end, or a line that it refuses.
bool LineReader::has_line() {
  while (begin_ < end_ || source_->is_ready(kPatience)) {
    if (!refill()) return true;
    const std::string_view rest(chunk_.data() + begin_, end_ - begin_);
    const bool too_long = started_.size() + rest.size() > longest_line_;
    if (too_long || rest.find('\n') != std::string_view::npos) return true;
    started_ += rest;
    begin_ = end_;
  }
  return false;
}

void LineReader::append_until_line_feed(std::string& line) {
  const auto first = chunk_.begin() + static_cast<std::ptrdiff_t>(begin_);
  const auto last = chunk_.begin() + static_cast<std::ptrdiff_t>(end_);
  const auto line_feed = std::find(first, last, '\n');
  const size_t size = line.size() + static_cast<size_t>(line_feed - first);
  core::require(size <= longest_line_, "{}: the line is longer than {} bytes; split it into shorter ones",
                where(), longest_line_);
  line.append(first, line_feed);
  line_ended_ = line_feed != last;
  begin_ = static_cast<size_t>(line_feed - chunk_.begin()) + (line_ended_ ? 1 : 0);
}

bool LineReader::next(std::string& line) {
  line = std::exchange(started_, "");
  line_ended_ = false;
  if (!refill() && line.empty()) return false;
  ++line_number_;
  while (!line_ended_ && refill()) append_until_line_feed(line);
  if (line_ended_ && line.ends_with('\r')) line.pop_back();
  if (mark_ == ByteOrderMark::kSkip && line_number_ == 1 && line.starts_with(kByteOrderMark))
    line.erase(0, kByteOrderMark.size());
  if (on_invalid_ != OnInvalidUtf8::kReplace) {
    refuse_invalid_utf8(line);
  } else if (core::find_invalid_utf8(line)) {
    line = core::replace_invalid_utf8(line);
  }
  return true;
}

std::vector<std::string> LineReader::next_lines(size_t most) {
  std::vector<std::string> lines;
  std::string line;
  while (lines.size() < most && (lines.empty() || has_line()) && next(line)) lines.push_back(line);
  return lines;
}

void LineReader::refuse_invalid_utf8(const std::string& line) const {
  const std::optional<size_t> wrong = core::find_invalid_utf8(line);
  if (!wrong) return;
  const bool utf16 = line_number_ == 1 && (line.starts_with("\xFF\xFE") || line.starts_with("\xFE\xFF"));
  throw BadRecord(
      fmt::format("{}: this is not UTF-8: byte {} of the line is 0x{:02x}; convert the file{}{}", where(),
                  *wrong, static_cast<unsigned char>(line[*wrong]), utf16 ? " (it looks like UTF-16)" : "",
                  on_invalid_ == OnInvalidUtf8::kFail ? fmt::format(", or {}", kHowToReplace) : ""));
}

bool is_json_lines(const std::filesystem::path& file) {
  const std::string ending = uncompressed_name(file).extension().string();
  return ending == ".jsonl" || ending == ".ndjson";
}

bool JsonLineReader::next(core::Json& object) {
  do {
    if (!lines_.next(line_)) return false;
  } while (line_.find_first_not_of(kWhiteSpace) == std::string::npos);
  try {
    object =
        core::parse_json(line_, lines_.file(), kMaxDepth, lines_.line_number(), core::BareWords::kRefused);
  } catch (const core::InputError& error) {
    throw BadRecord(error.what());
  }
  core::require<BadRecord>(object.is_object(), "{}: each line must hold one JSON object; this is of type {}",
                           where(), object.type_name());
  return true;
}

}  // namespace exactmamba::data
