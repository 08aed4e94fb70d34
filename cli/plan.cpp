#include "cli/plan.h"

#include <filesystem>

#include <ATen/Parallel.h>
#include <fmt/ranges.h>

#include "cli/model_origin.h"
#include "cli/problems.h"
#include "cli/recipe_files.h"
#include "cli/run_folder.h"
#include "cli/trained_tokenizer.h"
#include "core/device.h"
#include "core/error.h"
#include "core/log.h"
#include "core/memory.h"
#include "data/datasets.h"

namespace exactmamba::cli {
namespace fs = std::filesystem;

namespace {

void check_output(const RecipeRun& run) {
  at_place(place_of_output(run), [&run] { require_makeable(run.recipe.run.output); });
}

/// The run that a chain of run.continues begins with.
const RecipeRun& first_of_chain(const RecipeRun& run) {
  return run.base == nullptr ? run : first_of_chain(*run.base);
}

std::string place_of_continues(const RecipeRun& run) { return run.schema.at("run.continues").origin(); }

/// Sizes in [model] are a new model's: the first of a chain has them, and who continues it has the same.
void check_sizes(const RecipeRun& run, int64_t vocabulary) {
  const RecipeRun& first = first_of_chain(run);
  if (!first.recipe.model.from.empty()) return;
  models::ModelConfig own = models::config_from_options(run.recipe.model, vocabulary),
                      wanted = models::config_from_options(first.recipe.model, vocabulary);
  own.activation = wanted.activation;
  const core::Json of_run = models::config_to_json(own, ""), of_first = models::config_to_json(wanted, "");
  std::vector<std::string> others;
  for (const auto& [name, value] : of_run.items()) {
    const core::Json known = of_first.value(name, core::Json());
    if (known != value)
      others.push_back(fmt::format("{} {} instead of {}", name, value.dump(), known.dump()));
  }
  core::require(
      others.empty(),
      "{}: run.continues: '{}' has other sizes in [model] than '{}', whose weights it takes: {}; leave "
      "them out",
      place_of_continues(run), run.label, first.name(), fmt::join(others, ", "));
}

/// Another tokenizer would give the model's token ids another meaning.
void check_made_tokenizer(const RecipeRun& run) {
  if (!data::trains_tokenizer(run.recipe.data)) return;
  const core::Json own = run.schema.canonical(tokenizer_options()),
                   known = run.base->schema.canonical(tokenizer_options());
  for (const auto& [key, value] : own.items())
    core::require(
        known.contains(key) && known[key] == value,
        "{}: run.continues: '{}' has {} = {}, but '{}' {}, so that data.tokenizer = \"bpe\" would make "
        "another tokenizer than that of the model which it continues; give both runs a tokenizer.json "
        "(exactmamba train-tokenizer)",
        place_of_continues(run), run.label, key, value.dump(), run.base->name(),
        known.contains(key) ? known[key].dump() : "none");
}

models::ModelConfig config_of(const RecipeRun& run, int64_t vocabulary) {
  const Recipe& recipe = run.recipe;
  const bool annealed = recipe.train.annealing != "none";
  if (run.base != nullptr) {
    check_sizes(run, vocabulary);
    check_made_tokenizer(run);
    return models::continued_config(continued_options(recipe.model, run.base->label),
                                    config_of(*run.base, vocabulary), vocabulary, annealed);
  }
  if (recipe.model.from.empty()) return models::config_from_options(recipe.model, vocabulary);
  return models::continued_config(recipe.model, config_of_named_model(recipe.model.checkpoint()), vocabulary,
                                  annealed);
}

void check_layers(const RecipeRun& run, const models::ModelConfig& config) {
  const Recipe& recipe = run.recipe;
  for (const int64_t layer : recipe.decompose.layers) {
    core::require(layer < config.n_layer, "{} has layer {}, but layers count from 0 and {} has {}",
                  place_of(run, "decompose.layers"), layer,
                  recipe.model.from.empty() ? "the model" : recipe.model.from, config.n_layer);
  }
}

const std::vector<std::string> kTokenKeys = {"train.steps", "train.grad_accumulation_steps",
                                             "train.batch_size", "data.context"},
                               kMemoryKeys = {"train.batch_size", "data.context", "model.d_model",
                                              "model.n_layer"};

/// What `keys` make. @throws InputError for what no machine could do
int64_t countable(const RecipeRun& run, const std::vector<std::string>& keys, const std::string& what,
                  double value) {
  core::require(value < 9e18, "{}: {} is {:.1e}, more than can be counted; choose smaller values [{}]",
                run.schema.decisive(keys).origin(), what, value, run.schema.values_text(keys));
  return static_cast<int64_t>(value);
}

/// Values of a micro-batch that backward reads, a position: the stream and its norm, and in each block the
/// projections, the convolution's input and output, the scan's inputs and output, and the gate.
int64_t activations_per_token(const models::ModelConfig& config) {
  const int64_t block =
      2 * config.d_model + config.in_proj_rows() + config.conv_channels() + 3 * config.d_inner();
  return config.n_layer * block + 4 * config.d_model;
}

}  // namespace

Need need_of(const RecipeRun& run) {
  const Recipe& recipe = run.recipe;
  check_output(run);
  Need need;
  need.vocabulary = data::vocabulary_of(recipe.data);
  need.config = config_of(run, need.vocabulary);
  check_layers(run, need.config);
  need.parameters = need.config.parameter_count();
  need.steps = recipe.train.steps;
  const train::TrainOptions& o = recipe.train;
  const double micro_batch = static_cast<double>(o.batch_size) * static_cast<double>(recipe.data.context);
  need.tokens =
      countable(run, kTokenKeys, fmt::format("{}", fmt::join(kTokenKeys, " · ")),
                static_cast<double>(o.steps) * static_cast<double>(o.grad_accumulation_steps) * micro_batch);
  const double bytes = train::training_dtype(o) == at::kDouble ? 8 : 4;
  need.memory_bytes =
      countable(run, kMemoryKeys, "the memory to train, in bytes,",
                bytes * (4.0 * static_cast<double>(need.parameters) +
                         micro_batch * static_cast<double>(activations_per_token(need.config))));
  return need;
}

std::string device_problem(const RecipeRun& run) {
  const train::TrainOptions& options = run.recipe.train;
  std::string key = "run.device";
  try {
    const at::Device device = core::planned_device(run.recipe.run.device);
    key = run.schema.decisive({"train.compute_dtype", "train.dtype", key}).key();
    train::training_placement(options, device);
  } catch (const core::InputError& error) {
    return fmt::format("{}: {}", run.schema.at(key).origin(), error.what());
  }
  return "";
}

std::string memory_problem(const RecipeRun& run, const Need& need) {
  const Recipe& recipe = run.recipe;
  const auto there = static_cast<int64_t>(core::total_memory(at::kCPU));
  // The estimate is of keeping all, which these two change.
  const bool keeps_all = recipe.train.recompute == "none" && recipe.train.keep_gib == 0;
  if (need.memory_bytes <= there || !keeps_all || core::planned_device(recipe.run.device).is_cuda())
    return "";
  return fmt::format("about {} of memory are needed to train in one process, {} are there [{}]",
                     core::human_bytes(static_cast<double>(need.memory_bytes)),
                     core::human_bytes(static_cast<double>(there)), run.schema.values_text(kMemoryKeys));
}

std::vector<Need> needs_of_runs(const RecipeFile& file) {
  Problems problems;
  std::vector<Need> needs;
  for (const auto& run : file.runs) problems.attempt([&] { needs.push_back(need_of(*run)); });
  problems.throw_if_any();
  return needs;
}

void check_needs(const RecipeFile& file, const RecipeArguments& arguments) {
  check_files(file, ReadThrough::kEvaluation);
  needs_of_runs(file);  // for its problems
  const int64_t threads = file.first().run.threads;
  if (arguments.common.threads == 0 && threads > 0) at::set_num_threads(static_cast<int>(threads));
}

RecipeFile checked_recipe(const RecipeArguments& arguments) {
  RecipeFile file = load_recipe(arguments.file, arguments.sets);
  check_needs(file, arguments);
  return file;
}

}  // namespace exactmamba::cli
