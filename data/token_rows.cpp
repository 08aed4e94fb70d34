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

/// As trainers for Python name them, or as exactmamba tokenize does.
const char* key_of_ids(const core::Json& object, const std::string& where) {
  for (const char* key : {"input_ids", "ids"})
    if (object.contains(key)) return key;
  throw core::InputError(
      fmt::format("{}: there is no key 'input_ids' or 'ids' but {}", where, key_names(object)));
}

void check_labels(const std::vector<int64_t>& labels, size_t ids, const std::string& where) {
  core::require(labels.size() == ids, "{}: {} 'labels' for {} 'input_ids'", where, labels.size(), ids);
  const bool any =
      std::any_of(labels.begin() + 1, labels.end(), [](int64_t id) { return id != kIgnoredTarget; });
  core::require(any, "{}: no label after the first is a token, so there is nothing to predict", where);
}

/// Labels are aligned with the ids, targets one position earlier.
std::vector<int64_t> shifted(const std::vector<int64_t>& labels) {
  std::vector<int64_t> targets(labels.begin() + 1, labels.end());
  targets.push_back(kIgnoredTarget);
  return targets;
}

/// Calls `take` with the ids and targets of every example of a file.
template <class Take>
void read_examples(const std::filesystem::path& file, int64_t vocab_size, int64_t context, const Take& take) {
  core::require(is_json_lines(file), "{}: tokens are read from .jsonl files, plain or as .gz, .xz or .zst",
                file.string());
  JsonLineReader reader(file);
  core::Json object;
  while (reader.next(object)) {
    const std::string where = reader.where();
    const char* const key = key_of_ids(object, where);
    const std::vector<int64_t> ids = token_ids_of(object.at(key), key, where);
    core::require(!ids.empty(), "{}: '{}' is empty", where, key);
    core::require(static_cast<int64_t>(ids.size()) <= context,
                  "{}: {} tokens do not fit into data.context = {}; raise it", where, ids.size(), context);
    check_ids(ids, false, vocab_size, key, where);
    const auto given = object.find("labels");
    const std::vector<int64_t> labels = given == object.end() ? ids : token_ids_of(*given, "labels", where);
    check_ids(labels, true, vocab_size, "labels", where);
    check_labels(labels, ids.size(), where);
    take(ids, shifted(labels));
  }
}

void require_example(bool any, const std::vector<std::filesystem::path>& files) {
  core::require(any, "there is no example in {}", file_names(files));
}

}  // namespace

void check_examples(const std::vector<std::filesystem::path>& files, int64_t vocab_size, int64_t context) {
  bool any = false;
  for (const auto& file : files)
    read_examples(file, vocab_size, context, [&any](const auto&, const auto&) { any = true; });
  require_example(any, files);
}

TokenRows::TokenRows(const std::vector<std::filesystem::path>& files, int64_t vocab_size, int64_t context,
                     RowLayout layout)
    : name_(file_names(files)), rows_(vocab_size, context, layout) {
  for (const auto& file : files)
    read_examples(file, vocab_size, context,
                  [this](const auto& ids, const auto& targets) { rows_.append(ids, targets); });
  require_example(!rows_.empty(), files);
  rows_.pack();
}

std::string TokenRows::fingerprint() const { return core::hash_hex("tokens 1; " + rows_.identity()); }

}  // namespace exactmamba::data
