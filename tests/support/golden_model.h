// Golden models and batches, read from tests/golden.
#pragma once

#include <string>

#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/ne.h>
#include <ATen/ops/sum.h>

#include "core/safetensors.h"
#include "data/batch.h"
#include "models/checkpoint.h"
#include "tests/support/tensors.h"

namespace exactmamba::testing {

inline models::MambaLM golden_model(const std::string& folder, at::ScalarType dtype,
                                    models::ActivationKind activation = models::ActivationKind::kSilu) {
  models::LoadOptions options;
  options.dtype = dtype;
  models::MambaLM model = models::load_model(golden(folder), options);
  model.set_activation({activation, 1.0});
  return model;
}

/// Targets that are not -100, counted.
inline int64_t target_count(const at::Tensor& targets) {
  return targets.ne(data::kIgnoredTarget).sum().item<int64_t>();
}

/// Boundaries at the rows' starts only.
inline at::Tensor row_boundaries(int64_t rows, int64_t length) {
  return at::arange(rows + 1, at::kInt).mul_(length);
}

/// "input_ids", "targets" and, where the file has it, "cu_seqlens".
inline data::Batch golden_batch(const core::SafetensorsFile& file) {
  data::Batch batch;
  batch.input_ids = file.tensor("input_ids").clone();
  batch.targets = file.tensor("targets").clone();
  batch.cu_seqlens = file.contains("cu_seqlens")
                         ? file.tensor("cu_seqlens").clone()
                         : row_boundaries(batch.input_ids.size(0), batch.input_ids.size(1));
  batch.target_count = target_count(batch.targets);
  return batch;
}

}  // namespace exactmamba::testing
