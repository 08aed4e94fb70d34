#include <vector>

#include "decomp/column_sweep.h"
#include "decomp/lanes.h"
#include "models/ops/checks.h"

namespace exactmamba::decomp {
namespace {

/// Each token of the block has its own copy of the recurrence, fed with its pieces only: at the steps j …
/// j+W-1. After that its state just decays, and the decays of a step are shared by all tokens.
template <class T>
class Mamba1Sweep : public ColumnSweep {
 public:
  Mamba1Sweep(const models::LayerTrace& trace, const Pieces& pieces, const at::Tensor& scale)
      : trace_(trace),
        pieces_(pieces),
        scale_(scale.const_data_ptr<T>()),
        B_(trace.B.const_data_ptr<T>()),
        C_(trace.C.const_data_ptr<T>()),
        skip_(trace.D.const_data_ptr<T>()),
        D_(trace.d_inner()),
        N_(trace.B.size(2)),
        W_(pieces.taps()),
        blocks_(lane_blocks(trace, kLanes<T>)) {}

  void start(int64_t j_begin, int64_t j_end, int64_t sequence_end) override {
    block_pieces_ = pieces_.block(j_begin, j_end, sequence_end);
    columns_ = j_end - j_begin;
    states_.assign(blocks_.size() * columns_ * N_ * kLanes<T>, T(0));
  }

  void fill(const TileRange& range, at::Tensor& gated) override {
    for_each_lane_block(blocks_,
                        [&](const LaneBlock& block) { fill_lanes(range, block, gated.data_ptr<T>()); });
  }

 private:
  struct Step {
    int64_t i;
    T delta[kLanes<T>], scale[kLanes<T>], skip[kLanes<T>];
    std::vector<T> decay;  // (N, kLanes)
  };

  void fill_lanes(const TileRange& range, const LaneBlock& block, T* gated) {
    T* states = states_.data() + (&block - blocks_.data()) * columns_ * N_ * kLanes<T>;
    const LaneDecay<T> decays(trace_, block);
    Step step{0, {}, {}, {}, std::vector<T>(N_ * kLanes<T>)};
    load_lanes(skip_ + block.channel, block.count, step.skip);
    for (step.i = range.i_begin; step.i < range.i_end; ++step.i) {
      decays.step(step.i, step.delta, step.decay.data());
      load_lanes(scale_ + step.i * D_ + block.channel, block.count, step.scale);
      advance_tokens(range, block, step, states, gated + range.offset(step.i) * D_ + block.channel);
    }
  }

  /// Step i of every token j ≤ i of the block; `out`: the channels of pair (i, j_begin).
  void advance_tokens(const TileRange& range, const LaneBlock& block, const Step& step, T* state,
                      T* out) const {
    T sum[kLanes<T>];
    const int64_t width = range.width(step.i);
    for (int64_t token = 0; token < width; ++token, state += N_ * kLanes<T>, out += D_) {
      const int64_t lag = step.i - range.j_begin - token;
      if (lag < W_)
        feed_token(block, step, token, lag, state, sum);
      else
        decay_state(N_, step.decay.data(), C_ + step.i * N_, state, sum);
      for (int64_t lane = 0; lane < block.count; ++lane) out[lane] = step.scale[lane] * sum[lane];
    }
  }

  void feed_token(const LaneBlock& block, const Step& step, int64_t token, int64_t lag, T* state,
                  T* sum) const {
    T piece[kLanes<T>], delta_u[kLanes<T>];
    load_lanes(block_pieces_.const_data_ptr<T>() + (token * W_ + lag) * D_ + block.channel, block.count,
               piece);
    for (int64_t lane = 0; lane < kLanes<T>; ++lane) delta_u[lane] = step.delta[lane] * piece[lane];
    feed_state(N_, step.decay.data(), B_ + step.i * N_, C_ + step.i * N_, delta_u, state, sum);
    for (int64_t lane = 0; lane < kLanes<T>; ++lane) sum[lane] += step.skip[lane] * piece[lane];
  }

  const models::LayerTrace& trace_;
  const Pieces& pieces_;
  const T *scale_, *B_, *C_, *skip_;
  int64_t D_, N_, W_, columns_ = 0;
  std::vector<LaneBlock> blocks_;
  at::Tensor block_pieces_;  // (columns, W, D)
  std::vector<T> states_;    // (blocks, columns, N, kLanes)
};

}  // namespace

std::unique_ptr<ColumnSweep> make_mamba1_sweep(const models::LayerTrace& trace, const Pieces& pieces,
                                               const at::Tensor& scale) {
  std::unique_ptr<ColumnSweep> sweep;
  ops::dispatch_floating(scale.scalar_type(),
                         [&]<class T>() { sweep = std::make_unique<Mamba1Sweep<T>>(trace, pieces, scale); });
  return sweep;
}

}  // namespace exactmamba::decomp
