// How a schema shows itself: effective values and the reference page.
#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/schema.h"
#include "core/toml.h"

namespace exactmamba::core {
namespace {

std::string text_of(const Json& value) {
  if (value.is_string()) return toml_text(value.get<std::string>());
  if (value.is_number_float()) return toml_text(value.get<double>());
  if (value.is_object()) return toml_text(json_number(value, "option"));
  if (!value.is_array()) return value.dump();
  std::string list;
  for (const Json& item : value) list += (list.empty() ? "" : ", ") + text_of(item);
  return fmt::format("[{}]", list);
}

std::string escaped_for_table(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (c == '|') result += '\\';
    result += c;
  }
  return result;
}

}  // namespace

std::string Option::text() const { return text_of(value()); }

std::string Option::origin_text() const { return taken_out_ ? "default, by " + origin_ : origin_; }

std::string Option::allowed() const {
  if (!choices_.empty()) return fmt::format("{}", fmt::join(choices_, ", "));
  if (low_ && high_) return fmt::format("{} to {}", *low_, *high_);
  return "";
}

std::string Schema::condition_text(const Option::Condition& condition) const {
  if (condition.values.empty()) return (condition.empty ? "without " : "with ") + condition.key;
  std::vector<std::string> values = condition.values;
  if (at(condition.key).type_name() == "string") {
    for (std::string& value : values) value = toml_text(value);
  }
  return fmt::format("with {} = {}", condition.key, fmt::join(values, " or "));
}

std::string Schema::table_of(const std::string& key) const {
  std::string best = key.substr(0, key.rfind('.'));
  size_t length = 0;
  for (const auto& [name, help] : tables_) {
    if (key.rfind(name + ".", 0) == 0 && name.size() > length) {
      best = name;
      length = name.size();
    }
  }
  return best;
}

/// " Only with a = "b" and without c."
std::string Schema::all_conditions_text(const Option& option) const {
  if (!option.conditions_help_.empty()) return " " + option.conditions_help_;
  std::vector<std::string> texts;
  for (const Option::Condition& condition : option.conditions_) texts.push_back(condition_text(condition));
  return texts.empty() ? "" : fmt::format(" Only {}.", fmt::join(texts, " and "));
}

/// A list of files is longer than a line; the origins of the others stand below each other all the same.
constexpr size_t kAlignedWidth = 80;

std::string Schema::listing() const {
  std::vector<std::string> assignments;
  size_t width = 0;
  for (const Option& option : options_) {
    assignments.push_back((applies(option.key_) ? "" : "# ") + option.key_ + " = " + option.text());
    if (assignments.back().size() <= kAlignedWidth) width = std::max(width, assignments.back().size());
  }
  std::string result;
  for (size_t i = 0; i < options_.size(); ++i) {
    const Option& option = options_[i];
    const Option::Condition* condition = unmet(option);
    result += fmt::format("{:<{}}  # {}{}{}\n", assignments[i], width, option.origin_text(),
                          option.replaced_.empty() ? "" : ", replaces " + option.replaced_,
                          condition == nullptr ? "" : ", has a meaning only " + condition_text(*condition));
  }
  return result;
}

std::string Schema::reference_markdown() const {
  std::vector<std::pair<std::string, std::string>> tables = tables_;
  for (const Option& option : options_) {
    const std::string table = table_of(option.key_);
    const auto same = [&](const auto& known) { return known.first == table; };
    if (std::none_of(tables.begin(), tables.end(), same)) tables.emplace_back(table, "");
  }
  std::string page;
  for (const auto& [table, help] : tables) {
    page += fmt::format("## [{}]\n\n{}{}", table, help, help.empty() ? "" : "\n\n");
    page += "| key | type | unit | allowed | default | |\n|---|---|---|---|---|---|\n";
    for (const Option& option : options_) {
      if (table_of(option.key_) != table) continue;
      const std::string standard =
          option.required_ ? "required" : fmt::format("`{}`", text_of(option.default_));
      page += fmt::format("| `{}` | {} | {} | {} | {} | {} |\n", option.key_.substr(table.size() + 1),
                          option.type_name(), option.unit_, escaped_for_table(option.allowed()), standard,
                          escaped_for_table(option.help_ + all_conditions_text(option)));
    }
    page += "\n";
  }
  return page;
}

}  // namespace exactmamba::core
