// [sweep] and [[extra]] of a recipe → the runs with their assignments and labels.
#include <algorithm>
#include <map>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/schema.h"
#include "core/toml.h"

namespace exactmamba::core {
namespace {

constexpr size_t kMaxRuns = 1000;

struct Leaf {
  std::string key;
  const TomlNode* node;
};

/// Quoted dotted keys and nested tables both become dotted keys, in the order of the text.
void flatten(const TomlNode& table, const std::string& prefix, std::vector<Leaf>& leaves) {
  for (const TomlMember& member : table.members) {
    const std::string key = prefix.empty() ? member.key : prefix + "." + member.key;
    if (member.node.kind == TomlNode::Kind::kTable) {
      flatten(member.node, key, leaves);
    } else {
      leaves.push_back({key, &member.node});
    }
  }
}

/// The first table in a value. [nullable]
const TomlNode* table_in(const TomlNode& value) {
  if (value.kind == TomlNode::Kind::kTable) return &value;
  for (const TomlNode& item : value.items) {
    if (const TomlNode* table = table_in(item)) return table;
  }
  return nullptr;
}

class Expansion {
 public:
  Expansion(const TomlNode& root, std::string file_name) : file_name_(std::move(file_name)) {
    if (const TomlNode* sweep = root.find("sweep")) read_sweep(*sweep);
    if (const TomlNode* extra = root.find("extra")) read_extra(*extra);
  }

  Sweep sweep() {
    std::vector<SweepRun> runs;
    if (problems_.empty()) runs = expand();
    if (!problems_.empty()) runs = {{"", values_}};
    return {std::move(runs), problems_};
  }

 private:
  using Assignments = std::vector<Schema::Assignment>;
  struct Extra {
    TomlPosition position;
    std::string label;
    Assignments assignments;
  };

  void problem(TomlPosition position, const std::string& text) {
    problem(toml_place(file_name_, position), text);
  }
  void problem(const std::string& place, const std::string& text) {
    problems_.push_back(fmt::format("{}: {}", place, text));
  }

  void read_sweep(const TomlNode& sweep) {
    if (sweep.kind != TomlNode::Kind::kTable)
      return problem(sweep.position, "'sweep' is a table, not " + sweep.type_name());
    flatten(sweep, "", axes_);
    for (const Leaf& axis : axes_) {
      full_keys_.insert(axis.key);
      if (axis.node->kind != TomlNode::Kind::kList) {
        problem(axis.node->position, fmt::format("'{}' in [sweep] takes a list of values, not {}", axis.key,
                                                 axis.node->type_name()));
        read_value(axis.key, *axis.node);
      } else if (axis.node->items.empty()) {
        problem(axis.node->position, fmt::format("'{}' in [sweep] has no values", axis.key));
      }
      for (const TomlNode& item : axis.node->items) read_value(axis.key, item);
    }
  }

  void read_extra(const TomlNode& extra) {
    const auto is_table = [](const TomlNode& item) { return item.kind == TomlNode::Kind::kTable; };
    if (extra.kind != TomlNode::Kind::kList ||
        !std::all_of(extra.items.begin(), extra.items.end(), is_table)) {
      return problem(extra.position, "'extra' is a list of tables: write [[extra]]");
    }
    for (const TomlNode& item : extra.items) {
      std::vector<Leaf> leaves;
      flatten(item, "", leaves);
      Extra run{item.position, "", {}};
      for (const Leaf& leaf : leaves) read_extra_leaf(leaf, run);
      if (run.assignments.empty()) problem(item.position, "[[extra]] changes nothing");
      extras_.push_back(std::move(run));
    }
  }

  void read_extra_leaf(const Leaf& leaf, Extra& run) {
    if (leaf.key != "label") {
      full_keys_.insert(leaf.key);
      read_value(leaf.key, *leaf.node);
      run.assignments.push_back(assignment(leaf.key, *leaf.node));
    } else if (leaf.node->kind == TomlNode::Kind::kString && !leaf.node->text.empty()) {
      run.label = leaf.node->text;
    } else {
      problem(leaf.node->position, "'label' takes a string that is not empty");
    }
  }

  void read_value(const std::string& key, const TomlNode& value) {
    if (const TomlNode* table = table_in(value))
      problem(table->position, fmt::format("'{}' takes values, not a table", key));
    else
      values_.push_back(assignment(key, value));
  }

  Schema::Assignment assignment(const std::string& key, const TomlNode& value) const {
    return {key, toml_text(value), toml_place(file_name_, value.position)};
  }

  std::vector<SweepRun> expand() {
    size_t count = 1;
    for (const Leaf& axis : axes_) {
      count *= axis.node->items.size();
      if (count + extras_.size() <= kMaxRuns) continue;
      problem(axis.node->position, fmt::format("[sweep] and [[extra]] ask for more than {} runs", kMaxRuns));
      return {};
    }
    std::vector<SweepRun> runs;
    for (size_t i = 0; i < count; ++i) add(runs, product_run(i), "", file_name_);
    for (const Extra& extra : extras_) {
      add(runs, extra.assignments, extra.label, toml_place(file_name_, extra.position));
      runs.back().extra = true;
    }
    if (runs.size() == 1 && axes_.empty()) runs[0].label = "";
    return runs;
  }

  /// Run i of the product; the first key changes slowest.
  Assignments product_run(size_t i) const {
    Assignments result(axes_.size());
    for (size_t axis = axes_.size(); axis-- > 0;) {
      const std::vector<TomlNode>& values = axes_[axis].node->items;
      result[axis] = assignment(axes_[axis].key, values[i % values.size()]);
      i /= values.size();
    }
    return result;
  }

  /// The last part of a key where no other key of the sweep ends alike.
  std::string short_key(const std::string& key) const {
    const std::string ending = key.substr(key.rfind('.') + 1);
    const auto alike = [&](const std::string& other) { return other.substr(other.rfind('.') + 1) == ending; };
    return std::count_if(full_keys_.begin(), full_keys_.end(), alike) == 1 ? ending : key;
  }

  std::string label_of(const Assignments& assignments) const {
    std::vector<std::string> parts;
    for (const Schema::Assignment& assignment : assignments) {
      const TomlNode value = parse_toml_value(assignment.value);
      // A word speaks for itself; a number needs its key.
      const bool text = value.kind == TomlNode::Kind::kString;
      parts.push_back(text ? value.text : short_key(assignment.key) + "=" + assignment.value);
    }
    return parts.empty() ? "base" : fmt::format("{}", fmt::join(parts, ", "));
  }

  void add(std::vector<SweepRun>& runs, Assignments assignments, std::string label,
           const std::string& place) {
    if (label.empty()) label = label_of(assignments);
    const auto same = [&](const SweepRun& run) { return run.label == label; };
    if (std::any_of(runs.begin(), runs.end(), same)) {
      problem(assignments.empty() ? place : assignments.back().origin,
              fmt::format("two runs are called '{}'; change a value or give one a 'label'", label));
    }
    runs.push_back({std::move(label), std::move(assignments)});
  }

  std::string file_name_;
  std::vector<Leaf> axes_;
  std::vector<Extra> extras_;
  std::set<std::string> full_keys_;
  Assignments values_;  // every value that can be read
  std::vector<std::string> problems_;
};

}  // namespace

Sweep expand_sweep(std::string_view toml_text, const std::string& file_name) {
  const TomlNode root = parse_toml(toml_text, file_name);
  return Expansion(root, file_name).sweep();
}

}  // namespace exactmamba::core
