// The [model] table of a recipe: a new model's sizes and starting weights, or the checkpoint to continue
// from.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/schema.h"
#include "models/mamba_lm.h"

namespace exactmamba::models {

struct ModelOptions {
  std::string architecture = "mamba2";
  int64_t d_model = 64, n_layer = 2, d_state = 16, d_conv = 4, expand = 2;
  int64_t dt_rank = 0;                                 // Mamba-1; 0: ceil(d_model / 16)
  int64_t headdim = 64, ngroups = 1, chunk_size = 64;  // Mamba-2
  bool tie_embeddings = true;
  double norm_eps = 1e-5;
  std::string conv_activation = "silu";
  std::string init = "standard";
  std::vector<int64_t> mimetic_layers;
  bool mimetic_state = true, mimetic_step_size = true, mimetic_convolution = true,
       mimetic_correlate_BC = true;
  bool mimetic_faithful_fork = false;
  std::string from, names;  // as written
  bool append_tokens = false;

  /// `from` and `names` with their variables replaced. @throws InputError (core/environment.h)
  std::filesystem::path checkpoint() const;
  std::optional<std::filesystem::path> names_file() const;  // nothing when `names` is empty
};

/// Declares "model.…"; `options` must outlive the schema.
void bind(core::Schema& schema, ModelOptions& options);

/// A new model's config (`from` is empty): vocabulary rows padded as public models pad them, to 8 (Mamba-1)
/// or 16 (Mamba-2).
/// @throws InputError for sizes that do not fit together
ModelConfig config_from_options(const ModelOptions& options, int64_t vocab_size);

/// The activation with which a checkpoint in options.from, whose own is `own`, continues: a SiLU model with
/// any, others only with their own. @throws InputError for another one, for a checkpoint in the middle of an
/// annealing (α < 1), and for `annealed`, which starts at SiLU, from anything but SiLU
ConvActivation continued_activation(const ModelOptions& options, const ConvActivation& own, bool annealed);

/// What a checkpoint in options.from, whose config is `own`, becomes for data of `vocab_size` tokens. Tokens
/// beyond its own, if options.append_tokens, take the rows of padding that it has and then new ones, padded
/// as a new model's. @throws InputError for more tokens otherwise, and as continued_activation()
ModelConfig continued_config(const ModelOptions& options, const ModelConfig& own, int64_t vocab_size,
                             bool annealed);

/// New and initialised from `seed`, or loaded from options.from with continued_config() and, where that has
/// more rows, with_vocab_rows(). `annealed`: the training will anneal. @throws InputError
MambaLM make_model(const ModelOptions& options, int64_t vocab_size, uint64_t seed, at::ScalarType dtype,
                   bool annealed = false);

}  // namespace exactmamba::models
