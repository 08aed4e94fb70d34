#include "decomp/frozen_scan.h"

#include <ATen/ops/empty_like.h>

#include "decomp/lanes.h"
#include "models/ops/checks.h"
#include "models/ops/sequences.h"

namespace exactmamba::decomp {
namespace {

template <class T>
void scan_block(const models::LayerTrace& trace, const std::vector<ops::Sequence>& sequences,
                const LaneBlock& block, const T* u, T* out) {
  const int64_t D = trace.d_inner(), G = trace.B.size(1), N = trace.B.size(2);
  const T *B = trace.B.const_data_ptr<T>(), *C = trace.C.const_data_ptr<T>();
  const LaneDecay<T> decays(trace, block);
  std::vector<T> state(N * kLanes<T>), decay(N * kLanes<T>);
  T delta[kLanes<T>], input[kLanes<T>], result[kLanes<T>];
  for (const ops::Sequence& sequence : sequences) {
    std::fill(state.begin(), state.end(), T(0));
    for (int64_t t = sequence.begin; t < sequence.end; ++t) {
      decays.step(t, delta, decay.data());
      load_lanes(u + t * D + block.channel, block.count, input);
      for (int64_t lane = 0; lane < kLanes<T>; ++lane) input[lane] *= delta[lane];
      const int64_t coefficients = (t * G + block.group) * N;
      feed_state(N, decay.data(), B + coefficients, C + coefficients, input, state.data(), result);
      std::copy_n(result, block.count, out + t * D + block.channel);
    }
  }
}

}  // namespace

at::Tensor frozen_scan(const models::LayerTrace& trace, const at::Tensor& u) {
  at::Tensor out = at::empty_like(u);
  const std::vector<ops::Sequence> sequences = ops::sequences_of(trace.cu_seqlens, 1, trace.length());
  ops::dispatch_floating(u.scalar_type(), [&]<class T>() {
    for_each_lane_block(lane_blocks(trace, kLanes<T>), [&](const LaneBlock& block) {
      scan_block(trace, sequences, block, u.const_data_ptr<T>(), out.data_ptr<T>());
    });
  });
  return out;
}

at::Tensor skip_per_channel(const models::LayerTrace& trace) {
  return trace.architecture == models::Architecture::kMamba1 ? trace.D
                                                             : trace.D.repeat_interleave(trace.headdim());
}

}  // namespace exactmamba::decomp
