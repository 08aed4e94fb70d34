#include "data/text_reader.h"

#include "core/error.h"
#include "data/line_reader.h"

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
  core::require(found != object.end(), "{}: there is no key '{}' but {}; set data.text_key", where, key,
                key_names(object));
  core::require(found->is_string(), "{}: the value of '{}' is of type {}, not a string", where, key,
                found->type_name());
  return found->get_ref<const std::string&>();
}

void read_json_lines(const std::filesystem::path& file, const std::string& key,
                     const std::function<void(const std::string&)>& take) {
  JsonLineReader reader(file);
  core::Json object;
  while (reader.next(object)) take(text_of(object, key, reader.where()));
}

void read_plain_text(const std::filesystem::path& file, const std::function<void(const std::string&)>& take) {
  LineReader reader(file);
  std::string line, text;
  while (reader.next(line)) {
    text += line;
    if (reader.line_ended()) text.push_back('\n');
  }
  take(text);
}

}  // namespace

void read_documents(const std::filesystem::path& file, const std::string& key,
                    const std::function<void(const std::string& text)>& take) {
  const std::string ending = uncompressed_name(file).extension().string();
  if (is_json_lines(file)) return read_json_lines(file, key, take);
  if (ending == ".txt" || ending == ".text") return read_plain_text(file, take);
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
