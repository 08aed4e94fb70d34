// Options declared once. A room binds the members of its options struct:
//     schema.option("train.lr", &options.lr).range(0, 10).unit("").help("Peak learning rate.");
// and that one declaration drives parsing (TOML), --set, checking, the listing of effective values and
// docs/recipes.md. The default is the member's value at binding time.
#pragma once

#include <deque>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "core/json.h"

namespace exactmamba::core {

struct TomlNode;

/// Where a value came from: "default", "recipe.toml:12:8", "--set train.lr=1e-3", or "--set train.lr=", which
/// made it the default.
using Origin = std::string;
/// What an origin on the command line begins with.
inline constexpr const char* kCommandLine = "--set ";

class Option {
 public:
  using Target = std::variant<bool*, int64_t*, double*, std::string*, std::vector<int64_t>*,
                              std::vector<double>*, std::vector<std::string>*>;

  Option& help(std::string text) {
    help_ = std::move(text);
    return *this;
  }
  Option& unit(std::string text) {
    unit_ = std::move(text);
    return *this;
  }
  Option& range(double low, double high) {
    low_ = low;
    high_ = high;
    return *this;
  }  // inclusive; per element for lists
  Option& choices(std::vector<std::string> names) {
    choices_ = std::move(names);
    return *this;
  }  // strings and lists of strings
  Option& required() {
    required_ = true;
    return *this;
  }
  /// Changes only what is shown or how fast, never a result: not part of a stage's hash.
  Option& cosmetic() {
    cosmetic_ = true;
    return *this;
  }
  /// Has a meaning only where the option `key` has one of `values`; without values: where it is not empty.
  /// Elsewhere it is not part of hashes, and giving it is a mistake (Schema::unused()). All conditions must
  /// hold; the first that does not is told. One on an option that has no meaning itself is void: the task
  /// "copy" has validation data without data.valid.
  Option& only_with(std::string key, std::vector<std::string> values = {}) {
    conditions_.push_back({std::move(key), std::move(values), false});
    return *this;
  }
  /// The same where the option `key` is empty.
  Option& only_without(std::string key) {
    conditions_.push_back({std::move(key), {}, true});
    return *this;
  }

  /// What the reference says in place of a list of the conditions, where that would read oddly.
  Option& conditions_help(std::string text) {
    conditions_help_ = std::move(text);
    return *this;
  }

  const std::string& key() const { return key_; }
  const Origin& origin() const { return origin_; }
  /// "default, by --set train.lr=" where no value is left, else as origin().
  std::string origin_text() const;
  bool is_set() const { return !is_left_out() && !taken_out_; }
  /// Nothing was said of it, not even that it is to be taken out.
  bool is_left_out() const { return origin_ == "default"; }
  /// Of the value given before, which this one took the place of: a sweep's, or --set, comes before the
  /// file's.
  /// "" without one.
  const Origin& replaced() const { return replaced_; }
  Json value() const;  // the effective value
  std::string type_name() const;
  std::string text() const;     // the effective value as TOML
  std::string allowed() const;  // "0 to 10", "silu, relu", or ""
  /// Checks type, range and choices and sets the member; or leaves it alone and returns what is wrong ("takes
  /// an integer, not …").
  std::string assign(const TomlNode& value, const Origin& origin);
  /// Gives the member its default; `origin` is who took the value out.
  void unset(const Origin& origin);

 private:
  struct Condition {
    std::string key;
    std::vector<std::string> values;  // as in word()
    bool empty;                       // `key` must be empty
  };
  std::string word() const;  // a string as it is, other values as TOML
  bool satisfies(const Condition& condition) const;
  std::string check(const TomlNode& scalar) const;
  std::string check_number(double value) const;
  std::string check_choice(const std::string& value) const;
  friend class Schema;
  std::string key_, help_, unit_, conditions_help_;
  Target target_;
  Json default_;
  std::function<void()> restore_;  // gives the member its default
  std::optional<double> low_, high_;
  std::vector<std::string> choices_;
  std::vector<Condition> conditions_;
  bool required_ = false, cosmetic_ = false;
  bool undecided_ = false;  // given, but wrong or not known yet: nothing that depends on it is checked
  Origin origin_ = "default", replaced_;
  bool taken_out_ = false;  // by origin_
};

class Schema {
 public:
  /// Declares an option; `target` must outlive the schema.
  Option& option(std::string key, Option::Target target);
  /// One line about a table ("train"), for the reference.
  void table(std::string name, std::string help);

  /// A rule over several options ("train.warmup_steps is larger than train.steps"). Called after loading;
  /// returns the message of a contradiction or "". `keys` are the options it speaks of, the one to change
  /// first: their values and origins are added to the message.
  void rule(std::vector<std::string> keys, std::function<std::string()> check);

  /// A key of a recipe with its value, e.g. of --set or of a sweep. The value is parsed as TOML; a bare word
  /// is a string. Without a value: what was given before for the key does not count, right or wrong.
  struct Assignment {
    std::string key, value;
    Origin origin;
  };

  /// Reads TOML text into the bound members, then the assignments in order, then the rules. ALL problems are
  /// collected and thrown as one InputError, a line each: "recipe.toml:12:3: unknown key 'train.lrr'; did you
  /// mean 'train.lr'?". Tables named in `skip` ("sweep") belong to somebody else; rules about the keys in
  /// `undecided` are not asked.
  void load(std::string_view toml_text, const std::string& file_name,
            const std::vector<Assignment>& assignments, const std::vector<std::string>& skip = {},
            const std::vector<std::string>& undecided = {});

  /// Whether the conditions of the option `key` hold (Option::only_with).
  bool applies(const std::string& key) const { return unmet(at(key)) == nullptr; }
  /// An option that was given where it has no meaning, with the line that says so. Not among the problems of
  /// load(): another run of a sweep may use it.
  struct Unused {
    std::string key;
    Origin origin;
    std::string message;
  };
  std::vector<Unused> unused() const;

  /// The option among `keys` that a contradiction between them is placed at: the command line had the last
  /// word, then the first that is set, or else the first.
  const Option& decisive(const std::vector<std::string>& keys) const;
  /// "a = 1 (default), b = \"x\" (--set b=x)"
  std::string values_text(const std::vector<std::string>& keys) const;

  const std::deque<Option>& options() const { return options_; }
  const Option& at(const std::string& key) const;
  /// The effective values of the tables and single keys in `tables`, without cosmetic options and those that
  /// do not apply: what a stage's hash is made of.
  Json canonical(const std::vector<std::string>& tables) const;
  /// Effective values with their origin, aligned, a line each; those that do not apply as comments.
  std::string listing() const;
  /// docs/recipes.md
  std::string reference_markdown() const;

 private:
  struct Problems;
  Option* find(const std::string& key);  // [nullable]
  bool has_table(const std::string& name) const;
  std::string table_of(const std::string& key) const;
  std::string unknown_table(const std::string& name) const;
  std::string unknown_key(const std::string& key) const;
  std::vector<std::string> table_names() const;
  const Option::Condition* unmet(const Option& option) const;            // [nullable]
  std::string condition_text(const Option::Condition& condition) const;  // "with a = \"b\"", "without a"
  std::string all_conditions_text(const Option& option) const;
  void read_table(const TomlNode& table, const std::string& prefix, const std::string& file_name,
                  Problems& problems);
  void read_assignment(const Assignment& assignment, Problems& problems);
  void check_required(const std::string& file_name, Problems& problems);
  void check_rules(const std::string& file_name, Problems& problems);

  std::deque<Option> options_;
  std::vector<std::pair<std::string, std::string>> tables_;
  std::vector<std::pair<std::vector<std::string>, std::function<std::string()>>> rules_;
};

/// "train.lr=1e-3" of the command line, or "train.lr=". @throws UsageError without a key or '='
Schema::Assignment command_line_assignment(const std::string& argument);

/// `[sweep]`: dotted keys with lists of values; the runs are their product, first key slowest, then one run
/// for every table of
/// `[[extra]]` (assignments on top of the recipe). Without both: one run without assignments.
/// `label`: "mamba2, relu, seed=2", or `label` of the `[[extra]]` table; unique among
/// the runs, "base" for the recipe as it stands beside others, "" for a single run.
struct SweepRun {
  std::string label;
  std::vector<Schema::Assignment> assignments;
  bool extra = false;  // of [[extra]]
};
struct Sweep {
  std::vector<SweepRun> runs;  // at least one
  /// A line each. Where there are some, `runs` is a single one that assigns every readable value in turn, so
  /// that the values can be checked, too.
  std::vector<std::string> problems;
};
/// @throws InputError when `toml_text` is no TOML
Sweep expand_sweep(std::string_view toml_text, const std::string& file_name);

}  // namespace exactmamba::core
