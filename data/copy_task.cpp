#include "data/copy_task.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/hash.h"
#include "core/random.h"

namespace exactmamba::data {
namespace {

int64_t example_length(int64_t characters) { return 2 * characters + 3; }  // $s|s.

std::string draw_string(core::RandomStream& random, const CopyOptions& o) {
  std::string text(static_cast<size_t>(random.uniform_int(o.min_length, o.max_length)), ' ');
  for (char& c : text) c = static_cast<char>('a' + random.uniform_int(0, o.alphabet - 1));
  return text;
}

}  // namespace

std::string lengths_problem(const CopyOptions& o) {
  if (o.min_length >= 1 && o.min_length <= o.max_length) return "";
  return fmt::format("data.min_length = {} must be at least 1 and at most data.max_length = {}", o.min_length,
                     o.max_length);
}

std::string context_problem(const CopyOptions& o) {
  if (o.context >= example_length(o.max_length)) return "";
  return fmt::format(
      "data.context = {} is shorter than an example of data.max_length = {} characters, {} tokens", o.context,
      o.max_length, example_length(o.max_length));
}

std::string held_out_problem(const CopyOptions& o) {
  if (o.held_out < 1) return fmt::format("data.held_out = {} must be at least 1", o.held_out);
  const double lengths = static_cast<double>(std::max<int64_t>(o.max_length - o.min_length + 1, 1));
  const double strings =
      std::pow(static_cast<double>(o.alphabet), static_cast<double>(o.min_length)) * lengths;
  if (static_cast<double>(o.held_out) <= strings / 4) return "";
  return fmt::format(
      "data.held_out = {} is too many for strings of {} to {} of {} letters (at most {:.0f}); lower it, or "
      "raise data.min_length or data.alphabet",
      o.held_out, o.min_length, o.max_length, o.alphabet, std::floor(strings / 4));
}

void check(const CopyOptions& o) {
  for (const auto problem : {lengths_problem, context_problem, held_out_problem}) {
    const std::string message = problem(o);
    core::require(message.empty(), "{}", message);
  }
}

CopyTask::CopyTask(const CopyOptions& options, uint64_t seed, CopyPart part, RowLayout layout)
    : options_(options), seed_(seed), part_(part), layout_(layout), tokenizer_(options.alphabet) {
  check(options_);
  draw_held_out();
  if (part_ == CopyPart::kHeldOut) pack_held_out();
}

void CopyTask::draw_held_out() {
  core::RandomStream random(seed_, "data.copy.held_out");
  while (static_cast<int64_t>(held_out_.size()) < options_.held_out) {
    std::string text = draw_string(random, options_);
    if (held_out_set_.insert(text).second) held_out_.push_back(std::move(text));
  }
}

void CopyTask::pack_held_out() {
  int64_t used = options_.context;
  for (size_t i = 0; i < held_out_.size(); ++i) {
    const int64_t length = example_length(static_cast<int64_t>(held_out_[i].size()));
    if (layout_ == RowLayout::kOneExample || used + length > options_.context) {
      row_begins_.push_back(i);
      used = 0;
    }
    used += length;
  }
  row_begins_.push_back(held_out_.size());
}

std::string CopyTask::name() const {
  return part_ == CopyPart::kTrain ? "the copy task" : "the held-out strings of the copy task";
}

int64_t CopyTask::size() const {
  return part_ == CopyPart::kTrain ? kEndlessRows : static_cast<int64_t>(row_begins_.size()) - 1;
}

std::vector<std::string> CopyTask::training_strings(int64_t index) const {
  core::RandomStream random(seed_, "data.copy.train", static_cast<uint64_t>(index));
  std::vector<std::string> strings;
  int64_t used = 0;
  while (true) {
    std::string text = draw_string(random, options_);
    if (held_out_set_.contains(text)) continue;
    used += example_length(static_cast<int64_t>(text.size()));
    if (used > options_.context) return strings;
    strings.push_back(std::move(text));
    if (layout_ == RowLayout::kOneExample) return strings;
  }
}

Row CopyTask::row(int64_t index) const {
  core::require(index >= 0 && index < size(), "row {} is outside {}, which has {} rows", index, name(),
                size());
  Row row;
  if (part_ == CopyPart::kTrain) {
    for (const std::string& text : training_strings(index)) append(row, text);
  } else {
    for (size_t i = row_begins_[index]; i < row_begins_[index + 1]; ++i) append(row, held_out_[i]);
  }
  if (layout_ == RowLayout::kPacked) pad(row);
  return row;
}

void CopyTask::append(Row& row, const std::string& text) const {
  const std::vector<int64_t> ids = tokenizer_.encode("$" + text + "|" + text + ".");
  row.starts.push_back(static_cast<int64_t>(row.input_ids.size()));
  row.input_ids.insert(row.input_ids.end(), ids.begin(), ids.end());
  const size_t separator = text.size() + 1;
  for (size_t i = 0; i < ids.size(); ++i) {
    row.targets.push_back(i >= separator && i + 1 < ids.size() ? ids[i + 1] : kIgnoredTarget);
  }
}

void CopyTask::pad(Row& row) const {
  const auto used = static_cast<int64_t>(row.input_ids.size());
  if (used == options_.context) return;
  row.starts.push_back(used);
  row.input_ids.resize(options_.context, CopyTokenizer::kPad);
  row.targets.resize(options_.context, kIgnoredTarget);
}

std::vector<CopyExample> CopyTask::examples(const Row& row) const {
  std::vector<CopyExample> found;
  for (const int64_t begin : row.starts) {
    if (row.input_ids[begin] != CopyTokenizer::kStart) continue;  // padding
    CopyExample example{begin, "", {}, {}};
    for (int64_t i = begin + 1; row.input_ids[i] != CopyTokenizer::kSeparator; ++i) {
      example.text += tokenizer_.token_text(row.input_ids[i]);
      example.sources.push_back(i);
    }
    const auto n = static_cast<int64_t>(example.text.size());
    for (int64_t m = 0; m < n; ++m) example.outputs.push_back(begin + n + 1 + m);
    found.push_back(std::move(example));
  }
  return found;
}

std::string CopyTask::fingerprint() const {
  return core::hash_hex(
      fmt::format("copy 1; alphabet {}; length {}..{}; context {}; held_out {}; seed {}; part {}; layout {}",
                  options_.alphabet, options_.min_length, options_.max_length, options_.context,
                  options_.held_out, seed_, static_cast<int>(part_), static_cast<int>(layout_)));
}

}  // namespace exactmamba::data
