// [sweep] and [[extra]] of a recipe → the runs with their assignments and labels.
#include <algorithm>
#include <map>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/error.h"
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

class Expansion {
 public:
  Expansion(const TomlNode& root, std::string file_name) : file_name_(std::move(file_name)) {
    if (const TomlNode* sweep = root.find("sweep")) read_sweep(*sweep);
    if (const TomlNode* extra = root.find("extra")) read_extra(*extra);
    if (!problems_.empty()) throw InputError(fmt::format("{}", fmt::join(problems_, "\n")));
  }

  std::vector<SweepRun> runs() {
    size_t count = 1;
    for (const Leaf& axis : axes_) {
      count *= axis.node->items.size();
      require(count + extras_.size() <= kMaxRuns, "{}: [sweep] and [[extra]] ask for more than {} runs",
              toml_place(file_name_, axis.node->position), kMaxRuns);
    }
    std::vector<SweepRun> result;
    for (size_t i = 0; i < count; ++i) add(result, product_run(i), "", file_name_);
    for (const Extra& extra : extras_)
      add(result, extra.assignments, extra.label, toml_place(file_name_, extra.position));
    if (result.size() == 1 && axes_.empty()) result[0].label = "";
    return result;
  }

 private:
  using Assignments = std::vector<Schema::Assignment>;
  struct Extra {
    TomlPosition position;
    std::string label;
    Assignments assignments;
  };

  void problem(TomlPosition position, const std::string& text) {
    problems_.push_back(fmt::format("{}: {}", toml_place(file_name_, position), text));
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
      } else if (axis.node->items.empty()) {
        problem(axis.node->position, fmt::format("'{}' in [sweep] has no values", axis.key));
      }
      for (const TomlNode& item : axis.node->items) check_value(axis.key, item);
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
      check_value(leaf.key, *leaf.node);
      run.assignments.push_back(assignment(leaf.key, *leaf.node));
    } else if (leaf.node->kind == TomlNode::Kind::kString && !leaf.node->text.empty()) {
      run.label = leaf.node->text;
    } else {
      problem(leaf.node->position, "'label' takes a string that is not empty");
    }
  }

  void check_value(const std::string& key, const TomlNode& value) {
    if (value.kind == TomlNode::Kind::kTable)
      problem(value.position, fmt::format("'{}' takes values, not a table", key));
    for (const TomlNode& item : value.items) check_value(key, item);
  }

  Schema::Assignment assignment(const std::string& key, const TomlNode& value) const {
    return {key, toml_text(value), toml_place(file_name_, value.position)};
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
           const std::string& place) const {
    if (label.empty()) label = label_of(assignments);
    for (const SweepRun& run : runs) {
      require(run.label != label, "{}: two runs are called '{}'; change a value or give one a 'label'",
              assignments.empty() ? place : assignments.back().origin, label);
    }
    runs.push_back({std::move(label), std::move(assignments)});
  }

  std::string file_name_;
  std::vector<Leaf> axes_;
  std::vector<Extra> extras_;
  std::set<std::string> full_keys_;
  std::vector<std::string> problems_;
};

}  // namespace

std::vector<SweepRun> expand_sweep(std::string_view toml_text, const std::string& file_name) {
  const TomlNode root = parse_toml(toml_text, file_name);
  return Expansion(root, file_name).runs();
}

}  // namespace exactmamba::core
