#include <cmath>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/mm.h>

#include "decomp/column_sweep.h"
#include "decomp/frozen_scan.h"
#include "models/ops/checks.h"
#include "models/ops/sequences.h"

namespace exactmamba::decomp {
namespace {

/// Σ_{τ ≤ t} Δ_τ A_h from the start of t's sequence, (H, L), in double: M needs differences of it, which
/// float would round too coarsely.
std::vector<double> cumulative_log_decay(const models::LayerTrace& trace) {
  const int64_t L = trace.length(), H = trace.A.size(0);
  const at::Tensor steps = (trace.delta.to(at::kDouble) * trace.A.to(at::kDouble)).contiguous();  // (L, H)
  const double* step = steps.const_data_ptr<double>();
  std::vector<double> sums(H * L);
  for (const ops::Sequence& sequence : ops::sequences_of(trace.cu_seqlens, 1, L))
    for (int64_t h = 0; h < H; ++h) {
      double sum = 0;
      for (int64_t t = sequence.begin; t < sequence.end; ++t) sums[h * L + t] = sum += step[t * H + h];
    }
  return sums;
}

template <class T>
class Mamba2Sweep : public ColumnSweep {
 public:
  Mamba2Sweep(const models::LayerTrace& trace, const Pieces& pieces, const at::Tensor& scale)
      : trace_(trace),
        pieces_(pieces),
        scale_(scale.const_data_ptr<T>()),
        delta_(trace.delta.const_data_ptr<T>()),
        skip_(trace.D.const_data_ptr<T>()),
        L_(trace.length()),
        D_(trace.d_inner()),
        H_(trace.A.size(0)),
        G_(trace.B.size(1)),
        W_(pieces.taps()),
        log_decay_(cumulative_log_decay(trace)) {}

  void start(int64_t j_begin, int64_t j_end, int64_t sequence_end) override {
    block_pieces_ = pieces_.block(j_begin, j_end, sequence_end);
    steps_end_ = std::min(j_end + W_ - 1, sequence_end);
  }

  void fill(const TileRange& range, at::Tensor& gated) override {
    const std::vector<at::Tensor> scores = products(range);
    T* out = gated.data_ptr<T>();
    at::parallel_for(range.i_begin, range.i_end, 1, [&](int64_t begin, int64_t end) {
      std::vector<T> M(columns(range));
      for (int64_t i = begin; i < end; ++i)
        for (int64_t h = 0; h < H_; ++h) {
          mixing_row(range, scores[h / (H_ / G_)], i, h, M.data());
          combine(range, i, h, M.data(), out + range.offset(i) * D_ + h * (D_ / H_));
        }
    });
  }

 private:
  int64_t columns(const TileRange& range) const { return range.j_end - range.j_begin + W_ - 1; }

  /// [group] ⟨C_i, B_t⟩ for the range's positions × every step t that its tokens reach.
  std::vector<at::Tensor> products(const TileRange& range) const {
    std::vector<at::Tensor> products;
    for (int64_t g = 0; g < G_; ++g) {
      const at::Tensor C = trace_.C.select(1, g).slice(0, range.i_begin, range.i_end);
      const at::Tensor B = trace_.B.select(1, g).slice(0, range.j_begin, steps_end_);
      products.push_back(at::mm(C, B.t()).contiguous());
    }
    return products;
  }

  /// M_{i,t}[h] for t = j_begin …, zero beyond i and beyond the last step: (columns)
  void mixing_row(const TileRange& range, const at::Tensor& scores, int64_t i, int64_t h, T* M) const {
    const int64_t steps = scores.size(1), causal = std::min(steps, i + 1 - range.j_begin);
    const T* score = scores.const_data_ptr<T>() + (i - range.i_begin) * steps;
    const double* log_decay = log_decay_.data() + h * L_;
    for (int64_t n = 0; n < causal; ++n) {
      const int64_t t = range.j_begin + n;
      M[n] = score[n] * delta_[t * H_ + h] * std::exp(static_cast<T>(log_decay[i] - log_decay[t]));
    }
    std::fill(M + causal, M + columns(range), T(0));
    if (i < range.j_begin + steps) M[i - range.j_begin] += skip_[h];
  }

  /// s_i ⊙ Σ_k M_{i,j+k} f_{j+k}(k) of head h, for all tokens j of row i; `out`: the head's channels of pair
  /// (i, j_begin).
  void combine(const TileRange& range, int64_t i, int64_t h, const T* M, T* out) const {
    const int64_t P = D_ / H_, width = range.width(i);
    const T* __restrict scale = scale_ + i * D_ + h * P;
    const T* pieces = block_pieces_.const_data_ptr<T>() + h * P;
    for (int64_t token = 0; token < width; ++token, out += D_, pieces += W_ * D_) {
      T* __restrict sum = out;
      for (int64_t p = 0; p < P; ++p) sum[p] = M[token] * pieces[p];
      for (int64_t k = 1; k < W_; ++k)
        for (int64_t p = 0; p < P; ++p) sum[p] += M[token + k] * pieces[k * D_ + p];
      for (int64_t p = 0; p < P; ++p) sum[p] *= scale[p];
    }
  }

  const models::LayerTrace& trace_;
  const Pieces& pieces_;
  const T *scale_, *delta_, *skip_;
  int64_t L_, D_, H_, G_, W_;
  std::vector<double> log_decay_;  // (H, L)
  at::Tensor block_pieces_;        // (columns, W, D)
  int64_t steps_end_ = 0;          // the last step that a piece of the block reaches, + 1
};

}  // namespace

std::unique_ptr<ColumnSweep> make_mamba2_sweep(const models::LayerTrace& trace, const Pieces& pieces,
                                               const at::Tensor& scale) {
  std::unique_ptr<ColumnSweep> sweep;
  ops::dispatch_floating(scale.scalar_type(),
                         [&]<class T>() { sweep = std::make_unique<Mamba2Sweep<T>>(trace, pieces, scale); });
  return sweep;
}

}  // namespace exactmamba::decomp
