#include "cli/plan.h"

#include <filesystem>

#include "core/environment.h"
#include "core/error.h"
#include "models/checkpoint.h"

namespace exactmamba::cli {
namespace {

void check_files(const std::string& key, const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    const std::filesystem::path file = core::expand_environment(name);
    core::require<core::IoError>(std::filesystem::is_regular_file(file), "{}: {}: no such file", key,
                                 file.string());
  }
}

models::ModelConfig config_of(const Recipe& recipe, int64_t vocabulary) {
  if (recipe.model.from.empty()) return models::config_from_options(recipe.model, vocabulary);
  models::ModelConfig config = models::load_config(recipe.model.from);
  core::require(vocabulary <= config.vocab_size,
                "model.from: {} has a vocabulary of {} tokens, but the data has {}", recipe.model.from,
                config.vocab_size, vocabulary);
  return config;
}

/// Values of a micro-batch that backward reads, a position: the stream and its norm, and in each block the
/// projections, the convolution's input and output, the scan's inputs and output, and the gate.
int64_t activations_per_token(const models::ModelConfig& config) {
  const int64_t block =
      2 * config.d_model + config.in_proj_rows() + config.conv_channels() + 3 * config.d_inner();
  return config.n_layer * block + 4 * config.d_model;
}

}  // namespace

Need need_of(const Recipe& recipe) {
  check_files("data.train", recipe.data.train);
  check_files("data.valid", recipe.data.valid);
  const auto tokenizer = data::make_tokenizer(recipe.data);
  Need need;
  need.vocabulary = tokenizer ? tokenizer->vocab_size() : recipe.data.vocab_size;
  const models::ModelConfig config = config_of(recipe, need.vocabulary);
  need.parameters = config.parameter_count();
  need.steps = recipe.train.steps;
  const int64_t micro_batch = recipe.train.batch_size * recipe.data.context;
  need.tokens = need.steps * recipe.train.grad_accumulation_steps * micro_batch;
  const int64_t bytes = train::training_dtype(recipe.train) == at::kDouble ? 8 : 4;
  need.memory_bytes = bytes * (4 * need.parameters + micro_batch * activations_per_token(config));
  return need;
}

}  // namespace exactmamba::cli
