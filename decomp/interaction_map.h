// One number per (i, j): what an aggregation of a layer, or of the whole model, says about output position i
// and token j.
//
// On disk: a folder with maps.safetensors and maps.json. In Python:
//     maps = safetensors.numpy.load_file("out/maps.safetensors")
//     info = json.load(open("out/maps.json"))          # info["maps"][name], info["rows"][row]
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace exactmamba::decomp {

/// The layer of maps that speak of the whole model.
inline constexpr int64_t kWholeModel = -1;

struct InteractionMap {
  at::Tensor
      values;  // (L, L), or (L, L+1) with a bias column behind the tokens; float or double, as computed
  std::string method;         // "l1", "l2", "linf", "alti", "rollout", "alti_logit", "alti_logit_mixed"
  std::string approximation;  // "activation", …
  std::string bias;           // "own" | "separate"
  int64_t layer = kWholeModel;
  int64_t row = 0;                  // which text of the batch
  std::vector<int64_t> tokens;      // (L)
  std::vector<int64_t> cu_seqlens;  // (S+1)
  std::string model_checksum;

  // Parts of a logit that belong to no token of the map; only with method alti_logit of the whole model, else
  // undefined. Row sums of values + embedding + rest + biases = target_logits.
  at::Tensor target_tokens;  // (L) int64: whose logit
  at::Tensor target_logits;  // (L)
  at::Tensor embedding;      // (L) the token's own embedding in the residual stream
  at::Tensor rest;           // (L, layers) what the approximation misses
  at::Tensor biases;         // (L, layers) T_i(bias); with bias = separate only

  /// "row0.layer2.activation.l2"; whole model: "row0.activation.alti_logit"
  std::string name() const;
};

/// Writes maps.safetensors and maps.json into an existing folder (an AtomicFolder's). @throws InputError when
/// two maps have one name
void save_maps(const std::vector<InteractionMap>& maps, const std::filesystem::path& folder);
/// @throws IoError, InputError (malformed, or written by a newer format_version)
std::vector<InteractionMap> load_maps(const std::filesystem::path& folder);

}  // namespace exactmamba::decomp
