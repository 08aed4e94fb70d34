// Consumers of tiles: what becomes of the T_i(x_j) of one layer. Maps are (L, L), or (L, L+1) with a bias
// column; zero where j > i or in another sequence. Definitions: golden/decomposition/README.md.
#pragma once

#include "decomp/approximation.h"
#include "decomp/contribution_tile.h"
#include "models/layer_trace.h"

namespace exactmamba::decomp {

/// Columns of a map of this trace: L, or L + 1 with the bias column.
int64_t map_columns(const models::LayerTrace& trace, BiasRule bias);

enum class Norm { kL1, kL2, kLinf };

/// ‖T_i(x_j)‖_p
class NormMap : public Aggregator {
 public:
  NormMap(const models::LayerTrace& trace, BiasRule bias, Norm norm);
  bool projects() const override { return true; }
  void add(const ContributionTile& tile) override;
  const at::Tensor& map() const { return map_; }

 private:
  Norm norm_;
  at::Tensor map_;
};

/// ALTI (Ferrando et al. 2022): max(0, ‖y_i‖₁ − ‖y_i − T_i(x_j)‖₁), divided by its row sum; a zero row stays
/// zero. `with_residual`: y_i + r_i and T_i(x_i) + r_i in their place, a zero row becomes one-hot at i: rows
/// sum to 1, ready for rollout.
class AltiMap : public Aggregator {
 public:
  AltiMap(const models::LayerTrace& trace, BiasRule bias, bool with_residual);
  bool projects() const override { return true; }
  void add(const ContributionTile& tile) override;
  /// The normalised map; call it once, after the last tile.
  at::Tensor finish();

 private:
  at::Tensor y_, r_, y_norm_;  // (L, d) with the residual where asked for; r_ [nullable]; (L)
  at::Tensor map_;
};

/// ⟨g_i, T_i(x_j)⟩ for a direction g_i per position, as ⟨W_outᵀ g_i, s_i ⊙ υ⟩: no product with W_out per
/// pair.
class LogitMap : public Aggregator {
 public:
  /// `directions` (L, d): g_i.
  LogitMap(const models::LayerTrace& trace, BiasRule bias, const at::Tensor& directions);
  bool projects() const override { return false; }
  void add(const ContributionTile& tile) override;
  const at::Tensor& map() const { return map_; }

 private:
  at::Tensor pulled_;       // (L, D) W_outᵀ g_i
  at::Tensor bias_logits_;  // (L) ⟨g_i, out_bias⟩ [nullable]
  bool own_bias_;
  at::Tensor map_;
};

/// T_i(x_j) itself, for short inputs: pairs row-major by (i, j).
class FullContributions : public Aggregator {
 public:
  FullContributions(const models::LayerTrace& trace, BiasRule bias);
  bool projects() const override { return true; }
  void add(const ContributionTile& tile) override;

  const at::Tensor& pairs() const { return pairs_; }                  // (n, 2) int64
  const at::Tensor& contributions() const { return contributions_; }  // (n, d)
  const at::Tensor& bias() const { return bias_; }  // (L, d) T_i(bias), BiasRule::kSeparate only [nullable]

 private:
  at::Tensor pairs_, contributions_, bias_;
  std::vector<int64_t> row_begin_;    // [i] index of pair (i, first token of its sequence)
  std::vector<int64_t> first_token_;  // [i]
};

}  // namespace exactmamba::decomp
