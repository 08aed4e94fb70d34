// Schema::load and what it calls: TOML, assignments, required keys, rules; every problem is collected.
#include <algorithm>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/error.h"
#include "core/schema.h"
#include "core/toml.h"
#include "core/utf8.h"

namespace exactmamba::core {

struct Schema::Problems {
  struct Problem {
    std::string key, line;
    TomlPosition position = {};  // in the file
  };
  std::vector<Problem> in_file, others;
  std::set<std::string> seen;  // options that the file sets

  void add(const std::string& file_name, TomlPosition position, const std::string& key,
           const std::string& text) {
    in_file.push_back({key, fmt::format("{}: {}", toml_place(file_name, position), text), position});
  }

  /// What is wrong with values of `key` so far.
  void forget(const std::string& key) {
    for (std::vector<Problem>* problems : {&in_file, &others})
      std::erase_if(*problems, [&key](const Problem& problem) { return problem.key == key; });
  }

  void throw_if_any() {
    std::stable_sort(in_file.begin(), in_file.end(),
                     [](const Problem& a, const Problem& b) { return a.position < b.position; });
    std::vector<std::string> lines;
    for (const std::vector<Problem>* problems : {&in_file, &others})
      for (const Problem& problem : *problems) lines.push_back(problem.line);
    if (!lines.empty()) throw InputError(fmt::format("{}", fmt::join(lines, "\n")));
  }
};

namespace {

std::string key_path(const std::string& prefix, const std::string& key) {
  return prefix.empty() ? key : prefix + "." + key;
}

const std::string& place(const Option& option, const std::string& file_name) {
  return option.is_left_out() ? file_name : option.origin();
}

}  // namespace

void Schema::read_table(const TomlNode& table, const std::string& prefix, const std::string& file_name,
                        Problems& problems) {
  for (const TomlMember& member : table.members) {
    const std::string key = key_path(prefix, member.key);
    const bool is_table = member.node.kind == TomlNode::Kind::kTable;
    if (Option* option = find(key)) {
      const TomlPosition position = member.node.position;
      std::string problem = problems.seen.insert(key).second ? "" : "is set twice";
      if (problem.empty()) problem = option->assign(member.node, toml_place(file_name, position));
      if (problem.empty()) continue;
      option->undecided_ = true;
      problems.add(file_name, position, key, fmt::format("'{}' {}", key, problem));
    } else if (has_table(key) && is_table) {
      read_table(member.node, key, file_name, problems);
    } else if (has_table(key)) {
      problems.add(file_name, member.position, key,
                   fmt::format("'{}' is a table of options, not {}", key, member.node.type_name()));
    } else {
      problems.add(file_name, member.position, key, is_table ? unknown_table(key) : unknown_key(key));
    }
  }
}

void Schema::read_assignment(const Assignment& assignment, Problems& problems) {
  Option* option = find(assignment.key);
  std::string problem;
  if (option == nullptr) {
    problem = has_table(assignment.key)
                  ? fmt::format("'{}' is a table of options; name one of them", assignment.key)
                  : unknown_key(assignment.key);
  } else if (assignment.value.empty()) {
    option->unset(assignment.origin);
    problems.forget(assignment.key);
  } else {
    try {
      problem = option->assign(parse_toml_value(assignment.value), assignment.origin);
      if (!problem.empty()) problem = fmt::format("'{}' {}", assignment.key, problem);
    } catch (const InputError& error) {
      problem = error.what();
      if (assignment.value.starts_with('[') && problem.ends_with("is not a TOML value"))
        problem += fmt::format(
            "; a shell takes quotes away unless there are others around them: --set '{}=…'", assignment.key);
    }
  }
  if (problem.empty()) return;
  if (option != nullptr) option->undecided_ = true;
  problems.others.push_back({assignment.key, fmt::format("{}: {}", assignment.origin, problem)});
}

void Schema::check_required(const std::string& file_name, Problems& problems) {
  for (Option& option : options_) {
    if (!option.required_ || option.is_set() || option.undecided_) continue;
    option.undecided_ = true;
    problems.others.push_back(
        {option.key_, fmt::format("{}: missing key '{}' ({}): {}", place(option, file_name), option.key_,
                                  option.type_name(), option.help_)});
  }
}

void Schema::check_rules(const std::string& file_name, Problems& problems) {
  std::vector<std::string> wrong;
  for (const auto& [keys, check] : rules_) {
    const auto undecided = [this](const std::string& key) { return at(key).undecided_; };
    const std::string message = std::any_of(keys.begin(), keys.end(), undecided) ? "" : check();
    if (message.empty()) continue;
    const Option& option = decisive(keys);
    problems.others.push_back(
        {option.key_, fmt::format("{}: {} [{}]", place(option, file_name), message, values_text(keys))});
    wrong.push_back(keys.front());
  }
  for (const std::string& key : wrong) find(key)->undecided_ = true;
}

const Option& Schema::decisive(const std::vector<std::string>& keys) const {
  for (const std::string& key : keys) {
    if (at(key).origin_.starts_with(kCommandLine)) return at(key);
  }
  const auto set =
      std::find_if(keys.begin(), keys.end(), [this](const auto& key) { return at(key).is_set(); });
  return at(set == keys.end() ? keys.front() : *set);
}

std::string Schema::values_text(const std::vector<std::string>& keys) const {
  std::vector<std::string> values;
  for (const std::string& key : keys)
    values.push_back(fmt::format("{} = {} ({})", key, at(key).text(), at(key).origin_text()));
  return fmt::format("{}", fmt::join(values, ", "));
}

void Schema::load(std::string_view toml_text, const std::string& file_name,
                  const std::vector<Assignment>& assignments, const std::vector<std::string>& skip,
                  const std::vector<std::string>& undecided) {
  TomlNode root = parse_toml(toml_text, file_name);
  const auto skipped = [&](const TomlMember& member) {
    return std::find(skip.begin(), skip.end(), member.key) != skip.end();
  };
  root.members.erase(std::remove_if(root.members.begin(), root.members.end(), skipped), root.members.end());

  Problems problems;
  read_table(root, "", file_name, problems);
  for (const Assignment& assignment : assignments) read_assignment(assignment, problems);
  for (const std::string& key : undecided) {
    if (Option* option = find(key)) option->undecided_ = true;
  }
  check_required(file_name, problems);
  check_rules(file_name, problems);
  problems.throw_if_any();
}

Schema::Assignment command_line_assignment(const std::string& argument) {
  require<UsageError>(!find_invalid_utf8(argument), "--set {}: this is not UTF-8; write the value as UTF-8",
                      printable(argument));
  const size_t equals = argument.find('=');
  require<UsageError>(equals != std::string::npos && equals > 0,
                      "--set {}: write --set KEY=VALUE, e.g. --set train.lr=1e-3", argument);
  return {argument.substr(0, equals), argument.substr(equals + 1), kCommandLine + argument};
}

}  // namespace exactmamba::core
