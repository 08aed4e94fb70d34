// The published sizes that the GPU benchmarks take, with random weights.
#pragma once

#include <string>

#include "models/initialisation.h"
#include "models/mamba_lm.h"

namespace exactmamba::bench {

struct ModelSize {
  const char* name;
  models::Architecture architecture;
  int64_t d_model, n_layer;
};
inline constexpr ModelSize kModelSizes[] = {{"mamba1-130m", models::Architecture::kMamba1, 768, 24},
                                            {"mamba1-370m", models::Architecture::kMamba1, 1024, 48},
                                            {"mamba2-130m", models::Architecture::kMamba2, 768, 24},
                                            {"mamba2-370m", models::Architecture::kMamba2, 1024, 48}};

inline constexpr int64_t kVocabulary = 50280;

inline models::ModelConfig config_of(const ModelSize& size) {
  models::ModelConfig config;
  config.architecture = size.architecture;
  config.vocab_size = kVocabulary;
  config.vocab_rows = models::padded_vocabulary(kVocabulary, 16);
  config.d_model = size.d_model;
  config.n_layer = size.n_layer;
  config.d_state = size.architecture == models::Architecture::kMamba1 ? 16 : 128;
  config.dt_rank = models::default_dt_rank(size.d_model);
  config.headdim = 64;
  return config;
}

inline models::MambaLM random_model(const models::ModelConfig& config, const models::Placement& placement) {
  models::MambaLM model(config, at::kFloat);
  models::initialise(model, 1);
  return model.to(placement);
}

/// Multiplications and additions of the matrix products of one token, forward.
inline double product_operations(const models::ModelConfig& c) {
  const double per_layer = static_cast<double>(c.in_proj_rows() + c.d_inner()) * c.d_model,
               steps = c.architecture == models::Architecture::kMamba1
                           ? static_cast<double>(c.d_inner()) * (2 * c.dt_rank + 2 * c.d_state)
                           : 0;
  return 2 * (c.n_layer * (per_layer + steps) + static_cast<double>(c.vocab_rows) * c.d_model);
}

}  // namespace exactmamba::bench
