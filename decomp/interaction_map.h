// One number per (i, j): what an aggregation of a layer, or of the whole model, says about output position i
// and token j. row_file.h has the form on disk.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace exactmamba::decomp {

/// The layer of maps that speak of the whole model.
inline constexpr int64_t kWholeModel = -1;

/// What was decomposed, and by which model.
struct RowOrigin {
  int64_t index = 0;                // which text
  std::vector<int64_t> tokens;      // (L)
  std::vector<int64_t> cu_seqlens;  // (S+1)
  std::string model_checksum;       // as decompose_row() was given it

  bool operator==(const RowOrigin&) const = default;
};

struct InteractionMap {
  at::Tensor
      values;  // (L, L), or (L, L+1) with a bias column behind the tokens; float or double, as computed
  std::string method;         // "l1", "l2", "linf", "alti", "rollout", "alti_logit", "alti_logit_mixed",
                              // "mamba_attention", "mamba_attention_signed", "mamba_attention_rollout"
  std::string approximation;  // "activation", …; "" for mamba_attention, which needs none
  std::string bias;           // "own" | "separate"
  int64_t layer = kWholeModel;
  RowOrigin row;

  // Parts of a logit that belong to no token of the map; only with method alti_logit of the whole model, else
  // undefined. Row sums of values + embedding + rest + biases = target_logits.
  at::Tensor target_tokens;  // (L) int64: whose logit
  at::Tensor target_logits;  // (L)
  at::Tensor embedding;      // (L) the token's own embedding in the residual stream
  at::Tensor rest;           // (L, layers) what the approximation misses
  at::Tensor biases;         // (L, layers) T_i(bias); with bias = separate only

  /// "row0.layer2.activation.l2"; whole model: "row0.activation.alti_logit"; "row0.layer2.mamba_attention"
  std::string name() const;
  /// For readers: "l2 · activation", "mamba_attention".
  std::string title() const;
};

/// InteractionMap::title() of a map by `method`.
std::string map_title(const std::string& method, const std::string& approximation);

}  // namespace exactmamba::decomp
