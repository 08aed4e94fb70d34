#include "data/token_rows.h"

#include <algorithm>

#include "core/error.h"
#include "core/hash.h"
#include "data/line_reader.h"
#include "data/text_reader.h"

namespace exactmamba::data {

std::vector<int64_t> token_ids_of(const core::Json& list, const std::string& key, const std::string& where) {
  core::require(list.is_array(), "{}: '{}' is of type {}, not a list of integers", where, key,
                list.type_name());
  std::vector<int64_t> values;
  values.reserve(list.size());
  for (const core::Json& value : list) {
    // Unsigned beyond int64 would wrap around to an id that looks right.
    const bool fits =
        value.is_number_integer() && !(value.is_number_unsigned() && value.get<uint64_t>() > INT64_MAX);
    core::require(fits, "{}: '{}'[{}] is {}, not a token id", where, key, values.size(),
                  core::printable(value.dump()));
    values.push_back(value.get<int64_t>());
  }
  return values;
}

namespace {

void check_ids(const std::vector<int64_t>& ids, bool ignored_allowed, int64_t vocab_size, const char* key,
               const std::string& where) {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ignored_allowed && ids[i] == kIgnoredTarget) continue;
    core::require(ids[i] >= 0 && ids[i] < vocab_size, "{}: '{}'[{}] is {}, outside data.vocab_size = {}",
                  where, key, i, ids[i], vocab_size);
  }
}

const core::Json& ids_of(const core::Json& object, const std::string& where) {
  const auto found = object.find("input_ids");
  core::require(found != object.end(), "{}: there is no key 'input_ids'", where);
  return *found;
}

void check_labels(const std::vector<int64_t>& labels, size_t ids, const std::string& where) {
  core::require(labels.size() == ids, "{}: {} 'labels' for {} 'input_ids'", where, labels.size(), ids);
  const bool any =
      std::any_of(labels.begin() + 1, labels.end(), [](int64_t id) { return id != kIgnoredTarget; });
  core::require(any, "{}: no label after the first is a token, so there is nothing to predict", where);
}

}  // namespace

TokenRows::TokenRows(const std::vector<std::filesystem::path>& files, int64_t vocab_size, int64_t context,
                     RowLayout layout)
    : name_(file_names(files)),
      vocab_size_(vocab_size),
      context_(context),
      layout_(layout),
      ids_(vocab_size),
      example_begins_{0} {
  for (const auto& file : files) read(file);
  core::require(ids_.size() > 0, "there is no example in {}", name_);
  pack();
}

void TokenRows::read(const std::filesystem::path& file) {
  core::require(is_json_lines(file), "{}: tokens are read from .jsonl files, plain or as .gz, .xz or .zst",
                file.string());
  JsonLineReader reader(file);
  core::Json object;
  while (reader.next(object)) {
    const std::string where = reader.where();
    const std::vector<int64_t> ids = token_ids_of(ids_of(object, where), "input_ids", where);
    core::require(!ids.empty(), "{}: 'input_ids' is empty", where);
    core::require(static_cast<int64_t>(ids.size()) <= context_,
                  "{}: {} tokens do not fit into data.context = {}; raise it", where, ids.size(), context_);
    check_ids(ids, false, vocab_size_, "input_ids", where);
    const auto given = object.find("labels");
    const std::vector<int64_t> labels = given == object.end() ? ids : token_ids_of(*given, "labels", where);
    check_ids(labels, true, vocab_size_, "labels", where);
    check_labels(labels, ids.size(), where);
    append(ids, labels);
  }
}

void TokenRows::append(const std::vector<int64_t>& ids, const std::vector<int64_t>& labels) {
  ids_.append(ids);
  std::transform(labels.begin() + 1, labels.end(), std::back_inserter(targets_),
                 [](int64_t id) { return static_cast<int32_t>(id); });
  targets_.push_back(static_cast<int32_t>(kIgnoredTarget));
  example_begins_.push_back(ids_.size());
}

void TokenRows::pack() {
  const auto examples = static_cast<int64_t>(example_begins_.size()) - 1;
  row_begins_ = {0};
  for (int64_t i = 1; i < examples; ++i) {
    const bool fits = example_begins_[i + 1] - example_begins_[row_begins_.back()] <= context_;
    if (layout_ == RowLayout::kOneExample || !fits) row_begins_.push_back(i);
  }
  row_begins_.push_back(examples);
}

Row TokenRows::row(int64_t index) const {
  core::require(index >= 0 && index < size(), "row {} is outside {}, which has {} rows", index, name_,
                size());
  const int64_t begin = example_begins_[row_begins_[index]], end = example_begins_[row_begins_[index + 1]];
  Row row{ids_.slice(begin, end), {targets_.begin() + begin, targets_.begin() + end}, {}};
  for (int64_t i = row_begins_[index]; i < row_begins_[index + 1]; ++i)
    row.starts.push_back(example_begins_[i] - begin);
  return row;
}

std::string TokenRows::fingerprint() const {
  return core::hash_hex(fmt::format(
      "tokens 1; vocabulary {}; context {}; layout {}; ids {}; targets {}; examples {}", vocab_size_,
      context_, static_cast<int>(layout_), ids_.hash(), hash_of(targets_), hash_of(example_begins_)));
}

}  // namespace exactmamba::data
