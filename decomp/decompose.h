// Decomposition of whole rows: runs the model, and takes every layer's trace apart as it passes by.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "decomp/aggregators.h"
#include "decomp/approximation_error.h"
#include "decomp/interaction_map.h"
#include "decomp/options.h"
#include "models/mamba_lm.h"

namespace exactmamba::decomp {

/// One row of L tokens, several packed sequences perhaps.
struct Row {
  at::Tensor input_ids;   // (L) int64
  at::Tensor cu_seqlens;  // (S+1) int32; undefined: one sequence
  at::Tensor
      targets;  // (L) int64: whose logit alti_logit splits; kPredicted, or undefined: the predicted token's
  int64_t index = 0;  // RowOrigin::index
};
inline constexpr int64_t kPredicted = -1;

/// Targets (L) that are the tokens that follow; kPredicted at the end of each sequence.
at::Tensor next_tokens(const Row& row);

RowOrigin origin_of(const Row& row, const std::string& model_checksum);

/// Errors of every layer, per approximation.
struct ErrorTable {
  std::vector<std::string> approximations;
  std::vector<std::vector<ApproximationError>> errors;  // [approximation][layer]
  std::string bias, dtype;
  /// Adds another row's errors; an empty table takes them over.
  ErrorTable& operator+=(const ErrorTable& other);
};

using MapVisitor = std::function<void(const InteractionMap&)>;

/// Hands over each map as soon as it is complete (memory: one layer's maps, and the rollout), layer by layer
/// from the bottom, whole-model maps last. `model` must be of options.scalar_type(): MambaLM::to();
/// `model_checksum` is model.parameters().checksum(), made once for all rows: it reads every weight.
/// @throws InputError otherwise, and for input ids or targets outside the vocabulary; NumericalError, with
/// row and layer, when a map or an error is not finite
ErrorTable decompose_row(const models::MambaLM& model, const std::string& model_checksum, const Row& row,
                         const DecomposeOptions& options, const MapVisitor& visit);

struct Decomposition {
  std::vector<InteractionMap> maps;
  ErrorTable errors;
};
/// At most options.max_rows rows, all maps kept; converts the model to the options' dtype.
Decomposition decompose(const models::MambaLM& model, const std::vector<Row>& rows,
                        const DecomposeOptions& options);

/// T_i(x_j) of one layer under one approximation.
struct LayerContributions {
  int64_t layer = 0;
  std::string approximation;
  at::Tensor values;  // (n, d), a row a pair
  at::Tensor bias;    // (L, d) T_i(bias), with bias = separate only [nullable]
};
struct RowContributions {
  at::Tensor pairs;  // (n, 2) int64: i and j ≤ i of the same sequence, row-major
  std::vector<LayerContributions> layers;
};

/// Of the options' layers and approximations; for short rows.
/// @throws InputError as decompose_row(), and when all contributions together exceed `limit_bytes`
RowContributions full_contributions(const models::MambaLM& model, const Row& row,
                                    const DecomposeOptions& options, int64_t limit_bytes = int64_t{4} << 30);

}  // namespace exactmamba::decomp
