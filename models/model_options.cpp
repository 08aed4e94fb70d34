#include "models/model_options.h"

#include "core/error.h"
#include "models/checkpoint.h"
#include "models/initialisation.h"

namespace exactmamba::models {
namespace {

/// What a checkpoint brings with it and a recipe must therefore not set beside `from`.
const std::vector<std::string> kGivenByCheckpoint = {
    "model.architecture", "model.d_model",        "model.n_layer", "model.d_state", "model.d_conv",
    "model.expand",       "model.dt_rank",        "model.headdim", "model.ngroups", "model.chunk_size",
    "model.norm_eps",     "model.tie_embeddings", "model.init"};

void bind_sizes(core::Schema& schema, ModelOptions& options) {
  schema.option("model.architecture", &options.architecture)
      .choices({"mamba1", "mamba2"})
      .help("Kind of mixer.");
  schema.option("model.d_model", &options.d_model).range(1, 65536).help("Width of the residual stream.");
  schema.option("model.n_layer", &options.n_layer).range(1, 1024).help("Number of blocks.");
  schema.option("model.d_state", &options.d_state).range(1, 4096).help("State size N of the scan.");
  schema.option("model.d_conv", &options.d_conv)
      .range(1, 16)
      .unit("tokens")
      .help("Width of the causal convolution.");
  schema.option("model.expand", &options.expand).range(1, 16).help("d_inner = expand · d_model.");
  schema.option("model.dt_rank", &options.dt_rank)
      .range(0, 65536)
      .help("Mamba-1: rank of the step size; 0 = ceil(d_model / 16).");
  schema.option("model.headdim", &options.headdim)
      .range(1, 65536)
      .help("Mamba-2: channels of a head; divides d_inner.");
  schema.option("model.ngroups", &options.ngroups)
      .range(1, 65536)
      .help("Mamba-2: groups of heads that share B and C.");
  schema.option("model.chunk_size", &options.chunk_size)
      .range(1, 65536)
      .unit("tokens")
      .help("Mamba-2: chunk of the scan; changes rounding only.");
  schema.option("model.tie_embeddings", &options.tie_embeddings)
      .help("The head uses the embedding's weights.");
  schema.option("model.norm_eps", &options.norm_eps).range(0, 1).help("Epsilon of every RMSNorm.");
}

void bind_initialisation(core::Schema& schema, ModelOptions& options) {
  schema.option("model.init", &options.init)
      .choices({"standard", "mimetic"})
      .help("Starting weights: as state-spaces/mamba, or mimetic on top of that (Trockman et al. 2024).");
  schema.option("model.mimetic_layers", &options.mimetic_layers)
      .range(0, 1023)
      .help("Layers that mimetic initialisation changes; empty = all.");
  schema.option("model.mimetic_state", &options.mimetic_state)
      .help("Mimetic: A_log ← −8 A_log, so that the state hardly decays.");
  schema.option("model.mimetic_step_size", &options.mimetic_step_size).help("Mimetic: step size near 1.");
  schema.option("model.mimetic_convolution", &options.mimetic_convolution)
      .help("Mimetic: the convolution passes the current token through.");
  schema.option("model.mimetic_correlate_BC", &options.mimetic_correlate_BC)
      .help("Mimetic: B's projection becomes the mean of B's and C's.");
  schema.option("model.mimetic_faithful_fork", &options.mimetic_faithful_fork)
      .help("Mamba-2: cut B and C by the number of heads instead of d_state, as the published code does.");
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

int64_t padded(int64_t vocab_size, Architecture architecture) {
  const int64_t multiple = architecture == Architecture::kMamba1 ? 8 : 16;
  return (vocab_size + multiple - 1) / multiple * multiple;
}

MambaLM continued_model(const ModelOptions& options, int64_t vocab_size, at::ScalarType dtype,
                        bool annealed) {
  LoadOptions load;
  load.dtype = dtype;
  if (!options.names.empty()) load.names = options.names;
  MambaLM model = load_model(options.from, load);
  model.set_vocab_size(vocab_size);
  model.set_activation(continued_activation(options, model.config().activation, annealed));
  return model;
}

}  // namespace

void bind(core::Schema& schema, ModelOptions& options) {
  schema.table("model", "What is trained: the sizes of a new model, or the checkpoint to continue from.");
  bind_sizes(schema, options);
  schema.option("model.conv_activation", &options.conv_activation)
      .choices({"silu", "relu", "identity"})
      .help("Activation behind the convolution; identity makes the decomposition exact.");
  bind_initialisation(schema, options);
  schema.option("model.from", &options.from)
      .help("Folder of a checkpoint to continue from; its sizes are then used.");
  schema.option("model.names", &options.names).help("TOML table of foreign tensor names, for `from`.");
  for (const std::string& key : kGivenByCheckpoint) {
    schema.rule({"model.from", key}, [&schema, &options, key]() -> std::string {
      if (options.from.empty() || !schema.at(key).is_set()) return "";
      return key + " is set, but it comes from the checkpoint in model.from; remove one of the two";
    });
  }
  schema.rule({"model.names", "model.from"}, [&options]() -> std::string {
    return options.names.empty() || !options.from.empty() ? "" : "model.names is set without model.from";
  });
}

ModelConfig config_from_options(const ModelOptions& options, int64_t vocab_size) {
  ModelConfig config;
  config.architecture = options.architecture == "mamba1" ? Architecture::kMamba1 : Architecture::kMamba2;
  config.vocab_size = vocab_size;
  config.vocab_rows = padded(vocab_size, config.architecture);
  config.d_model = options.d_model;
  config.n_layer = options.n_layer;
  config.d_state = options.d_state;
  config.d_conv = options.d_conv;
  config.expand = options.expand;
  config.dt_rank = options.dt_rank > 0 ? options.dt_rank : (options.d_model + 15) / 16;
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
                "continue with "
                "another activation; set model.conv_activation = \"{}\"",
                options.conv_activation, options.from, name, name);
  core::require(!annealed,
                "train.annealing starts at silu, but '{}' in model.from was trained with '{}'; set "
                "train.annealing = \"none\", or start from a silu model",
                options.from, name);
  return own;
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
