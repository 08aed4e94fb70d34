#include "core/toml.h"

#include <algorithm>
#include <cmath>
#include <sstream>

#include <fmt/format.h>

#include "core/error.h"

#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 0
#define TOML_MAX_NESTED_VALUES 16
#include <toml++/toml.h>

namespace exactmamba::core {
namespace {

constexpr int kMaxKeyParts = 16;

TomlPosition begin_of(const toml::source_region& region) { return {region.begin.line, region.begin.column}; }

template <class T>
std::string printed(const T& value) {
  std::ostringstream out;
  out << value;
  return out.str();
}

TomlNode converted(const toml::node& node, const std::string& where, int depth);

std::vector<TomlMember> members_of(const toml::table& table, const std::string& where, int depth) {
  std::vector<TomlMember> members;
  for (const auto& [key, node] : table) {
    const TomlPosition position = begin_of(key.source());
    require(depth < kMaxKeyParts, "{}: keys may have at most {} parts", toml_place(where, position),
            kMaxKeyParts);
    members.push_back({std::string(key.str()), position, converted(node, where, depth + 1)});
  }
  std::stable_sort(members.begin(), members.end(),
                   [](const TomlMember& a, const TomlMember& b) { return a.position < b.position; });
  return members;
}

TomlNode converted(const toml::node& node, const std::string& where, int depth) {
  TomlNode result;
  result.position = begin_of(node.source());
  switch (node.type()) {
    case toml::node_type::boolean:
      result.kind = TomlNode::Kind::kBool;
      result.boolean = **node.as_boolean();
      break;
    case toml::node_type::integer:
      result.kind = TomlNode::Kind::kInteger;
      result.integer = **node.as_integer();
      break;
    case toml::node_type::floating_point:
      result.kind = TomlNode::Kind::kReal;
      result.real = **node.as_floating_point();
      break;
    case toml::node_type::string:
      result.kind = TomlNode::Kind::kString;
      result.text = **node.as_string();
      break;
    case toml::node_type::date:
      result.text = printed(**node.as_date());
      break;
    case toml::node_type::time:
      result.text = printed(**node.as_time());
      break;
    case toml::node_type::date_time:
      result.text = printed(**node.as_date_time());
      break;
    case toml::node_type::array:
      result.kind = TomlNode::Kind::kList;
      for (const toml::node& item : *node.as_array())
        result.items.push_back(converted(item, where, depth + 1));
      break;
    default:
      result.kind = TomlNode::Kind::kTable;
      result.members = members_of(*node.as_table(), where, depth);
  }
  const bool time = node.is_date() || node.is_time() || node.is_date_time();
  if (time) result.kind = TomlNode::Kind::kTime;
  return result;
}

/// toml++ builds and destroys tables recursively, one level for every part of a dotted key: what could nest
/// deeply is refused before.
void refuse_long_keys(std::string_view text, const std::string& where) {
  uint32_t line = 1, parts = 0;
  char quote = 0;
  for (const char c : text) {
    if (c == '\n') {
      ++line;
      parts = 0;
      quote = 0;
    } else if (quote != 0) {
      if (c == quote) quote = 0;
    } else if (c == '"' || c == '\'') {
      quote = c;
    } else if (c == '.') {
      ++parts;
    } else if (c == '#') {
      quote = '\n';
    } else if (c == ',' || c == '=') {
      parts = 0;
    }
    require(parts < 64, "{}:{}:1: keys may have at most {} parts", where, line, kMaxKeyParts);
  }
}

}  // namespace

const TomlNode* TomlNode::find(std::string_view key) const {
  for (const TomlMember& member : members) {
    if (member.key == key) return &member.node;
  }
  return nullptr;
}

std::string TomlNode::type_name() const {
  switch (kind) {
    case Kind::kBool:
      return "a boolean";
    case Kind::kInteger:
      return "an integer";
    case Kind::kReal:
      return "a number";
    case Kind::kString:
      return "a string";
    case Kind::kTime:
      return "a date or time";
    case Kind::kList:
      return "a list";
    case Kind::kTable:
      return "a table";
  }
  return "";
}

TomlNode parse_toml(std::string_view text, const std::string& where) {
  refuse_long_keys(text, where);
  const toml::parse_result result = toml::parse(text);
  if (!result) {
    const toml::parse_error& error = result.error();
    throw InputError(fmt::format("{}: {}", toml_place(where, begin_of(error.source())), error.description()));
  }
  TomlNode root;
  root.members = members_of(result.table(), where, 0);
  return root;
}

TomlNode parse_toml_value(const std::string& text) {
  try {
    TomlNode root = parse_toml("value = " + text, "value");
    if (root.members.size() == 1) return std::move(root.members[0].node);
  } catch (const InputError&) {
    if (text.find_first_of("\"'[{") == 0) throw InputError(fmt::format("{} is not a TOML value", text));
  }
  TomlNode word;
  word.kind = TomlNode::Kind::kString;
  word.text = text;
  return word;
}

std::string toml_place(const std::string& where, TomlPosition position) {
  return fmt::format("{}:{}:{}", where, position.line, position.column);
}

std::string toml_text(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      quoted += fmt::format("\\u{:04X}", static_cast<unsigned>(c));
    } else {
      quoted += c;
    }
  }
  return quoted + '"';
}

std::string toml_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  std::string text = fmt::format("{}", value);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

std::string toml_text(const TomlNode& node) {
  switch (node.kind) {
    case TomlNode::Kind::kBool:
      return node.boolean ? "true" : "false";
    case TomlNode::Kind::kInteger:
      return std::to_string(node.integer);
    case TomlNode::Kind::kReal:
      return toml_text(node.real);
    case TomlNode::Kind::kString:
      return toml_text(node.text);
    case TomlNode::Kind::kTime:
      return node.text;
    case TomlNode::Kind::kList: {
      std::string list;
      for (const TomlNode& item : node.items) list += (list.empty() ? "" : ", ") + toml_text(item);
      return fmt::format("[{}]", list);
    }
    case TomlNode::Kind::kTable:
      break;
  }
  return "";
}

}  // namespace exactmamba::core
