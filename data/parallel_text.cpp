#include "data/parallel_text.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <optional>
#include <string_view>

#include "core/error.h"
#include "data/iwslt_xml.h"

namespace exactmamba::data {
namespace {

/// Of "before{first,second}after".
struct Braces {
  std::string before, first, second, after;
};

/// @throws InputError for others than one pair of braces around two different sides
std::optional<Braces> find_braces(const std::string& name) {
  const size_t open = name.find_first_of("{}");
  if (open == std::string::npos) return std::nullopt;
  const size_t comma = name.find_first_of("{,}", open + 1), close = name.find_first_of("{,}", comma + 1);
  const bool whole = name[open] == '{' && comma != std::string::npos && name[comma] == ',' &&
                     close != std::string::npos && name[close] == '}' &&
                     name.find_first_of("{}", close + 1) == std::string::npos;
  core::require(whole, "'{}': sentence pairs have one pair of braces with two sides, as in name.{{de,en}}",
                name);
  Braces braces{name.substr(0, open), name.substr(open + 1, comma - open - 1),
                name.substr(comma + 1, close - comma - 1), name.substr(close + 1)};
  core::require(braces.first != braces.second, "'{}': both sides are {}; name the source and its translation",
                name, braces.first);
  return braces;
}

bool has_ending(const std::string& name, std::string_view ending) {
  return uncompressed_name(name).extension() == ending;
}

/// IWSLT's training sets.
bool is_tagged(const std::filesystem::path& file) {
  return file.filename().string().starts_with("train.tags.");
}

/// One side of two files.
class Side {
 public:
  Side(const std::string& file, OnInvalidUtf8 on_invalid)
      : lines_(file, on_invalid), tagged_(is_tagged(file)) {}

  /// The next sentence, also when it is a bad record: only check() throws then. False after the last.
  bool next(std::string& text) {
    talk_begins_ = false;
    while (next_line(text)) {
      if (tagged_ && is_tag(text)) {
        talk_begins_ = true;
        continue;
      }
      ++sentences_;
      if (tagged_ && problem_.empty()) text = squeeze_space(text);
      return true;
    }
    return false;
  }
  void check() const { core::require<BadRecord>(problem_.empty(), "{}", problem_); }
  int64_t count_all() {
    std::string rest;
    while (next(rest)) continue;
    return sentences_;
  }
  bool talk_begins() const { return talk_begins_; }  // with the sentence given last
  std::string where() const { return lines_.where(); }
  const std::string& file() const { return lines_.file(); }

 private:
  /// "<url>…", "<translator href=…>…"; but "<3" is text.
  static bool is_tag(std::string_view line) {
    constexpr std::array<std::string_view, 9> kTags = {
        "url", "keywords", "speaker", "talkid", "title", "description", "reviewer", "translator", "doc"};
    if (!line.starts_with('<')) return false;
    line.remove_prefix(line.starts_with("</") ? 2 : 1);
    const std::string_view name = line.substr(0, line.find_first_of(" >"));
    return name.size() < line.size() && std::find(kTags.begin(), kTags.end(), name) != kTags.end();
  }

  bool next_line(std::string& line) {
    problem_.clear();
    try {
      return lines_.next(line);
    } catch (const BadRecord& problem) {
      problem_ = problem.what();
      return true;
    }
  }

  LineReader lines_;
  std::string problem_;  // of the line read last
  bool tagged_, talk_begins_ = false;
  int64_t sentences_ = 0;
};

void read_two_files(const std::string& source_file, const std::string& target_file,
                    const Tolerance& tolerance, const TakePair& take) {
  Side source(source_file, tolerance.on_invalid_utf8), target(target_file, tolerance.on_invalid_utf8);
  SentencePair pair;
  bool more_source = false, more_target = false;
  const auto next = [&] {
    more_source = source.next(pair.source);
    more_target = target.next(pair.target);
    return more_source && more_target;
  };
  while (next()) {
    core::require(source.talk_begins() == target.talk_begins(),
                  "{}: a talk begins {}, but not {} ({}): the sentences before differ in number",
                  source.where(), source.talk_begins() ? "here" : "beside",
                  source.talk_begins() ? "beside" : "here", target.where());
    tolerance.attempt([&] {
      source.check();
      target.check();
      take(pair, source.where());
    });
  }
  if (more_source == more_target) return;
  const int64_t sources = source.count_all(), targets = target.count_all();
  throw core::InputError(fmt::format("{} has {} sentences, but {} has {}; each needs its translation",
                                     source.file(), sources, target.file(), targets));
}

int64_t column_number(const std::string& text, const std::string& name) {
  int64_t column = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), column);
  core::require(error == std::errc() && end == text.data() + text.size() && column >= 1,
                "{}: '{}' is not the number of a column, from 1; write for example pairs.tsv{{2,1}}", name,
                text);
  return column;
}

std::string column_of(std::string_view line, int64_t column, const LineReader& lines) {
  size_t begin = 0;
  for (int64_t i = 1; i < column; ++i) {
    const size_t tab = line.find('\t', begin);
    core::require<BadRecord>(tab != std::string_view::npos,
                             "{}: there is no column {}, only {} (separated by TABs)", lines.where(), column,
                             i);
    begin = tab + 1;
  }
  return std::string(line.substr(begin, line.find('\t', begin) - begin));
}

void read_columns(const std::string& file, int64_t source, int64_t target, const Tolerance& tolerance,
                  const TakePair& take) {
  LineReader lines(file, tolerance.on_invalid_utf8);
  std::string line;
  bool more = true;
  const auto read_one = [&] {
    more = lines.next(line);
    if (more) take({column_of(line, source, lines), column_of(line, target, lines)}, lines.where());
  };
  while (more) tolerance.attempt(read_one);
}

void read_xml(const std::string& source_file, const std::string& target_file, OnInvalidUtf8 on_invalid,
              const TakePair& take) {
  std::vector<Segment> source = read_segments(source_file, on_invalid),
                       target = read_segments(target_file, on_invalid);
  const size_t both = std::min(source.size(), target.size());
  for (size_t i = 0; i < both; ++i) {
    const std::string where = fmt::format("{}:{}", source_file, source[i].line);
    core::require(
        source[i].document == target[i].document && source[i].id == target[i].id,
        "{}: segment '{}' of document '{}' stands beside segment '{}' of document '{}' ({}:{}); the "
        "files have {} and {} segments",
        where, source[i].id, source[i].document, target[i].id, target[i].document, target_file,
        target[i].line, source.size(), target.size());
    take({std::move(source[i].text), std::move(target[i].text)}, where);
  }
  core::require(source.size() == target.size(),
                "{} has {} segments, but {} has {}; each needs its translation", source_file, source.size(),
                target_file, target.size());
}

}  // namespace

std::vector<std::string> pair_files(const std::string& name) {
  const std::optional<Braces> braces = find_braces(name);
  if (!braces && has_ending(name, ".tsv")) return {name};
  core::require(
      braces.has_value(),
      "{}: pairs of sentences are two files, written name.{{de,en}} with the source first, or one .tsv",
      name);
  if (braces->after.empty() && has_ending(braces->before, ".tsv")) return {braces->before};
  return {braces->before + braces->first + braces->after, braces->before + braces->second + braces->after};
}

void read_pairs(const std::string& name, const Tolerance& tolerance, const TakePair& take) {
  const std::vector<std::string> files = pair_files(name);
  if (files.size() == 1) {
    const std::optional<Braces> braces = find_braces(name);
    return read_columns(files[0], braces ? column_number(braces->first, name) : 1,
                        braces ? column_number(braces->second, name) : 2, tolerance, take);
  }
  has_ending(files[0], ".xml") ? read_xml(files[0], files[1], tolerance.on_invalid_utf8, take)
                               : read_two_files(files[0], files[1], tolerance, take);
}

bool names_pairs(const std::string& name) { return find_braces(name) || has_ending(name, ".tsv"); }

void read_all_texts(const std::string& name, const std::string& text_key, const Tolerance& tolerance,
                    const TakeText& take) {
  if (names_pairs(name))
    return read_pairs(name, tolerance, [&take](const SentencePair& pair, const std::string& where) {
      take(pair.source, where);
      take(pair.target, where);
    });
  if (has_ending(name, ".xml")) {
    for (const Segment& segment : read_segments(name, tolerance.on_invalid_utf8))
      take(segment.text, fmt::format("{}:{}", name, segment.line));
    return;
  }
  if (!is_tagged(name))
    return (is_plain_text(name) ? read_documents : read_texts)(name, text_key, tolerance, take);
  Side side(name, tolerance.on_invalid_utf8);
  std::string text;
  while (side.next(text))
    tolerance.attempt([&] {
      side.check();
      take(text, side.where());
    });
}

}  // namespace exactmamba::data
