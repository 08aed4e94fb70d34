// T_i(x_j) for a block of i × a block of j, handed to consumers and gone: nothing of size L×L×D exists.
// Letters as in design: maths (L positions, d = d_model, D = d_inner; j ≤ i).
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

namespace exactmamba::decomp {

/// Output position i and token j of the same sequence, j ≤ i; j = L is the bias column.
struct Pair {
  int64_t i, j;
};

struct ContributionTile {
  std::vector<Pair> pairs;  // row-major: i, then j
  at::Tensor gated;  // (pairs, D) s_i ⊙ υ_{i←j}, before W_out; s = SiLU(z), Mamba-2: w ⊙ ρ ⊙ SiLU(z)
  at::Tensor T;  // (pairs, d) T_i(x_j), out_proj's bias included; undefined unless an aggregator projects()

  int64_t size() const { return static_cast<int64_t>(pairs.size()); }
};

/// A consumer of tiles. Every causal pair of every sequence arrives exactly once, in an order that it must
/// not rely on. The tensors are buffers of the producer, overwritten after add() returns.
class Aggregator {
 public:
  virtual ~Aggregator() = default;
  virtual bool projects() const = 0;  // whether it reads tile.T
  virtual void add(const ContributionTile& tile) = 0;
};

}  // namespace exactmamba::decomp
