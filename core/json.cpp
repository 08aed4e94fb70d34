#include "core/json.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/files.h"

namespace exactmamba::core {
namespace {

constexpr size_t kLongestQuote = 160;  // bytes of foreign text repeated in a message

/// `text` with the bare words replaced, and what is needed to find a byte of the result in the original.
struct Rewritten {
  std::string text;
  struct Growth {
    size_t begin, end;  // of the replacement, in the rewritten text
    size_t source;      // of the bare word, in the original
    size_t source_end;
  };
  std::vector<Growth> growths;

  size_t original(size_t position) const {
    size_t shift = 0;
    for (const Growth& g : growths) {
      if (position < g.begin) break;
      if (position < g.end) return g.source;
      shift = g.end - g.source_end;
    }
    return position - shift;
  }
};

bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }

/// The bare word that starts at `at`, or nothing.
std::string_view bare_word(std::string_view text, size_t at) {
  if (at > 0 && is_word(text[at - 1])) return {};
  for (std::string_view word : {"-Infinity", "Infinity", "NaN"}) {
    if (text.substr(at, word.size()) != word) continue;
    const size_t end = at + word.size();
    if (end == text.size() || !is_word(text[end])) return word;
  }
  return {};
}

Rewritten rewrite_bare_words(std::string_view text) {
  Rewritten result;
  result.text.reserve(text.size());
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string && c == '\\' && i + 1 < text.size()) {
      result.text.append(text.substr(i++, 2));
      continue;
    }
    if (c == '"') in_string = !in_string;
    const std::string_view word = in_string ? std::string_view{} : bare_word(text, i);
    if (word.empty()) {
      result.text.push_back(c);
      continue;
    }
    const size_t begin = result.text.size();
    result.text.append(R"({"__float__":")").append(word).append(R"("})");
    result.growths.push_back({begin, result.text.size(), i, i + word.size()});
    i += word.size() - 1;
  }
  return result;
}

/// An input iterator that tells the SAX handler how far the parser has read.
class CountingIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;
  CountingIterator(const char* at, size_t* count) : at_(at), count_(count) {}
  reference operator*() const { return *at_; }
  CountingIterator& operator++() {
    ++at_;
    ++*count_;
    return *this;
  }
  CountingIterator operator++(int) {
    CountingIterator before = *this;
    ++*this;
    return before;
  }
  bool operator==(const CountingIterator& other) const { return at_ == other.at_; }
  bool operator!=(const CountingIterator& other) const { return at_ != other.at_; }

 private:
  const char* at_;
  size_t* count_;
};

/// The library's message without its code and position, printable and short.
std::string plain_message(const std::string& what) {
  std::string message = what;
  if (message.starts_with("[")) message.erase(0, std::min(message.find("] "), message.size() - 2) + 2);
  if (message.starts_with("parse error at"))
    message.erase(0, std::min(message.find(": "), message.size() - 2) + 2);
  return printable(message);
}

/// The text as given, for messages, and as the parser reads it.
struct Source {
  std::string_view original;
  const std::string& where;
  std::ptrdiff_t first_line;
  Rewritten rewritten;

  [[noreturn]] void fail(size_t position, const std::string& message) const {
    const TextPosition at = text_position(original, rewritten.original(position));
    throw InputError(fmt::format("{}:{}:{}: {}", where, first_line + at.line - 1, at.column, message));
  }
};

/// Builds the value; refuses duplicate keys and depth.
class Builder {
 public:
  Builder(const Source& source, int max_depth, const size_t* consumed)
      : source_(source), max_depth_(max_depth), consumed_(consumed) {}

  Json take() { return std::move(root_); }

  bool null() { return add(nullptr); }
  bool boolean(bool value) { return add(value); }
  bool number_integer(Json::number_integer_t value) { return add(value); }
  bool number_unsigned(Json::number_unsigned_t value) { return add(value); }
  bool number_float(Json::number_float_t value, const std::string&) { return add(value); }
  bool string(std::string& value) { return add(std::move(value)); }
  bool binary(Json::binary_t&) { return false; }  // not in JSON text
  bool start_object(size_t) { return open(Json::object()); }
  bool start_array(size_t) { return open(Json::array()); }
  bool end_object() { return close(); }
  bool end_array() { return close(); }

  bool key(std::string& name) {
    Level& level = levels_.back();
    if (!level.keys.insert(name).second) {
      source_.fail(key_begin(), fmt::format("the key '{}' is given twice in one object", printable(name)));
    }
    level.pending = std::move(name);
    return true;
  }

  bool parse_error(size_t position, const std::string&, const nlohmann::json::exception& error) {
    source_.fail(position == 0 ? 0 : position - 1, plain_message(error.what()));
  }

 private:
  struct Level {
    Json* container;
    std::set<std::string> keys;
    std::string pending;
  };

  Json* place(Json&& value) {
    if (levels_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Level& level = levels_.back();
    if (level.container->is_array()) {
      level.container->push_back(std::move(value));
      return &level.container->back();
    }
    // ordered_map::emplace looks through all keys, which `keys` has already done.
    auto& members = level.container->get_ref<Json::object_t&>();
    members.Json::object_t::Container::emplace_back(std::move(level.pending), std::move(value));
    return &members.back().second;
  }
  bool add(Json value) {
    place(std::move(value));
    return true;
  }
  bool open(Json container) {
    if (levels_.size() >= static_cast<size_t>(max_depth_)) {
      source_.fail(*consumed_ - 1, fmt::format("nested deeper than {} levels", max_depth_));
    }
    levels_.push_back({place(std::move(container)), {}, {}});
    return true;
  }
  bool close() {
    levels_.pop_back();
    return true;
  }

  /// Byte of the opening quote of the key that was just read.
  size_t key_begin() const {
    size_t quote = *consumed_ - 1;
    const auto escaped = [&](size_t at) {
      size_t slashes = 0;
      while (slashes < at && source_.rewritten.text[at - 1 - slashes] == '\\') ++slashes;
      return slashes % 2 == 1;
    };
    do {
      quote = source_.rewritten.text.rfind('"', quote - 1);
    } while (escaped(quote));
    return quote;
  }

  const Source& source_;
  int max_depth_;
  const size_t* consumed_;
  Json root_;
  std::vector<Level> levels_;
};

bool has_non_finite(const Json& value) {
  if (value.is_structured()) return std::any_of(value.begin(), value.end(), has_non_finite);
  return value.is_number_float() && !std::isfinite(value.get<double>());
}

Json spell_non_finite(const Json& value) {
  if (value.is_structured()) {
    Json copy = value;
    for (Json& item : copy) item = spell_non_finite(item);
    return copy;
  }
  if (!has_non_finite(value)) return value;
  const double number = value.get<double>();
  return {{"__float__", std::isnan(number) ? "NaN" : number > 0 ? "Infinity" : "-Infinity"}};
}

}  // namespace

TextPosition text_position(std::string_view text, size_t byte) {
  const std::string_view before = text.substr(0, std::min(byte, text.size()));
  const size_t line_begin = before.rfind('\n') == std::string_view::npos ? 0 : before.rfind('\n') + 1;
  const auto starts_character = [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; };
  return {std::count(before.begin(), before.end(), '\n') + 1,
          std::count_if(before.begin() + static_cast<std::ptrdiff_t>(line_begin), before.end(),
                        starts_character) +
              1};
}

std::string printable(std::string_view text) {
  std::string result;
  for (const char c : text.substr(0, kLongestQuote)) {
    if (c >= 0x20 && c < 0x7F) {
      result.push_back(c);
    } else {
      result += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
  }
  return text.size() > kLongestQuote ? result + "…" : result;
}

Json parse_json(std::string_view text, const std::string& where, int max_depth, std::ptrdiff_t first_line,
                BareWords bare_words) {
  const bool read = bare_words == BareWords::kRead;
  const Source source{text, where, first_line,
                      read ? rewrite_bare_words(text) : Rewritten{std::string(text), {}}};
  const size_t zero = source.rewritten.text.find('\0');  // the library would take it for the end
  if (zero != std::string::npos) source.fail(zero, "a zero byte");
  size_t consumed = 0;
  Builder builder(source, max_depth, &consumed);
  const char* begin = source.rewritten.text.data();
  const char* end = begin + source.rewritten.text.size();
  Json::sax_parse(CountingIterator(begin, &consumed), CountingIterator(end, &consumed), &builder);
  return builder.take();
}

Json read_json(const std::filesystem::path& file) { return parse_json(read_file(file), file.string()); }

std::string json_text(const Json& value, int indent) {
  try {
    return has_non_finite(value) ? spell_non_finite(value).dump(indent) : value.dump(indent);
  } catch (const nlohmann::json::exception& error) {
    throw InputError("cannot write JSON: " + plain_message(error.what()));
  }
}

void write_json(const std::filesystem::path& file, const Json& value) {
  write_file(file, json_text(value, 2) + "\n");
}

double json_number(const Json& value, const std::string& where) {
  if (value.is_number()) return value.get<double>();
  const bool spelled =
      value.is_object() && value.size() == 1 && value.contains("__float__") && value["__float__"].is_string();
  const std::string word = spelled ? value["__float__"].get<std::string>() : "";
  if (word == "Infinity") return std::numeric_limits<double>::infinity();
  if (word == "-Infinity") return -std::numeric_limits<double>::infinity();
  if (word == "NaN") return std::numeric_limits<double>::quiet_NaN();
  throw InputError(fmt::format("{}: expected a number, found {}", where, printable(json_text(value))));
}

}  // namespace exactmamba::core
