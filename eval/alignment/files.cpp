#include "eval/alignment/files.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include <fmt/format.h>

#include "core/error.h"
#include "core/json.h"
#include "data/line_reader.h"
#include "eval/alignment/words.h"

namespace exactmamba::eval {
namespace {

/// A mistyped pair number must not fill the memory.
constexpr int64_t kMostPairs = 10'000'000;
constexpr int32_t kLargestNumber = 1'000'000'000;  // leaves room for its neighbours

constexpr const char* kExpected[] = {  // [format]
    "is no link; links are like 3-4 (sure) and 3p4 (possible)", "is no link; links are like 3-4",
    "does not fit; lines are like 1 3 4 S: pair, source word, target word, S (sure) or P"};

class Reader {
 public:
  Reader(const std::filesystem::path& file, const AlignmentNotation& notation, const AlignmentBounds& bounds)
      : lines_(file), notation_(notation), bounds_(bounds) {}

  std::vector<GoldLinks> read();

 private:
  /// @throws InputError with the place of `part`, which lies in line_
  [[noreturn]] void fail(std::string_view part, const std::string& problem) const;
  void add_link(std::string_view field);
  void add_naacl_line();
  /// Takes digits off the front of `rest`; `field` is what an error shows.
  int32_t take_number(std::string_view& rest, std::string_view field) const;
  void add(size_t pair, int32_t first, int32_t second, bool sure, std::string_view field);
  int32_t word(int32_t number, const char* side, std::string_view field) const;
  void check_length(size_t pair, int32_t word, const char* side, int64_t length,
                    std::string_view field) const;
  void check_pairs() const;
  [[noreturn]] void refuse(std::string_view field) const;

  data::LineReader lines_;
  const AlignmentNotation& notation_;
  const AlignmentBounds& bounds_;
  std::string line_;
  std::vector<GoldLinks> pairs_;
};

void Reader::fail(std::string_view part, const std::string& problem) const {
  throw core::InputError(fmt::format("{}:{}: '{}' {}", lines_.where(), part.data() - line_.data() + 1,
                                     core::printable(part), problem));
}

void Reader::refuse(std::string_view field) const {
  fail(field, kExpected[static_cast<size_t>(notation_.format)]);
}

int32_t Reader::take_number(std::string_view& rest, std::string_view field) const {
  if (rest.empty() || rest.front() < '0' || rest.front() > '9') refuse(field);
  int32_t number = 0;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), number);
  if (error != std::errc() || number > kLargestNumber)
    fail(field, fmt::format("holds a number above {}", kLargestNumber));
  rest.remove_prefix(static_cast<size_t>(end - rest.data()));
  return number;
}

int32_t Reader::word(int32_t number, const char* side, std::string_view field) const {
  if (number < notation_.base)
    fail(field, fmt::format("has {} word 0, but words count from 1 here; if the file counts from 0, {} is 0",
                            side, notation_.base_option));
  return number - static_cast<int32_t>(notation_.base);
}

void Reader::check_length(size_t pair, int32_t word, const char* side, int64_t length,
                          std::string_view field) const {
  if (word >= length)
    fail(field, fmt::format("has {} word {}, but sentence {} in {} has {} words, counted from {}, as {} says",
                            side, word + notation_.base, pair + 1, bounds_.of, length, notation_.base,
                            notation_.base_option));
}

void Reader::add(size_t pair, int32_t first, int32_t second, bool sure, std::string_view field) {
  const char *first_side = "source", *second_side = "target";
  if (notation_.target_first) std::swap(first_side, second_side);
  Link link{word(first, first_side, field), word(second, second_side, field)};
  if (notation_.target_first) std::swap(link.source, link.target);
  if (pair < bounds_.lengths.size()) {
    check_length(pair, link.source, "source", bounds_.lengths[pair].source, field);
    check_length(pair, link.target, "target", bounds_.lengths[pair].target, field);
  }
  pairs_[pair].possible.insert(link);
  if (sure) pairs_[pair].sure.insert(link);
}

void Reader::add_link(std::string_view field) {
  std::string_view rest = field;
  const int32_t first = take_number(rest, field);
  const bool possible = rest.starts_with('p') && notation_.format == AlignmentFormat::kTalp;
  if (!possible && !rest.starts_with('-')) refuse(field);
  rest.remove_prefix(1);
  const int32_t second = take_number(rest, field);
  if (!rest.empty()) refuse(field);
  add(pairs_.size() - 1, first, second, !possible, field);
}

void Reader::add_naacl_line() {
  const std::vector<std::string_view> fields = words_of(line_);
  if (fields.empty()) return;
  const bool marked = fields.size() == 4 && (fields[3] == "S" || fields[3] == "P");
  if (fields.size() != 3 && !marked) refuse(line_);
  int32_t numbers[3];
  for (size_t n = 0; n < 3; ++n) {
    std::string_view rest = fields[n];
    numbers[n] = take_number(rest, fields[n]);
    if (!rest.empty()) refuse(fields[n]);
  }
  const int64_t last = bounds_.pairs ? static_cast<int64_t>(*bounds_.pairs) : kMostPairs;
  if (numbers[0] < 1 || numbers[0] > last)
    fail(fields[0], fmt::format("is no sentence pair; they are 1 to {}{}", last,
                                bounds_.pairs ? " in " + bounds_.of : ""));
  const auto pair = static_cast<size_t>(numbers[0]) - 1;
  if (pair >= pairs_.size()) pairs_.resize(pair + 1);
  add(pair, numbers[1], numbers[2], !marked || fields[3] == "S", line_);
}

void Reader::check_pairs() const {
  core::require(
      !bounds_.pairs || pairs_.size() == *bounds_.pairs,
      "{}: {} lines for {} sentence pairs in {}; a line for each pair is needed, an empty one for no link",
      lines_.file(), pairs_.size(), bounds_.pairs.value_or(0), bounds_.of);
}

std::vector<GoldLinks> Reader::read() {
  if (notation_.format == AlignmentFormat::kNaacl) {
    while (lines_.next(line_)) add_naacl_line();
    if (bounds_.pairs) pairs_.resize(*bounds_.pairs);
    return std::move(pairs_);
  }
  while (lines_.next(line_)) {
    pairs_.emplace_back();
    for (const std::string_view field : words_of(line_)) add_link(field);
  }
  check_pairs();
  return std::move(pairs_);
}

/// The links of one pair as text; `possible` holds the sure ones.
void append_pair(std::string& text, size_t pair, const Links& sure, const Links& possible,
                 const AlignmentNotation& notation) {
  const char* separator = "";
  for (const Link& link : possible) {
    const bool is_sure = sure.contains(link);
    core::require(is_sure || notation.format != AlignmentFormat::kPharaoh,
                  "pair {}: a pharaoh file cannot tell that a link is only possible; write talp or naacl",
                  pair + 1);
    int64_t first = link.source + notation.base, second = link.target + notation.base;
    if (notation.target_first) std::swap(first, second);
    if (notation.format == AlignmentFormat::kNaacl) {
      text += fmt::format("{} {} {} {}\n", pair + 1, first, second, is_sure ? 'S' : 'P');
    } else {
      text += fmt::format("{}{}{}{}", separator, first, is_sure ? '-' : 'p', second);
      separator = " ";
    }
  }
  if (notation.format != AlignmentFormat::kNaacl) text += '\n';
}

}  // namespace

AlignmentFormat alignment_format(const std::string& name, const std::string& where) {
  return core::enum_from_name<AlignmentFormat>(kAlignmentFormatNames, name, where);
}

std::vector<GoldLinks> read_alignments(const std::filesystem::path& file, const AlignmentNotation& notation,
                                       const AlignmentBounds& bounds) {
  return Reader(file, notation, bounds).read();
}

std::vector<GoldLinks> read_gold(const std::filesystem::path& file, const AlignmentNotation& notation,
                                 const AlignmentBounds& bounds) {
  std::vector<GoldLinks> gold = read_alignments(file, notation, bounds);
  const bool some =
      std::any_of(gold.begin(), gold.end(), [](const GoldLinks& pair) { return !pair.possible.empty(); });
  core::require(some, "{}: there is no link in it, so that nothing can be scored by it", file.string());
  return gold;
}

std::vector<Links> read_links(const std::filesystem::path& file, const AlignmentNotation& notation,
                              const AlignmentBounds& bounds) {
  std::vector<Links> links;
  for (GoldLinks& pair : read_alignments(file, notation, bounds)) links.push_back(std::move(pair.possible));
  return links;
}

std::string alignment_text(const std::vector<GoldLinks>& pairs, const AlignmentNotation& notation) {
  std::string text;
  for (size_t n = 0; n < pairs.size(); ++n) append_pair(text, n, pairs[n].sure, pairs[n].possible, notation);
  return text;
}

std::string alignment_text(const std::vector<Links>& pairs, const AlignmentNotation& notation) {
  std::string text;
  for (size_t n = 0; n < pairs.size(); ++n) append_pair(text, n, pairs[n], pairs[n], notation);
  return text;
}

}  // namespace exactmamba::eval
