#include "cli/recipe.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <sstream>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/commands.h"
#include "cli/output.h"
#include "cli/problems.h"
#include "core/device.h"
#include "core/error.h"
#include "core/nearest.h"
#include "core/utf8.h"
#include "eval/row_values.h"

namespace exactmamba::cli {
namespace {

using core::Schema;

/// One run has one of these, so a sweep over them has no meaning.
constexpr const char* kNotSwept[] = {"run.name",         "run.output", "run.threads", "run.device",
                                     "run.peer_timeout", "report.",    "published."};

void bind_run(Schema& schema, RunOptions& o) {
  schema.table("run", "Where results go, and what all runs share.");
  schema.option("run.name", &o.name).cosmetic().help("Name of the run; left out: the recipe's file name.");
  schema.option("run.output", &o.output).cosmetic().help("Folder of stages and report; empty: runs/NAME.");
  schema.option("run.continues", &o.continues)
      .only_without("model.from")
      .cosmetic()
      .help(
          "Label of a run of this recipe, in front of this one, from whose result this one starts; its sizes "
          "must be the same.");
  schema.option("run.seed", &o.seed)
      .range(0, 9007199254740991)
      .help("Starting weights, generated data, order of the data and dropout follow from it.");
  schema.option("run.threads", &o.threads)
      .range(0, kMostThreads)
      .cosmetic()
      .help("Threads to use, in each process; 0: all cores, which --processes and --gpus share out.");
  schema.option("run.device", &o.device)
      .choices(core::choices_of(core::kDeviceNames))
      .cosmetic()
      .help(
          "What trains, and translates for evaluation; auto: a GPU if there is one. Decomposition and all "
          "else of the evaluation run on the CPU.");
  schema.option("run.peer_timeout", &o.peer_timeout)
      .range(1, 86400)
      .unit("seconds")
      .cosmetic()
      .help("How long a process of several waits for the others before it gives up.");
}

/// A layer that `layers` has twice, or the first that a new model does not have, as a problem.
std::string layer_problem(const std::string& key, const std::vector<int64_t>& layers, const Recipe& recipe) {
  const models::ModelOptions& model = recipe.model;
  for (auto layer = layers.begin(); layer != layers.end(); ++layer) {
    if (std::find(layers.begin(), layer, *layer) != layer)
      return fmt::format("{} has layer {} twice; leave one out", key, *layer);
  }
  if (!model.from.empty() || !recipe.run.continues.empty()) return "";
  for (const int64_t layer : layers) {
    if (layer >= model.n_layer)
      return fmt::format("{} has layer {}, but layers count from 0 and there are {}", key, layer,
                         model.n_layer);
  }
  return "";
}

/// What keeps a name from being that of a folder, in a message of one line.
std::string name_problem(const std::string& name) {
  const auto is_control = [](unsigned char c) { return c < 0x20 || c == 0x7f; };
  if (name.empty()) return "run.name is empty; give a name, or leave it out for the recipe's file name";
  if (name != "." && name != ".." && name.find('/') == std::string::npos &&
      std::none_of(name.begin(), name.end(), is_control) && !core::find_invalid_utf8(name))
    return "";
  return fmt::format(
      "'{}' cannot be the name of a run: it names a folder, so it may not be '.' or '..' or "
      "have '/' or control characters in it; give another run.name",
      core::printable(name));
}

void bind_rules(Schema& schema, Recipe& r) {
  schema.rule({"decompose.layers", "model.n_layer"},
              [&r] { return layer_problem("decompose.layers", r.decompose.layers, r); });
  schema.rule({"model.mimetic_layers", "model.n_layer"},
              [&r] { return layer_problem("model.mimetic_layers", r.model.mimetic_layers, r); });
  schema.rule({"train.annealing", "model.conv_activation"}, [&r]() -> std::string {
    if (r.train.annealing == "none" || r.model.conv_activation != "silu") return "";
    return "annealing starts at silu and must lead to another activation";
  });
  schema.rule({"train.best_measure", "data.task"}, [&r]() -> std::string {
    if (r.train.best_measure != "bleu" || r.data.task == "translation") return "";
    return "BLEU is measured of translations: train.best_measure = \"bleu\" needs data.task = "
           "\"translation\"";
  });
  schema.rule({"run.name"}, [&schema, &r]() -> std::string {
    return schema.at("run.name").is_set() ? name_problem(r.run.name) : "";
  });
}

/// What assignments of the sweep may not do.
std::vector<std::string> sweep_problems(const core::SweepRun& run) {
  std::vector<std::string> problems;
  for (const Schema::Assignment& assignment : run.assignments) {
    for (const char* key : kNotSwept) {
      if (assignment.key.rfind(key, 0) != 0) continue;
      problems.push_back(fmt::format("{}: '{}' is the same for all runs and cannot be swept",
                                     assignment.origin, assignment.key));
    }
  }
  return problems;
}

/// That `set` would change what the runs have values of their own for; "" when it does not.
std::string override_problem(const std::vector<core::SweepRun>& runs, const Schema::Assignment& set) {
  std::vector<std::string> places;
  bool swept = false, extra = false;
  for (const core::SweepRun& run : runs) {
    for (const Schema::Assignment& assignment : run.assignments) {
      if (assignment.key != set.key) continue;
      (run.extra ? extra : swept) = true;
      if (std::find(places.begin(), places.end(), assignment.origin) == places.end())
        places.push_back(assignment.origin);
    }
  }
  if (places.empty()) return "";
  return fmt::format("{}: '{}' is set for single runs by {}, at {}; change it there, or take it out there",
                     set.origin, set.key,
                     swept && extra ? "[sweep] and [[extra]]"
                     : extra        ? "[[extra]]"
                                    : "[sweep]",
                     fmt::join(places, ", "));
}

void name_run(RunOptions& run, const std::string& file, Problems& problems) {
  if (run.name.empty()) {
    run.name = file == "-" ? "stdin" : std::filesystem::path(file).stem().string();
    if (const std::string problem = name_problem(run.name); !problem.empty()) problems.add(problem);
  }
  if (run.output.empty()) run.output = (std::filesystem::path("runs") / run.name).string();
}

/// `whole`: `run` is one of the sweep's, and not the values of one that cannot be made.
std::unique_ptr<RecipeRun> load_run(const core::SweepRun& run, bool whole, const std::string& text,
                                    const std::string& name, std::vector<Schema::Assignment> assignments,
                                    Problems& problems) {
  auto loaded = std::make_unique<RecipeRun>();
  loaded->label = run.label;
  loaded->assignments = run.assignments;
  bind(loaded->schema, loaded->recipe);
  assignments.insert(assignments.end(), run.assignments.begin(), run.assignments.end());
  std::vector<std::string> undecided;
  for (const Schema::Assignment& value : run.assignments) {
    if (!whole) undecided.push_back(value.key);
  }
  try {
    loaded->schema.load(text, name, assignments, {"sweep", "extra"}, undecided);
  } catch (const core::InputError& error) {
    problems.add(error.what());
  }
  return loaded;
}

/// A value that is given must be used by at least one of the runs that it is given to.
void add_unused(const std::vector<std::unique_ptr<RecipeRun>>& runs, Problems& problems) {
  std::set<std::pair<std::string, core::Origin>> told;
  for (const auto& run : runs) {
    for (const Schema::Unused& unused : run->schema.unused()) {
      const auto uses = [&](const auto& other) {
        return other->schema.at(unused.key).origin() == unused.origin && other->schema.applies(unused.key);
      };
      if (std::none_of(runs.begin(), runs.end(), uses) && told.emplace(unused.key, unused.origin).second)
        problems.add(unused.message);
    }
  }
}

/// Finds the runs that others continue.
void connect(const std::vector<std::unique_ptr<RecipeRun>>& runs, Problems& problems) {
  for (auto run = runs.begin(); run != runs.end(); ++run) {
    const std::string& wanted = (*run)->recipe.run.continues;
    if (wanted.empty()) continue;
    const auto base =
        std::find_if(runs.begin(), run, [&](const auto& other) { return other->label == wanted; });
    if (base != run) {
      (*run)->base = base->get();
      continue;
    }
    std::vector<std::string> labels;
    for (auto other = runs.begin(); other != run; ++other) labels.push_back("'" + (*other)->label + "'");
    problems.add(fmt::format("{}: run.continues: no run in front of '{}' is called '{}'; there {}",
                             (*run)->schema.at("run.continues").origin(), (*run)->label, wanted,
                             labels.empty() ? "is none" : fmt::format("are: {}", fmt::join(labels, ", "))));
  }
}

/// Layers of the run's model; 0: those of a checkpoint, not known yet.
int64_t depth_of(const RecipeRun& run) {
  if (run.base != nullptr) return depth_of(*run.base);
  return run.recipe.model.from.empty() ? run.recipe.model.n_layer : 0;
}

/// First parts of keys, each once: "perplexity", "error.…".
std::vector<std::string> groups_of(const std::vector<std::string>& keys) {
  std::vector<std::string> groups;
  for (const std::string& key : keys) {
    const size_t dot = key.find('.');
    const std::string group = dot == std::string::npos ? key : key.substr(0, dot) + ".…";
    if (std::find(groups.begin(), groups.end(), group) == groups.end()) groups.push_back(group);
  }
  return groups;
}

/// What might have been meant by a key that is not there: what its group has, or the groups.
std::vector<std::string> keys_beside(const std::string& key, const std::vector<std::string>& keys) {
  constexpr size_t kMost = 24;
  std::vector<std::string> beside = eval::keys_of_name(key.substr(0, key.find('.')), keys);
  if (beside.empty()) return groups_of(keys);
  if (beside.size() > kMost) {
    beside.resize(kMost);
    beside.push_back("…");
  }
  return beside;
}

bool is_in(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::string quoted(const std::vector<std::string>& names) {
  return fmt::format("'{}'", fmt::join(names, "', '"));
}

/// "aer.l2.best" → "aer.l2 · activation.best": the first of `keys` with as many parts, each beginning
/// with that of `name`.
std::string key_by_parts(const std::string& name, const std::vector<std::string>& keys) {
  const auto parts_of = [](const std::string& key) {
    std::istringstream text(key);
    std::vector<std::string> parts;
    for (std::string part; std::getline(text, part, '.');) parts.push_back(part);
    return parts;
  };
  const std::vector<std::string> given = parts_of(name);
  const auto found = std::find_if(keys.begin(), keys.end(), [&](const std::string& key) {
    const std::vector<std::string> parts = parts_of(key);
    return std::equal(given.begin(), given.end(), parts.begin(), parts.end(),
                      [](const std::string& a, const std::string& b) { return b.starts_with(a); });
  });
  return found == keys.end() ? "" : *found;
}

/// A line about all names in an option that are not among `names`; "" when they are.
std::string unknown_names(const core::Option& option, const std::string& kind,
                          const std::vector<std::string>& unknown, const std::vector<std::string>& names,
                          const std::vector<std::string>& shown) {
  if (unknown.empty()) return "";
  std::string near = unknown.size() == 1 ? core::nearest_word(unknown.front(), names) : "";
  if (near.empty() && unknown.size() == 1) near = key_by_parts(unknown.front(), names);
  return fmt::format("{}: {}: there is no {} {}{}; there are: {}{}", option.origin(), option.key(), kind,
                     quoted(unknown), near.empty() ? "" : fmt::format("; did you mean '{}'?", near),
                     fmt::join(shown, ", "),
                     option.origin().starts_with(core::kCommandLine)
                         ? ""
                         : fmt::format("; change it there, or by --set {}=…", option.key()));
}

/// Columns and runs that [report] and [published] speak of are there.
void check_report_names(const std::vector<std::unique_ptr<RecipeRun>>& runs, Problems& problems) {
  const RecipeRun& first = *runs.front();
  const std::vector<std::string> keys = value_keys(runs);
  std::vector<std::string> labels;
  for (const auto& run : runs) labels.push_back(run->name());
  const auto check_columns = [&](const char* key, const std::vector<std::string>& given,
                                 const auto& is_known) {
    std::vector<std::string> unknown, shown;
    for (const std::string& name : given) {
      if (is_known(name)) continue;
      unknown.push_back(name);
      for (const std::string& beside : keys_beside(name, keys))
        if (!is_in(shown, beside)) shown.push_back(beside);
    }
    problems.add(unknown_names(first.schema.at(key), "column", unknown, keys, shown));
  };
  check_columns("report.columns", first.recipe.report.columns,
                [&keys](const std::string& name) { return !eval::keys_of_name(name, keys).empty(); });
  check_columns("published.columns", first.recipe.published.columns,
                [&keys](const std::string& name) { return is_in(keys, name); });
  std::vector<std::string> unknown;
  for (const std::string& label : first.recipe.published.runs)
    if (!is_in(labels, label)) unknown.push_back(label);
  problems.add(unknown_names(first.schema.at("published.runs"), "run", unknown, labels, {quoted(labels)}));
}

/// An empty recipe would train the defaults, which nobody means.
bool sets_something(const std::unique_ptr<RecipeRun>& run) {
  const auto& options = run->schema.options();
  return std::any_of(options.begin(), options.end(), [](const core::Option& o) { return o.is_set(); });
}

}  // namespace

void bind(Schema& schema, Recipe& recipe) {
  bind_run(schema, recipe.run);
  data::bind(schema, recipe.data);
  models::bind(schema, recipe.model);
  train::bind(schema, recipe.train);
  decomp::bind(schema, recipe.decompose);
  eval::bind(schema, recipe.evaluate);
  eval::bind(schema, recipe.report);
  eval::bind(schema, recipe.published);
  bind_rules(schema, recipe);
}

std::vector<std::string> value_keys(const std::vector<std::unique_ptr<RecipeRun>>& runs) {
  std::vector<std::string> keys;
  for (const auto& run : runs) {
    const Recipe& recipe = run->recipe;
    for (const std::string& key :
         eval::value_keys({recipe.data.task, depth_of(*run), recipe.decompose, recipe.evaluate}))
      if (std::find(keys.begin(), keys.end(), key) == keys.end()) keys.push_back(key);
  }
  return keys;
}

RecipeFile load_recipe(const std::string& file, const std::vector<std::string>& sets) {
  RecipeFile result{file, read_input(file), sets, {}};
  std::vector<Schema::Assignment> assignments;
  for (const std::string& set : sets) assignments.push_back(core::command_line_assignment(set));

  const std::string name = file == "-" ? "stdin" : file;
  Problems problems;
  const core::Sweep sweep = core::expand_sweep(result.text, name);
  for (const std::string& problem : sweep.problems) problems.add(problem);
  for (const Schema::Assignment& set : assignments) problems.add(override_problem(sweep.runs, set));
  for (const core::SweepRun& run : sweep.runs) {
    for (const std::string& problem : sweep_problems(run)) problems.add(problem);
    result.runs.push_back(load_run(run, sweep.problems.empty(), result.text, name, assignments, problems));
    name_run(result.runs.back()->recipe.run, file, problems);
  }
  connect(result.runs, problems);
  add_unused(result.runs, problems);
  problems.throw_if_any();
  check_report_names(result.runs, problems);
  problems.throw_if_any();
  core::require(
      std::any_of(result.runs.begin(), result.runs.end(), sets_something),
      "{}: sets nothing; say at least what is trained, in [model], or on what, in [data]: exactmamba "
      "validate --reference has all keys",
      name);
  return result;
}

models::ModelOptions continued_options(models::ModelOptions options, const std::string& checkpoint) {
  options.from = checkpoint;
  return options;
}

std::string recipe_reference() {
  Recipe recipe;
  Schema schema;
  bind(schema, recipe);
  return "# Recipes\n\n"
         "A recipe is a TOML file. `exactmamba validate recipe.toml` checks it and shows the effective value "
         "of every option with its origin; `--set KEY=VALUE` on the command line comes before the file, and "
         "`--set KEY=` takes the key out of it (`--set KEY='\"\"'` is the empty string).\n\n"
         "`[sweep]` turns one recipe into several runs: dotted keys with lists of values give the product of "
         "the values, the first key changing slowest. Each `[[extra]]` table adds one run with its own "
         "values, and an optional `label`. A key may stand beside a sweep of which only some runs use it; "
         "what no run uses is refused. A condition (\"Only with …\") on a key that has no meaning itself is "
         "void: the task copy has validation data without `data.valid`.\n\n"
         "```toml\n[sweep]\nmodel.architecture = [\"mamba1\", \"mamba2\"]\nrun.seed = [1, 2, 3]\n\n"
         "[[extra]]\nlabel = \"wide\"\nmodel.d_model = 256\n```\n\n"
         "This page is printed by `exactmamba validate --reference`.\n\n" +
         schema.reference_markdown();
}

}  // namespace exactmamba::cli
