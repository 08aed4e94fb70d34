#include "core/schema.h"

#include <algorithm>
#include <cmath>
#include <map>

#include <fmt/format.h>

#include "core/error.h"
#include "core/nearest.h"
#include "core/toml.h"

namespace exactmamba::core {
namespace {

Json json_value(bool value) { return value; }
Json json_value(int64_t value) { return value; }
Json json_value(const std::string& value) { return value; }
Json json_value(double value) {
  if (std::isfinite(value)) return value;
  return Json{{"__float__", std::isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity"}};
}
template <class T>
Json json_value(const std::vector<T>& values) {
  Json list = Json::array();
  for (const T& value : values) list.push_back(json_value(value));
  return list;
}

const char* name_of(const bool*) { return "boolean"; }
const char* name_of(const int64_t*) { return "integer"; }
const char* name_of(const double*) { return "number"; }
const char* name_of(const std::string*) { return "string"; }
const char* name_of(const std::vector<int64_t>*) { return "list of integers"; }
const char* name_of(const std::vector<double>*) { return "list of numbers"; }
const char* name_of(const std::vector<std::string>*) { return "list of strings"; }

bool read(const TomlNode& node, bool& value) {
  value = node.boolean;
  return node.kind == TomlNode::Kind::kBool;
}
bool read(const TomlNode& node, int64_t& value) {
  value = node.integer;
  return node.kind == TomlNode::Kind::kInteger;
}
bool read(const TomlNode& node, double& value) {
  const bool integer = node.kind == TomlNode::Kind::kInteger;
  value = integer ? static_cast<double>(node.integer) : node.real;
  return integer || node.kind == TomlNode::Kind::kReal;
}
bool read(const TomlNode& node, std::string& value) {
  value = node.text;
  return node.kind == TomlNode::Kind::kString;
}
template <class T>
bool read(const TomlNode& node, std::vector<T>& values) {
  for (const TomlNode& item : node.items) {
    T value{};
    if (!read(item, value)) return false;
    values.push_back(std::move(value));
  }
  return node.kind == TomlNode::Kind::kList;
}

TomlNode list_of(const TomlNode& node) {
  TomlNode list;
  list.kind = TomlNode::Kind::kList;
  list.items = {node};
  return list;
}

/// What stands in the file, for a message about a wrong type.
std::string described(const TomlNode& node) {
  if (node.kind == TomlNode::Kind::kTable) return "a table";
  return fmt::format("{} ({})", node.type_name(), toml_text(node));
}

std::string with_article(const std::string& noun) { return (noun[0] == 'i' ? "an " : "a ") + noun; }

/// Of a choice that looks like a number. A shell takes quotes away unless there are others around them.
std::string quotes_advice(const std::string& key, const std::string& word,
                          const std::vector<std::string>& choices, const Origin& origin) {
  if (std::find(choices.begin(), choices.end(), word) == choices.end()) return "";
  return origin.starts_with(kCommandLine) ? fmt::format("; write --set '{}=\"{}\"'", key, word)
                                          : fmt::format("; write it in quotes: \"{}\"", word);
}

/// Of one value where a list of such is wanted.
std::string list_advice(const std::string& key, const TomlNode& node, const Origin& origin) {
  const std::string list = "[" + toml_text(node) + "]";
  return origin.starts_with(kCommandLine) ? fmt::format("; write --set '{}={}'", key, list)
                                          : "; write " + list;
}

std::string last_part(const std::string& key) { return key.substr(key.rfind('.') + 1); }

std::string did_you_mean(const std::string& word) {
  return word.empty() ? "" : fmt::format("; did you mean '{}'?", word);
}

}  // namespace

Json Option::value() const {
  return std::visit([](const auto* target) { return json_value(*target); }, target_);
}

std::string Option::type_name() const {
  return std::visit([](const auto* target) { return std::string(name_of(target)); }, target_);
}

std::string Option::word() const {
  const auto* string = std::get_if<std::string*>(&target_);
  return string != nullptr ? **string : text();
}

bool Option::satisfies(const Condition& condition) const {
  const std::string value = word();
  const bool empty = value.empty() || value == "[]";
  if (condition.empty || condition.values.empty()) return empty == condition.empty;
  return std::find(condition.values.begin(), condition.values.end(), value) != condition.values.end();
}

std::string Option::check_number(double value) const {
  if (std::isnan(value)) return "is not a number";
  if ((low_ && value < *low_) || (high_ && value > *high_)) return "is out of range; allowed: " + allowed();
  return "";
}

std::string Option::check_choice(const std::string& value) const {
  if (choices_.empty() || std::find(choices_.begin(), choices_.end(), value) != choices_.end()) return "";
  return "is not one of: " + allowed();
}

std::string Option::check(const TomlNode& scalar) const {
  double number = 0;
  if (read(scalar, number)) return check_number(number);
  return scalar.kind == TomlNode::Kind::kString ? check_choice(scalar.text) : "";
}

std::string Option::assign(const TomlNode& node, const Origin& origin) {
  const auto set = [&](auto* target) -> std::string {
    std::decay_t<decltype(*target)> value{};
    const bool fits = read(node, value);
    if (!fits && !node.range_problem.empty())
      return fmt::format("takes {}, and {}", with_article(type_name()), node.range_problem);
    if (!fits)
      return fmt::format(
          "takes {}, not {}{}{}", with_article(type_name()), described(node),
          choices_.empty() ? "" : fmt::format(": one of \"{}\"", fmt::join(choices_, "\", \"")),
          read(list_of(node), value) ? list_advice(key_, node, origin)
                                     : quotes_advice(key_, toml_text(node), choices_, origin));
    if (const std::string problem = check(node); !problem.empty())
      return fmt::format("= {} {}", toml_text(node), problem);
    for (const TomlNode& item : node.items) {
      if (const std::string problem = check(item); !problem.empty())
        return fmt::format("element {} {}", toml_text(item), problem);
    }
    *target = std::move(value);
    if (is_set()) replaced_ = origin_;
    origin_ = origin;
    taken_out_ = false;
    return "";
  };
  return std::visit(set, target_);
}

void Option::unset(const Origin& origin) {
  if (is_set()) replaced_ = origin_;
  origin_ = origin;
  taken_out_ = true;
  undecided_ = false;
  restore_();
}

Option& Schema::option(std::string key, Option::Target target) {
  require(find(key) == nullptr, "option '{}' is declared twice", key);
  Option& option = options_.emplace_back();
  option.key_ = std::move(key);
  option.target_ = target;
  option.default_ = option.value();
  option.restore_ = std::visit(
      [](auto* member) -> std::function<void()> { return [member, value = *member] { *member = value; }; },
      target);
  return option;
}

void Schema::table(std::string name, std::string help) {
  tables_.emplace_back(std::move(name), std::move(help));
}

void Schema::rule(std::vector<std::string> keys, std::function<std::string()> check) {
  for (const std::string& key : keys) at(key);
  rules_.emplace_back(std::move(keys), std::move(check));
}

Option* Schema::find(const std::string& key) {
  for (Option& option : options_) {
    if (option.key_ == key) return &option;
  }
  return nullptr;
}

const Option& Schema::at(const std::string& key) const {
  for (const Option& option : options_) {
    if (option.key_ == key) return option;
  }
  throw InputError(fmt::format("there is no option '{}'", key));
}

const Option::Condition* Schema::unmet(const Option& option) const {
  for (const Option::Condition& condition : option.conditions_) {
    const Option& other = at(condition.key);
    if (unmet(other) == nullptr && !other.satisfies(condition)) return &condition;
  }
  return nullptr;
}

std::vector<Schema::Unused> Schema::unused() const {
  std::vector<Unused> result;
  for (const Option& option : options_) {
    const Option::Condition* condition = option.is_set() && !option.undecided_ ? unmet(option) : nullptr;
    if (condition == nullptr || at(condition->key).undecided_) continue;
    const Option& other = at(condition->key);
    result.push_back(
        {option.key_, option.origin_,
         fmt::format("{}: '{}' = {} has a meaning only {}, but {} = {} ({}); remove it, or change {}",
                     option.origin_, option.key_, option.text(), condition_text(*condition), other.key_,
                     other.text(), other.origin_text(), other.key_)});
  }
  return result;
}

bool Schema::has_table(const std::string& name) const {
  return std::any_of(options_.begin(), options_.end(),
                     [&](const Option& option) { return option.key_.rfind(name + ".", 0) == 0; });
}

std::vector<std::string> Schema::table_names() const {
  std::vector<std::string> names;
  for (const Option& option : options_) {
    for (size_t dot = option.key_.find('.'); dot != std::string::npos; dot = option.key_.find('.', dot + 1))
      names.push_back(option.key_.substr(0, dot));
  }
  return names;
}

std::string Schema::unknown_table(const std::string& name) const {
  return fmt::format("unknown table '{}'{}", name, did_you_mean(nearest_word(name, table_names())));
}

std::string Schema::unknown_key(const std::string& key) const {
  std::vector<std::string> candidates;
  for (const Option& option : options_) candidates.push_back(option.key_);
  std::string near = nearest_word(key, candidates);
  for (const Option& option : options_) {  // the right name in the wrong table
    if (near.empty() && last_part(option.key_) == last_part(key)) near = option.key_;
  }
  const size_t dot = key.rfind('.');
  if (near.empty() && dot != std::string::npos && !has_table(key.substr(0, dot)))
    return unknown_table(key.substr(0, dot));
  if (near.empty() && dot == std::string::npos) near = nearest_word(key, table_names());
  return fmt::format("unknown key '{}'{}", key, did_you_mean(near));
}

Json Schema::canonical(const std::vector<std::string>& tables) const {
  std::map<std::string, Json> values;  // sorted by key
  for (const Option& option : options_) {
    const bool wanted = std::any_of(tables.begin(), tables.end(), [&](const std::string& table) {
      return option.key_ == table || option.key_.starts_with(table + ".");
    });
    if (wanted && !option.cosmetic_ && unmet(option) == nullptr) values[option.key_] = option.value();
  }
  Json result = Json::object();
  for (auto& [key, value] : values) result[key] = std::move(value);
  return result;
}

}  // namespace exactmamba::core
