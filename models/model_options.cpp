#include "models/model_options.h"

#include <utility>

#include "core/environment.h"
#include "core/error.h"
#include "models/checkpoint.h"
#include "models/initialisation.h"

namespace exactmamba::models {
namespace {

constexpr const char* kFrom = "model.from";  // a checkpoint brings its sizes and weights with it
constexpr const char* kArchitecture = "model.architecture";

core::Option& of_new_model(core::Option& option) { return option.only_without(kFrom); }

void bind_sizes(core::Schema& schema, ModelOptions& options) {
  of_new_model(schema.option(kArchitecture, &options.architecture))
      .choices(core::choices_of(kArchitectureNames))
      .help("Kind of mixer.");
  of_new_model(schema.option("model.d_model", &options.d_model))
      .range(1, 65536)
      .help("Width of the residual stream.");
  of_new_model(schema.option("model.n_layer", &options.n_layer)).range(1, 1024).help("Number of blocks.");
  of_new_model(schema.option("model.d_state", &options.d_state))
      .range(1, 4096)
      .help("State size N of the scan.");
  of_new_model(schema.option("model.d_conv", &options.d_conv))
      .range(1, 16)
      .unit("tokens")
      .help("Width of the causal convolution.");
  of_new_model(schema.option("model.expand", &options.expand))
      .range(1, 16)
      .help("d_inner = expand · d_model.");
  of_new_model(schema.option("model.tie_embeddings", &options.tie_embeddings))
      .help("The head uses the embedding's weights.");
  of_new_model(schema.option("model.norm_eps", &options.norm_eps))
      .range(1e-30, 1)
      .help("Epsilon of every RMSNorm.");
}

void bind_mixers(core::Schema& schema, ModelOptions& options) {
  of_new_model(schema.option("model.dt_rank", &options.dt_rank))
      .range(0, 65536)
      .only_with(kArchitecture, {"mamba1"})
      .help("Rank of the step size; 0 = ceil(d_model / 16).");
  of_new_model(schema.option("model.headdim", &options.headdim))
      .range(1, 65536)
      .only_with(kArchitecture, {"mamba2"})
      .help("Channels of a head; divides d_inner.");
  of_new_model(schema.option("model.ngroups", &options.ngroups))
      .range(1, 65536)
      .only_with(kArchitecture, {"mamba2"})
      .help("Groups of heads that share B and C; divides the number of heads.");
  of_new_model(schema.option("model.chunk_size", &options.chunk_size))
      .range(1, 65536)
      .unit("tokens")
      .only_with(kArchitecture, {"mamba2"})
      .help("Chunk of the scan; changes rounding only.");
}

core::Option& mimetic(core::Option& option) {
  return of_new_model(option).only_with("model.init", {"mimetic"});
}

void bind_initialisation(core::Schema& schema, ModelOptions& options) {
  of_new_model(schema.option("model.init", &options.init))
      .choices({"standard", "mimetic"})
      .help("Starting weights: as state-spaces/mamba, or mimetic on top of that (Trockman et al. 2024).");
  mimetic(schema.option("model.mimetic_layers", &options.mimetic_layers))
      .range(0, 1023)
      .help("Layers that mimetic initialisation changes; empty = all.");
  mimetic(schema.option("model.mimetic_state", &options.mimetic_state))
      .help("A_log ← −8 A_log, so that the state hardly decays.");
  mimetic(schema.option("model.mimetic_step_size", &options.mimetic_step_size)).help("Step size near 1.");
  mimetic(schema.option("model.mimetic_convolution", &options.mimetic_convolution))
      .help("The convolution passes the current token through.");
  mimetic(schema.option("model.mimetic_correlate_BC", &options.mimetic_correlate_BC))
      .help("B's projection becomes the mean of B's and C's.");
  mimetic(schema.option("model.mimetic_faithful_fork", &options.mimetic_faithful_fork))
      .only_with(kArchitecture, {"mamba2"})
      .only_with("model.mimetic_correlate_BC", {"true"})
      .help("Cut B and C by the number of heads instead of d_state, as the published code does.");
}

/// What ModelConfig::check() would say, in the recipe's words.
void add_rules(core::Schema& schema, const ModelOptions& o) {
  const auto is_new_mamba2 = [&o] { return o.from.empty() && o.architecture == "mamba2"; };
  schema.rule({"model.headdim", "model.d_model", "model.expand"}, [=, &o]() -> std::string {
    if (!is_new_mamba2() || o.expand * o.d_model % o.headdim == 0) return "";
    return fmt::format("model.headdim = {} does not divide model.expand · model.d_model = {}", o.headdim,
                       o.expand * o.d_model);
  });
  schema.rule({"model.ngroups", "model.headdim", "model.d_model", "model.expand"}, [=, &o]() -> std::string {
    const int64_t heads = o.expand * o.d_model / o.headdim;
    if (!is_new_mamba2() || heads == 0 || heads % o.ngroups == 0) return "";
    return fmt::format("model.ngroups = {} does not divide the number of heads, {}", o.ngroups, heads);
  });
}

MimeticOptions mimetic_options(const ModelOptions& options) {
  MimeticOptions mimetic;
  mimetic.state = options.mimetic_state;
  mimetic.step_size = options.mimetic_step_size;
  mimetic.convolution = options.mimetic_convolution;
  mimetic.correlate_BC = options.mimetic_correlate_BC;
  mimetic.faithful_fork = options.mimetic_faithful_fork;
  mimetic.layers = options.mimetic_layers;
  return mimetic;
}

MambaLM continued_model(const ModelOptions& options, int64_t vocab_size, at::ScalarType dtype,
                        bool annealed) {
  LoadOptions load;
  load.dtype = dtype;
  load.names = options.names_file();
  MambaLM loaded = load_model(options.checkpoint(), load);
  const ModelConfig config = continued_config(options, loaded.config(), vocab_size, annealed);
  const bool has_rows = config.vocab_rows == loaded.config().vocab_rows;
  MambaLM model = has_rows ? std::move(loaded) : with_vocab_rows(loaded, config.vocab_rows);
  model.set_vocab_size(config.vocab_size);
  model.set_activation(config.activation);
  return model;
}

/// As public models pad them.
int64_t padded_rows(Architecture architecture, int64_t vocab_size) {
  return padded_vocabulary(vocab_size, architecture == Architecture::kMamba1 ? 8 : 16);
}

}  // namespace

std::filesystem::path ModelOptions::checkpoint() const { return core::expand_environment(from); }

std::optional<std::filesystem::path> ModelOptions::names_file() const {
  if (names.empty()) return std::nullopt;
  return core::expand_environment(names);
}

void bind(core::Schema& schema, ModelOptions& options) {
  schema.table("model", "What is trained: the sizes of a new model, or the checkpoint to continue from.");
  bind_sizes(schema, options);
  bind_mixers(schema, options);
  schema.option("model.conv_activation", &options.conv_activation)
      .choices({"silu", "relu", "identity"})
      .help("Activation behind the convolution; identity makes the decomposition exact.");
  bind_initialisation(schema, options);
  schema.option(kFrom, &options.from)
      .help(
          "Folder of a checkpoint to continue from; its sizes are then used. $NAME at the start is an "
          "environment variable, ~ the home folder.");
  schema.option("model.names", &options.names)
      .only_with(kFrom)
      .help("TOML table of foreign tensor names, for `from`; its name as in `from`.");
  schema.option("model.append_tokens", &options.append_tokens)
      .only_with(kFrom)
      .help(
          "The data may have more tokens than the checkpoint: they come behind its own, first in the rows of "
          "padding that it has, which stay as they are, then in new rows, each the mean of the old ones. "
          "Hugging Face configs count padding as tokens, so that such rows are used in any case.");
  add_rules(schema, options);
}

ModelConfig config_from_options(const ModelOptions& options, int64_t vocab_size) {
  ModelConfig config;
  config.architecture =
      core::enum_from_name<Architecture>(kArchitectureNames, options.architecture, kArchitecture);
  config.vocab_size = vocab_size;
  config.vocab_rows = padded_rows(config.architecture, vocab_size);
  config.d_model = options.d_model;
  config.n_layer = options.n_layer;
  config.d_state = options.d_state;
  config.d_conv = options.d_conv;
  config.expand = options.expand;
  config.dt_rank = options.dt_rank > 0 ? options.dt_rank : default_dt_rank(options.d_model);
  config.headdim = options.headdim;
  config.ngroups = options.ngroups;
  config.chunk_size = options.chunk_size;
  config.norm_eps = options.norm_eps;
  config.tie_embeddings = options.tie_embeddings;
  config.activation.kind = activation_from_name(options.conv_activation, "model.conv_activation");
  config.check("model");
  return config;
}

ConvActivation continued_activation(const ModelOptions& options, const ConvActivation& own, bool annealed) {
  const ActivationKind wanted = activation_from_name(options.conv_activation, "model.conv_activation");
  if (own.kind == ActivationKind::kSilu) return {wanted, 1.0};
  const std::string name = activation_name(own.kind);
  core::require(
      own.alpha == 1.0,
      "model.from: '{}' is in the middle of an annealing from silu to '{}', at alpha = {}, and such a "
      "model cannot be continued; give a checkpoint with alpha = 1, or finish the training that made it",
      options.from, name, own.alpha);
  core::require(own.kind == wanted,
                "model.conv_activation is '{}', but '{}' was trained with '{}', and only a silu model can "
                "continue with another activation; set model.conv_activation = \"{}\"",
                options.conv_activation, options.from, name, name);
  core::require(!annealed,
                "train.annealing starts at silu, but '{}' in model.from was trained with '{}'; set "
                "train.annealing = \"none\", or start from a silu model",
                options.from, name);
  return own;
}

ModelConfig continued_config(const ModelOptions& options, const ModelConfig& own, int64_t vocab_size,
                             bool annealed) {
  core::require(
      vocab_size <= own.vocab_size || options.append_tokens,
      "model.from: {} has a vocabulary of {} tokens, but the data has {}; use the tokenizer that it "
      "was trained with, or set model.append_tokens = true to learn the others",
      options.from, own.vocab_size, vocab_size);
  ModelConfig config = own;
  config.vocab_size = vocab_size;
  if (vocab_size > own.vocab_rows) config.vocab_rows = padded_rows(own.architecture, vocab_size);
  config.activation = continued_activation(options, own.activation, annealed);
  return config;
}

MambaLM make_model(const ModelOptions& options, int64_t vocab_size, uint64_t seed, at::ScalarType dtype,
                   bool annealed) {
  if (!options.from.empty()) return continued_model(options, vocab_size, dtype, annealed);
  MambaLM model(config_from_options(options, vocab_size), dtype);
  initialise(model, seed);
  if (options.init == "mimetic") apply_mimetic(model, mimetic_options(options));
  return model;
}

}  // namespace exactmamba::models
