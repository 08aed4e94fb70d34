// The scan of Mamba-2 for many sequences: a warp a head, the state through a ring of pieces in shared memory
// by the copy engine, so that loading, stepping and storing go on side by side.
#pragma once

#include "models/ops/cuda/cluster.cuh"
#include "models/ops/token_step/token_step_scan.cuh"

namespace exactmamba::ops {
namespace {

constexpr int kRingWarps = 4, kRingSlots = 3, kRingOwn = 8, kRingLanes = kStepMostStates / kRingOwn,
              kRingSides = 32 / kRingLanes, kRingTurns = kStepHeadRows / kRingSides,
              kRingSlotBytes = 2 * kStepHeadRows * kStepMostStates;

/// A piece is kStepHeadRows rows, a lane has kRingOwn states of every row of its side; its first lanes own a
/// row each, which means that they know what it is multiplied with.
template <class T>
__global__ void __launch_bounds__(32 * kRingWarps, 4)
    step_ring_kernel(const __grid_constant__ StepScan2<T, __nv_bfloat16> p) {
#if __CUDA_ARCH__ >= 900
  extern __shared__ __align__(128) unsigned char ring_memory[];
  __shared__ CopyBarrier all_barriers[kRingWarps][kRingSlots];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, N = static_cast<int>(p.states),
            P = static_cast<int>(p.head_size), heads = static_cast<int>(p.heads),
            item = blockIdx.x * kRingWarps + warp;
  if (item >= static_cast<int>(p.batch) * heads) return;
  const int b = item / heads, head = item - b * heads, pieces = P / kStepHeadRows, size = kStepHeadRows * N;
  const uint32_t bytes = sizeof(__nv_bfloat16) * size;
  unsigned char* slots = ring_memory + warp * kRingSlots * kRingSlotBytes;
  CopyBarrier* barriers = all_barriers[warp];
  __nv_bfloat16* state = p.state + int64_t(item) * P * N;
  const auto load_piece = [&](int piece) {
    const int slot = piece % kRingSlots;
    if (piece < pieces) barriers[slot].copy(slots + slot * kRingSlotBytes, state + piece * size, bytes);
  };
  if (lane == 0)
#pragma unroll
    for (int slot = 0; slot < kRingSlots; ++slot) {
      barriers[slot].init();
      load_piece(slot);
    }
  __syncwarp();
  const int side = lane / kRingLanes, mine = lane % kRingLanes, first_state = mine * kRingOwn,
            own_row = mine * kRingSides + side;
  const bool has_states = first_state < N, is_owner = mine < kRingTurns;
  const float rate = expf(p.A_log[head]), bias = p.dt_bias[head], skip = p.skip[head];
  allow_dependent_launch();
  wait_for_previous_launch();

  const int inner = heads * P, first_channel = head * P;
  const T *convolved = p.convolved + int64_t(b) * (inner + 2 * N),
          *projected = p.projected + int64_t(b) * (2 * inner + 2 * N + heads);
  FreshFloats<T, kRingOwn> fresh_B, fresh_C;
  if (has_states) {
    fresh_B.load(convolved + inner + first_state);
    fresh_C.load(convolved + inner + N + first_state);
  }
  const float dt = load_fresh(projected + 2 * inner + 2 * N + head);
  T next_x = {}, next_z = {};
  float next_weight = 0;
  const auto load_row = [&](int piece) {
    if (!is_owner || piece >= pieces) return;
    const int channel = first_channel + piece * kStepHeadRows + own_row;
    next_x = __ldcg(convolved + channel);
    next_z = __ldcg(projected + channel);
    next_weight = p.norm_weight[channel];
  };
  load_row(0);
  float B[kRingOwn], C[kRingOwn];
  fresh_B.unpack_to(B);
  fresh_C.unpack_to(C);
  const float delta = fminf(fmaxf(softplus<T>(dt + bias), p.dt_min), p.dt_max), decay = expf(-delta * rate);
#pragma unroll
  for (int i = 0; i < kRingOwn; ++i) B[i] *= delta;
#pragma unroll 1
  for (int piece = 0; piece < pieces; ++piece) {
    const int slot = piece % kRingSlots;
    auto* rows = reinterpret_cast<__nv_bfloat16*>(slots + slot * kRingSlotBytes);
    const T raw_x = next_x, raw_z = next_z;
    const float x = to_float(raw_x), weight = next_weight;
    load_row(piece + 1);
    barriers[slot].wait(piece / kRingSlots & 1);
    float y[kRingTurns] = {};  // by turn, of the lane's states
#pragma unroll
    for (int turn = 0; turn < kRingTurns; ++turn) {
      const float of_row = __shfl_sync(~0u, x, side * kRingLanes + turn);
      if (!has_states) continue;
      __nv_bfloat16* at = rows + (turn * kRingSides + side) * N + first_state;
      float states[kRingOwn];
      load_floats(at, states);
#pragma unroll
      for (int n = 0; n < kRingOwn; ++n) {
        states[n] = fmaf(decay, states[n], of_row * B[n]);
        y[turn] = fmaf(states[n], C[n], y[turn]);
      }
      store_floats(at, states);
    }
    publish_to_copies();
    __syncwarp();
    if (lane == 0) {
      copy_back(state + piece * size, rows, bytes);
      wait_for_reads<1>();  // the slot of the piece before this one is free
      if (piece > 0) load_piece(piece - 1 + kRingSlots);
    }
    // Each halving leaves a lane half of its turns; in the end it has its own.
#pragma unroll
    for (int half = kRingTurns / 2; half > 0; half /= 2)
#pragma unroll
      for (int t = 0; t < half; ++t) {
        const float give = lane & half ? y[t] : y[t + half], keep = lane & half ? y[t + half] : y[t];
        y[t] = keep + __shfl_xor_sync(~0u, give, half);
      }
    float sum = y[0], square = 0;
#pragma unroll
    for (int mask = kRingTurns; mask < kRingLanes; mask *= 2) sum += __shfl_xor_sync(~0u, sum, mask);
    const int first = first_channel + piece * kStepHeadRows;
    if (is_owner) {
      const float gated = fmaf(skip, x, sum) * silu(to_float(raw_z));
      p.normed[int64_t(b) * inner + first + own_row] = from_float<T>(gated * weight);
      square = gated * gated;
    }
    square = warp_sum(square);
    if (lane == 0) p.squares[(int64_t(b) * inner + first) / kStepHeadRows] = square;
  }
  if (lane == 0) wait_for_copies_back();
#endif
}

template <class T>
cudaError_t run_step_ring(const StepScan2<T, __nv_bfloat16>& p) {
  constexpr size_t kShared = kRingWarps * kRingSlots * kRingSlotBytes;
  const auto kernel = step_ring_kernel<T>;
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared);
  if (error != cudaSuccess) return error;
  const int64_t blocks = ceil_divide<int64_t>(p.batch * p.heads, kRingWarps);
  return launch_dependent(kernel, static_cast<unsigned>(blocks), 32 * kRingWarps, kShared, p.stream, p);
}

}  // namespace
}  // namespace exactmamba::ops
