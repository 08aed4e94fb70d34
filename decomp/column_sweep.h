// How the rows s_i ⊙ υ_{i←j} of tiles are made: for a block of tokens j, block after block of positions i.
// Internal to decomp/.
#pragma once

#include <algorithm>
#include <memory>

#include <ATen/core/Tensor.h>

#include "decomp/pieces.h"
#include "models/layer_trace.h"

namespace exactmamba::decomp {

/// The causal pairs of positions [i_begin, i_end) × tokens [j_begin, j_end), i_begin ≥ j_begin, numbered
/// row-major.
struct TileRange {
  int64_t i_begin, i_end, j_begin, j_end;

  int64_t width(int64_t i) const { return std::min(i + 1, j_end) - j_begin; }
  /// Number of the pair (i, j_begin); offset(i_end) is the number of pairs.
  int64_t offset(int64_t i) const {
    const int64_t growing =
        std::max<int64_t>(0, std::min(i, j_end - 1) - i_begin);  // rows that are not yet full
    return growing * (i_begin - j_begin) + growing * (growing + 1) / 2 +
           (i - i_begin - growing) * (j_end - j_begin);
  }
  int64_t size() const { return offset(i_end); }
};

class ColumnSweep {
 public:
  virtual ~ColumnSweep() = default;
  /// From now on tokens [j_begin, j_end), of a sequence that ends at sequence_end.
  virtual void start(int64_t j_begin, int64_t j_end, int64_t sequence_end) = 0;
  /// The next rows, ascending from i = j_begin without gaps, into `gated` (range.size(), D).
  virtual void fill(const TileRange& range, at::Tensor& gated) = 0;
};

/// M by recurrence in i, one state (D, N) per token. `scale` (L, D): output_scale(). All arguments must
/// outlive the sweep.
std::unique_ptr<ColumnSweep> make_mamba1_sweep(const models::LayerTrace& trace, const Pieces& pieces,
                                               const at::Tensor& scale);
/// M as a masked product of C and B per head.
std::unique_ptr<ColumnSweep> make_mamba2_sweep(const models::LayerTrace& trace, const Pieces& pieces,
                                               const at::Tensor& scale);

}  // namespace exactmamba::decomp
