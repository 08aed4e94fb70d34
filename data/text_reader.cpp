#include "data/text_reader.h"

#include "core/error.h"

namespace exactmamba::data {
namespace {

constexpr size_t kMostKeysNamed = 8;

std::string key_names(const core::Json& object) {
  std::string names;
  size_t count = 0;
  for (const auto& item : object.items()) {
    if (count++ == kMostKeysNamed) return names + ", …";
    names += (names.empty() ? "'" : ", '") + core::printable(item.key()) + "'";
  }
  return names.empty() ? "no keys at all" : names;
}

const std::string& text_of(const core::Json& object, const std::string& key, const std::string& where) {
  const auto found = object.find(key);
  core::require(found != object.end(),
                "{}: there is no key '{}' but {}; name the one with the text (data.text_key, --text-key)",
                where, key, key_names(object));
  core::require(found->is_string(), "{}: the value of '{}' is of type {}, not a string", where, key,
                found->type_name());
  return found->get_ref<const std::string&>();
}

using Take = std::function<void(const std::string& text, const std::string& where)>;

void read_json_lines(const std::filesystem::path& file, const std::string& key, OnInvalidUtf8 on_invalid,
                     const Take& take) {
  JsonLineReader reader(file, on_invalid);
  core::Json object;
  while (reader.next(object)) take(text_of(object, key, reader.where()), reader.where());
}

void read_plain_text(const std::filesystem::path& file, OnInvalidUtf8 on_invalid, const Take& take) {
  LineReader reader(file, on_invalid);
  std::string line, text;
  while (reader.next(line)) {
    text += line;
    if (reader.line_ended()) text.push_back('\n');
  }
  take(text, reader.file());
}

}  // namespace

void read_texts(const std::filesystem::path& file, const std::string& key, OnInvalidUtf8 on_invalid,
                const Take& take) {
  if (is_json_lines(file)) return read_json_lines(file, key, on_invalid, take);
  LineReader reader(file, on_invalid);
  std::string line;
  while (reader.next(line)) take(line, reader.where());
}

void read_documents(const std::filesystem::path& file, const std::string& key, OnInvalidUtf8 on_invalid,
                    const Take& take) {
  const std::string ending = uncompressed_name(file).extension().string();
  if (is_json_lines(file)) return read_json_lines(file, key, on_invalid, take);
  if (ending == ".txt" || ending == ".text") return read_plain_text(file, on_invalid, take);
  throw core::InputError(fmt::format(
      "{}: files ending in '{}' are not read; give text as .jsonl or .txt, plain or as .gz or .xz",
      file.string(), ending));
}

std::string file_names(const std::vector<std::filesystem::path>& files) {
  if (files.empty()) return "an empty list of files";
  if (files.size() == 1) return files.front().string();
  return fmt::format("{} and {} more", files.front().string(), files.size() - 1);
}

}  // namespace exactmamba::data
