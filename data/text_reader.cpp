#include "data/text_reader.h"

#include "core/error.h"
#include "data/parquet_text.h"

namespace exactmamba::data {
namespace {

const std::string& text_of(const core::Json& object, const std::string& key, const std::string& where) {
  const auto found = object.find(key);
  core::require<BadRecord>(
      found != object.end(),
      "{}: there is no key '{}' but {}; name the one with the text (data.text_key, --text-key)", where, key,
      key_names(object));
  core::require<BadRecord>(found->is_string(), "{}: the value of '{}' is of type {}, not a string", where,
                           key, found->type_name());
  return found->get_ref<const std::string&>();
}

void read_json_lines(const std::filesystem::path& file, const std::string& key, const Tolerance& tolerance,
                     const TakeText& take) {
  JsonLineReader reader(file, tolerance.on_invalid_utf8);
  core::Json object;
  bool more = true;
  const auto read_one = [&] {
    more = reader.next(object);
    if (more) take(text_of(object, key, reader.where()), reader.where());
  };
  while (more) tolerance.attempt(read_one);
}

void read_lines(const std::filesystem::path& file, const Tolerance& tolerance, const TakeText& take) {
  LineReader reader(file, tolerance.on_invalid_utf8);
  std::string line;
  bool more = true;
  const auto read_one = [&] {
    more = reader.next(line);
    if (more) take(line, reader.where());
  };
  while (more) tolerance.attempt(read_one);
}

void read_plain_text(const std::filesystem::path& file, OnInvalidUtf8 on_invalid, const TakeText& take) {
  LineReader reader(file, on_invalid);
  std::string line, text;
  while (reader.next(line)) {
    text += line;
    if (reader.line_ended()) text.push_back('\n');
  }
  take(text, reader.file());
}

bool is_parquet(const std::filesystem::path& file) { return file.extension() == ".parquet"; }

}  // namespace

std::string key_names(const core::Json& object) {
  constexpr size_t kMost = 8;
  std::string names;
  size_t count = 0;
  for (const auto& item : object.items()) {
    if (count++ == kMost) return names + ", …";
    names += (names.empty() ? "'" : ", '") + core::printable(item.key()) + "'";
  }
  return names.empty() ? "no keys at all" : names;
}

void read_texts(const std::filesystem::path& file, const std::string& key, const Tolerance& tolerance,
                const TakeText& take) {
  if (is_json_lines(file)) return read_json_lines(file, key, tolerance, take);
  if (is_parquet(file)) return read_parquet(file, key, tolerance, take);
  read_lines(file, tolerance, take);
}

void read_documents(const std::filesystem::path& file, const std::string& key, const Tolerance& tolerance,
                    const TakeText& take) {
  if (is_json_lines(file)) return read_json_lines(file, key, tolerance, take);
  if (is_parquet(file)) return read_parquet(file, key, tolerance, take);
  core::require(is_plain_text(file),
                "{}: files ending in '{}' are not read; give text as .jsonl or .txt, plain or as .gz, .xz or "
                ".zst, or as .parquet",
                file.string(), uncompressed_name(file).extension().string());
  tolerance.attempt([&] { read_plain_text(file, tolerance.on_invalid_utf8, take); });
}

bool is_plain_text(const std::filesystem::path& file) {
  const std::filesystem::path ending = uncompressed_name(file).extension();
  return ending == ".txt" || ending == ".text";
}

std::string file_names(const std::vector<std::filesystem::path>& files) {
  if (files.empty()) return "an empty list of files";
  if (files.size() == 1) return files.front().string();
  return fmt::format("{} and {} more", files.front().string(), files.size() - 1);
}

}  // namespace exactmamba::data
