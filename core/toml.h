// TOML text as a plain tree with positions. toml++ parses; only toml.cpp sees its header, which is slow to
// compile.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace exactmamba::core {

/// Line and column, both from 1.
struct TomlPosition {
  uint32_t line = 0, column = 0;
  friend bool operator<(const TomlPosition& a, const TomlPosition& b) {
    return a.line != b.line ? a.line < b.line : a.column < b.column;
  }
};

struct TomlMember;

struct TomlNode {
  enum class Kind { kBool, kInteger, kReal, kString, kTime, kList, kTable };
  Kind kind = Kind::kTable;
  TomlPosition position;  // of the value
  bool boolean = false;
  int64_t integer = 0;
  double real = 0;
  std::string text;                 // kString; kTime as written in ISO 8601
  std::string range_problem;        // of a bare word: why it is no number, though it is written as one
  std::vector<TomlNode> items;      // kList
  std::vector<TomlMember> members;  // kTable, in the order of the text

  const TomlNode* find(std::string_view key) const;  // [nullable]; a member of this table
  std::string type_name() const;                     // "an integer", "a table", …
};

struct TomlMember {
  std::string key;
  TomlPosition position;  // of the key
  TomlNode node;
};

/// The root table. `where` (a file name) leads the message of a syntax error. Refused: more than 16 nested
/// lists or tables in a value and keys of more than 16 parts. @throws InputError "recipe.toml:3:7: …"
TomlNode parse_toml(std::string_view text, const std::string& where);

/// The text as one TOML value; what is no value and starts like a bare word is a string. @throws InputError
TomlNode parse_toml_value(const std::string& text);

/// "recipe.toml:3:7"
std::string toml_place(const std::string& where, TomlPosition position);

/// A scalar or a list of scalars as TOML text that parses to the same value: strings quoted, other values as
/// written by us.
std::string toml_text(const TomlNode& node);
std::string toml_text(const std::string& text);
std::string toml_text(double value);

}  // namespace exactmamba::core
