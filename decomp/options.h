// The recipe's table [decompose].
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "decomp/approximation.h"
#include "decomp/approximation_error.h"

namespace exactmamba::core {
class Schema;
}

namespace exactmamba::decomp {

inline constexpr core::Names<9> kMethodNames = {"l1",
                                                "l2",
                                                "linf",
                                                "alti",
                                                "rollout",
                                                "alti_logit",
                                                "mamba_attention",
                                                "mamba_attention_signed",
                                                "mamba_attention_rollout"};

struct DecomposeOptions {
  std::vector<std::string> approximations = {"activation"};  // at least one
  std::string bias = "own";
  std::vector<std::string> methods = {"l2"};  // of kMethodNames
  std::string error = "l2_mean";              // the measure that tables show
  std::string dtype = "float32";              // of traces, sums and maps
  std::vector<int64_t> layers;                // whose maps are kept; empty: all
  int64_t max_rows = 64;                      // texts to decompose

  at::ScalarType scalar_type() const;  // kFloat or kDouble
  BiasRule bias_rule() const;
  bool wants(const std::string& method) const;
};

/// Titles of the maps that the methods make, of layers or of the whole model: "l2 · activation",
/// "mamba_attention".
std::vector<std::string> map_titles(const DecomposeOptions& options);

/// Declares [decompose] with its ranges, choices and help.
void bind(core::Schema& schema, DecomposeOptions& options);

}  // namespace exactmamba::decomp
