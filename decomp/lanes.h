// The frozen recurrence over a few neighbouring channels at once ("lanes", one cache line), which vectorises
// over the channels:
//   s[n] ← exp(Δ A[n]) ⊙ s[n] + Δ B[n] ⊙ u,   υ = Σ_n C[n] s[n]
// Internal to decomp/; states, decays and inputs of a lane block are padded to kLanes with zeros.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include <ATen/Parallel.h>

#include "models/layer_trace.h"
#include "models/ops/vector_math.h"

namespace exactmamba::decomp {

template <class T>
inline constexpr int64_t kLanes = 2 * ops::kLanes<T>;

/// Channels [channel, channel + count) that share B and C, and for Mamba-2 also Δ and A.
struct LaneBlock {
  int64_t channel, count;
  int64_t head;   // Mamba-2
  int64_t group;  // of B and C
};

/// All D channels, count ≤ lanes; a Mamba-2 block does not leave its head.
std::vector<LaneBlock> lane_blocks(const models::LayerTrace& trace, int64_t lanes);

/// Decays die out far below what a sum can see; as denormal numbers they would only be slow. Acts on the
/// current thread, and leaves it as it was found: at::parallel_for runs a part on the caller's.
class FlushDenormals {
 public:
  FlushDenormals();
  ~FlushDenormals();
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;

 private:
  bool was_on_, supported_;
};

/// f(block) for every lane block, in parallel, without denormal numbers.
template <class F>
void for_each_lane_block(const std::vector<LaneBlock>& blocks, const F& f) {
  at::parallel_for(0, static_cast<int64_t>(blocks.size()), 1, [&](int64_t begin, int64_t end) {
    const FlushDenormals guard;
    for (int64_t b = begin; b < end; ++b) f(blocks[b]);
  });
}

/// count values, then zeros up to kLanes.
template <class T>
void load_lanes(const T* from, int64_t count, T* to) {
  std::copy_n(from, count, to);
  std::fill(to + count, to + kLanes<T>, T(0));
}

/// Δ and the decays of one lane block, step by step.
template <class T>
class LaneDecay {
 public:
  LaneDecay(const models::LayerTrace& trace, const LaneBlock& block)
      : mamba1_(trace.architecture == models::Architecture::kMamba1),
        block_(block),
        states_(trace.B.size(2)),
        delta_(trace.delta.const_data_ptr<T>()),
        delta_stride_(trace.delta.size(1)),
        A_(mamba1_ ? states_ * kLanes<T> : 1) {
    const T* A = trace.A.const_data_ptr<T>();
    if (!mamba1_) A_[0] = A[block.head];
    for (int64_t lane = 0; mamba1_ && lane < block.count; ++lane)
      for (int64_t n = 0; n < states_; ++n)
        A_[n * kLanes<T> + lane] = A[(block.channel + lane) * states_ + n];
  }

  /// delta (kLanes), decay (N, kLanes) of step t.
  void step(int64_t t, T* delta, T* decay) const {
    const T* row = delta_ + t * delta_stride_;
    if (mamba1_) {
      load_lanes(row + block_.channel, block_.count, delta);
      for (int64_t n = 0; n < states_ * kLanes<T>; n += ops::kLanes<T>)
        ops::store(decay + n, ops::exp(ops::load(delta + n % kLanes<T>) * ops::load(A_.data() + n)));
    } else {
      std::fill_n(delta, kLanes<T>, row[block_.head]);
      std::fill_n(decay, states_ * kLanes<T>, std::exp(row[block_.head] * A_[0]));
    }
  }

 private:
  bool mamba1_;
  LaneBlock block_;
  int64_t states_;
  const T* delta_;
  int64_t delta_stride_;
  std::vector<T> A_;  // (N, kLanes), zero in the padding; Mamba-2: one
};

/// One step of a state s (N, kLanes): s[n] ← decay[n] ⊙ s[n] + input(n), half by half; out = Σ_n C[n] s[n].
template <class T, class Input>
inline void step_state(int64_t states, const T* decay, const T* C, const Input& input, T* s, T* out) {
  constexpr int64_t half = ops::kLanes<T>;
  ops::Pack<T> low{}, high{};
  for (int64_t n = 0; n < states; ++n, s += kLanes<T>, decay += kLanes<T>) {
    const ops::Pack<T> new_low = ops::load(s) * ops::load(decay) + input(n, 0);
    const ops::Pack<T> new_high = ops::load(s + half) * ops::load(decay + half) + input(n, half);
    ops::store(s, new_low);
    ops::store(s + half, new_high);
    low += C[n] * new_low;
    high += C[n] * new_high;
  }
  ops::store(out, low);
  ops::store(out + half, high);
}

template <class T>
void decay_state(int64_t states, const T* decay, const T* C, T* s, T* out) {
  step_state(
      states, decay, C, [](int64_t, int64_t) { return ops::Pack<T>{}; }, s, out);
}

/// With the input B[n] Δu.
template <class T>
void feed_state(int64_t states, const T* decay, const T* B, const T* C, const T* delta_u, T* s, T* out) {
  step_state(
      states, decay, C, [&](int64_t n, int64_t half) { return B[n] * ops::load(delta_u + half); }, s, out);
}

}  // namespace exactmamba::decomp
