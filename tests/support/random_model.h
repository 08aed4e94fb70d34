// Small models with nothing at its initial value, and batches to feed them.
#pragma once

#include <vector>

#include <ATen/ops/tensor.h>

#include "core/random.h"
#include "data/batch.h"
#include "models/initialisation.h"

namespace exactmamba::testing {

/// Standard initialisation with N(0, deviation) added to every parameter.
inline models::MambaLM random_model(const models::ModelConfig& config, at::ScalarType dtype, double deviation,
                                    uint64_t seed) {
  models::MambaLM model(config, dtype);
  models::initialise(model, seed);
  for (const models::ParameterSpec& spec : model.parameters().specs()) {
    at::Tensor noise = model.parameters().parameter(spec.name).clone();
    core::RandomStream(seed, "noise." + spec.name).fill_normal(noise, 0.0, deviation);
    model.parameters().parameter(spec.name).add_(noise);
  }
  return model;
}

/// (rows, length) random tokens; sequences begin at `starts` (flattened) and have no target at their ends.
inline data::Batch random_batch(int64_t rows, int64_t length, int64_t vocab_size, std::vector<int32_t> starts,
                                uint64_t seed) {
  core::RandomStream random(seed, "tokens");
  std::vector<int64_t> ids(static_cast<size_t>(rows * length));
  for (int64_t& id : ids) id = random.uniform_int(0, vocab_size - 1);
  std::vector<int64_t> targets(ids.begin() + 1, ids.end());
  targets.push_back(data::kIgnoredTarget);
  for (size_t s = 1; s < starts.size(); ++s)
    targets[static_cast<size_t>(starts[s]) - 1] = data::kIgnoredTarget;
  const auto sequences = static_cast<int64_t>(starts.size());
  starts.push_back(static_cast<int32_t>(rows * length));
  return {at::tensor(ids, at::kLong).view({rows, length}),
          at::tensor(targets, at::kLong).view({rows, length}), at::tensor(starts, at::kInt),
          rows * length - sequences};
}

}  // namespace exactmamba::testing
