// The additive approximations f of u_t = φ(b + Σ_k w_k ⊙ x_{t-k}): what lag k adds to u_t, given its piece
// p_k = w_k ⊙ x_{t-k}. (design: maths §2; golden/decomposition/README.md has the same table with every choice
// made.)
#pragma once

#include "core/names.h"

namespace exactmamba::decomp {

enum class Approximation {
  kActivation,  // φ(p_k)
  kIdentity,    // p_k
  kRelu,        // max(p_k, 0)
  kTaylor,      // φ'(0) p_k
  kRatio        // p_k ⊙ φ(a)/a: sums exactly for every φ
};

/// Where the convolution's bias (and out_proj's) goes.
enum class BiasRule {
  kOwn,      // to the piece of lag 0: the token's own contribution carries it
  kSeparate  // to a column of its own behind the last token
};

inline constexpr core::Names<5> kApproximationNames = {"activation", "identity", "relu", "taylor", "ratio"};
inline constexpr core::Names<2> kBiasRuleNames = {"own", "separate"};

const char* approximation_name(Approximation approximation);
const char* bias_rule_name(BiasRule bias);

/// @throws InputError naming `where` and the names there are.
Approximation approximation_from_name(const std::string& name, const std::string& where);
BiasRule bias_rule_from_name(const std::string& name, const std::string& where);

}  // namespace exactmamba::decomp
