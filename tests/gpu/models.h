// The small models of the tests on the GPU.
#pragma once

#include "models/mamba_lm.h"
#include "tests/gpu/place.h"
#include "tests/support/random_model.h"

namespace exactmamba::gpu_tests {

inline models::ModelConfig config_of(models::Architecture architecture, models::ActivationKind activation) {
  models::ModelConfig config;
  config.architecture = architecture;
  config.vocab_size = 61;
  config.vocab_rows = 64;
  config.d_model = 64;
  config.n_layer = 3;
  config.d_state = architecture == models::Architecture::kMamba1 ? 16 : 128;
  config.dt_rank = 4;
  config.headdim = 64;
  config.activation = {activation, 1.0};
  return config;
}

inline models::Placement on_gpu(at::ScalarType compute) {
  return {at::kFloat, at::Device(at::kCUDA, 0), compute};
}

struct Case {
  models::Architecture architecture;
  models::ActivationKind activation;
};
inline constexpr Case kCases[] = {{models::Architecture::kMamba1, models::ActivationKind::kSilu},
                                  {models::Architecture::kMamba1, models::ActivationKind::kIdentity},
                                  {models::Architecture::kMamba2, models::ActivationKind::kSilu},
                                  {models::Architecture::kMamba2, models::ActivationKind::kRelu}};

}  // namespace exactmamba::gpu_tests
