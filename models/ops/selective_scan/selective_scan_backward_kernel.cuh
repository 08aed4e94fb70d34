// The Mamba-1 scan on the GPU, backward.
//
// The warps walk over the tiles of their row from the last to the first. In a tile every warp computes Δ,
// Δ·u and ∂y once, runs from the saved state forward to leave the state in front of every group of four
// tokens in shared memory, and then takes the groups from the last to the first: it recomputes the group's
// decays and states in registers and goes back through it with the adjoint state. Sums over states (for Δ, u
// and z) are transposed within the warp as in forward. Sums over channels (for B and C) are taken over the
// warp by shuffles, from warp to warp of the block through shared memory, and over the blocks by a second
// launch, each in a fixed order. So are those over rows, for the parameters.
//
// The block's warps are not kept in step: the two first phases are held up by exponentials and loads, the
// walk by its number of instructions, so that they should run beside each other.
#pragma once

#include "models/ops/selective_scan/selective_scan_backward_device.cuh"

namespace exactmamba::ops::scan {

/// Sums over the columns of a warp; V values go in and V / kColumns come out: column i gets the i-th share.
template <class Shape, int V>
__device__ __forceinline__ void sum_over_columns(float (&v)[V], int column) {
  int size = V;
#pragma unroll
  for (int mask = Shape::kColumns / 2; mask > 0; mask /= 2) {
    size /= 2;
    const bool upper = column & mask;
#pragma unroll
    for (int i = 0; i < V / 2; ++i)
      if (i < size) {
        const float keep = upper ? v[i + size] : v[i], send = upper ? v[i] : v[i + size];
        v[i] = keep + __shfl_xor_sync(kFullWarp, send, mask * Shape::kLanes);
      }
  }
}

template <int kSize>
__device__ __forceinline__ void write_floats(float* to, const float* from) {
  if constexpr (kSize == 2)
    *reinterpret_cast<float2*>(to) = make_float2(from[0], from[1]);
  else {
#pragma unroll
    for (int i = 0; i < kSize; i += 4)
      *reinterpret_cast<float4*>(to + i) = make_float4(from[i], from[i + 1], from[i + 2], from[i + 3]);
  }
}

template <class T>
__device__ __forceinline__ void prefetch(const T* data) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(data));
}

constexpr int kMostWarps = 12;

/// How the warps of a block wait for each other, each at its own place in the row.
struct WarpBarriers {
  PhaseBarrier filled[2], emptied[2];  // B and C of a tile
  PhaseBarrier summed[kMostWarps];     // a warp has added its share of a tile's sums
  PhaseBarrier swept[kMostWarps];      // a warp has swept its first tile
};

/// `carry` (B, segments, D, N): the adjoint state entering every segment; null where rows are whole. With
/// `queue_counters` (null without kChained) the kernel writes it itself. Without kOut it does not write the
/// output again. Fixed when compiled, since the walk needs every register; with kVector both are as they say.
template <class T, class Shape, bool kVector, bool kChained, bool kOut>
__global__ void __launch_bounds__(384, 1)
    backward_kernel(const __grid_constant__ SelectiveScanCudaParams<T> p,
                    const __grid_constant__ ScanGrid grid, const __grid_constant__ BackwardPartials partials,
                    float* carry, int* queue_counters) {
  constexpr int kChannels = Shape::kChannels, kStates = Shape::kStates, kPadded = Shape::kPadded;
  using Memory = BackwardMemory<Shape>;
  using Exchange = typename Memory::Exchange;
  using GradY = typename Memory::GradY;
  constexpr int kPitch = Memory::kPitch, kC = kPitch / 2;  // C lies behind the copies of B
  extern __shared__ __align__(16) float shared[];

  if constexpr (!kChained) queue_counters = nullptr;
  const SegmentQueue queue(queue_counters, grid.segments);
  // Passed around, so that the compiler knows it to be the same in all lanes: branches on it then leave the
  // warp whole, and shuffles need no second version for when it is not.
  const int warp = __shfl_sync(kFullWarp, threadIdx.x >> 5, 0);
  const Place<Shape> place(p, grid, queue.index(), queue.segment(), warp);
  const StatePlace<Shape> state_place = place.states(p, grid);
  const int length = static_cast<int>(p.length), N = static_cast<int>(p.states), q = place.q;
  const int tiles = (length + kTile - 1) / kTile, warps = blockDim.x / 32;
  const int first_tile = place.segment * grid.segment_tiles,
            end_tile = min(tiles, first_tile + grid.segment_tiles);
  __shared__ WarpBarriers barriers;
  if (threadIdx.x == 0) {
    for (int i = 0; i < 2; ++i) barriers.filled[i].init(1), barriers.emptied[i].init(warps);
    for (int i = 0; i < warps; ++i) barriers.summed[i].init(1), barriers.swept[i].init(1);
  }
  __syncthreads();
  const int64_t state_size = p.channels * p.states;
  const bool loads = Shape::kLanes <= kGroup || q < kGroup;
  // Tokens from here on do not exist for this lane.
  const int end_token = pinned(loads && place.channels > 0 ? length : 0),
            z_end_token = pinned(p.z.data ? end_token : 0);
  const int has_z = pinned(p.z.data != nullptr);

  // Places in shared memory: of the warp, and the lane's in it.
  const int order = Memory::kPermuted ? place.column % 4 : 0;
  const int of_warp = Memory::kCoefficients + place.warp * Memory::kOfWarp;
  float* const coefficients = shared + pinned(order * kPadded + q * kStates);
  float* const states_of_warp = shared + of_warp;
  float* const saved = shared + pinned(of_warp + place.lane * 4);
  const int exchange_begin = of_warp + kGroups * Memory::kStates;
  const int grad_y_begin = exchange_begin + kGroups * Exchange::kGroupSize;
  float* const exchange = shared + pinned(exchange_begin + place.column * (2 * kChannels));
  float* const exchange_own =
      shared + pinned(exchange_begin + place.column * (2 * kChannels) + q * Exchange::kToken);
  float* const grad_y_of = shared + pinned(grad_y_begin + place.column * kChannels);
  float* const grad_y_own = shared + pinned(grad_y_begin + place.column * kChannels + q * GradY::kToken);
  float* const group_sums = shared + grad_y_begin + kGroups * GradY::kGroupSize;  // without kSumsByTile

  TokenRow<const T> u_row(p.u, place.row, place.channel), delta_row(p.delta, place.row, place.channel),
      z_row(p.z, place.row, place.channel), grad_out_row(p.grad_out, place.row, place.channel);
  TokenRow<T> grad_u_row(p.grad_u, place.row, place.channel),
      grad_delta_row(p.grad_delta, place.row, place.channel), grad_z_row(p.grad_z, place.row, place.channel);
  float exponent[kChannels][kStates], adjoint[kChannels][kStates] = {}, grad_A[kChannels][kStates] = {};
  float skip[kChannels], bias[kChannels], grad_D[kChannels] = {}, grad_bias[kChannels] = {};
  load_exponents(state_place, p, exponent);
  permute_states<Shape>(exponent, place.column);
  load_channels(p.D, place.channel, place.channels, skip);
  load_channels(p.delta_bias, place.channel, place.channels, bias);

  SequenceStarts starts(p, place.row, min(end_tile * kTile + 1, length));
  const bool chained = kChained && (kVector || queue_counters);
  if (chained && !queue.first()) queue.wait();
  if (carry && !(chained && queue.first()))
    state_place.load(carry + place.part(grid) * state_size, adjoint);
  else if (p.grad_last_state)
    state_place.load(p.grad_last_state + (p.cu_seqlens ? starts.next - 1 : place.row) * state_size, adjoint);
  permute_states<Shape>(adjoint, place.column);

  const auto restart = [&](float(&state)[kChannels][kStates], const float* from, int64_t sequence) {
    if (from) {
      state_place.load(from + sequence * state_size, state);
      permute_states<Shape>(state, pinned(place.column));
    } else {
#pragma unroll
      for (int c = 0; c < kChannels; ++c)
#pragma unroll
        for (int n = 0; n < kStates; ++n) state[c][n] = 0.f;
    }
  };
  // One warp fetches B and C for all.
  const auto fill = [&](int tile, float* to) {
    fill_tile<Shape, Memory::kCopies>(to, kPitch, p.B, place.row, int64_t{place.group} * N, N, tile * kTile,
                                      length, grid.vector_bc, place.lane, 32);
    fill_tile<Shape, Memory::kCopies>(to + kC, kPitch, p.C, place.row, int64_t{place.group} * N, N,
                                      tile * kTile, length, grid.vector_bc, place.lane, 32);
  };
  using Stage = TileStage<Shape, T>;
  float* const stage = shared + Memory::kCoefficients + warps * Memory::kOfWarp;
  const auto prefetch_tile = [&](int tile) {
    const int token = tile * kTile + place.lane;
    if (place.channels == 0) return;
    prefetch(delta_row.at(token));
    prefetch(u_row.at(token));
    prefetch(grad_out_row.at(token));
    if (has_z) prefetch(z_row.at(token));
  };

  // Δ, Δ·u and ∂y of the warp's channels for a whole tile.
  const auto prepare_tile = [&](int tile) {
    constexpr int kBatch = 4;  // groups whose loads are under way together
#pragma unroll 1
    for (int first = 0; first < kGroups; first += kBatch) {
      RawPack<T, kChannels, kVector> delta[kBatch], u[kBatch], z[kBatch], grad_out[kBatch];
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const int t = tile * kTile + (first + i) * kGroup + q;
        delta[i].load(delta_row.at(t), t < end_token, place.channels);
        u[i].load(u_row.at(t), t < end_token, place.channels);
        z[i].load(z_row.at(t), t < z_end_token, place.channels);
        grad_out[i].load(grad_out_row.at(t), t < end_token, place.channels);
      }
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        float step[kChannels], weight[kChannels], grad_y[kChannels];
#pragma unroll
        for (int c = 0; c < kChannels; ++c) {
          const float biased = delta[i][c] + bias[c], smooth = softplus<T>(biased), gate = z[i][c];
          step[c] = tile * kTile + (first + i) * kGroup + q < end_token ? (p.delta_softplus ? smooth : biased)
                                                                        : 0.f;
          weight[c] = step[c] * u[i][c];
          grad_y[c] = grad_out[i][c] * (has_z ? gate * fast_sigmoid(gate) : 1.f);
        }
        if (loads) {
          write_exchange<Shape>(exchange_own + (first + i) * Exchange::kGroupSize, step, weight);
          float* const to = grad_y_own + (first + i) * GradY::kGroupSize;
          if constexpr (kChannels == 2)
            *reinterpret_cast<float2*>(to) = make_float2(grad_y[0], grad_y[1]);
          else
            *to = grad_y[0];
        }
      }
    }
  };
  const auto read_grad_y = [&](const float* from, float(&grad_y)[kChannels]) {
    if constexpr (kChannels == 2) {
      const float2 v = *reinterpret_cast<const float2*>(from);
      grad_y[0] = v.x, grad_y[1] = v.y;
    } else {
      grad_y[0] = *from;
    }
  };

  // The state in front of every group, from the one in front of the tile.
  const auto sweep_tile = [&](float(&state)[kChannels][kStates], const float* group_coefficients,
                              unsigned broken) {
    const auto save = [&](int group) {
#pragma unroll
      for (int c = 0; c < kChannels; ++c)
#pragma unroll
        for (int n = 0; n < kStates; n += 4)
          *reinterpret_cast<float4*>(saved + group * Memory::kStates + (c * kStates + n) * 32) =
              make_float4(state[c][n], state[c][n + 1], state[c][n + 2], state[c][n + 3]);
    };
    const auto sweep_token = [&](const float* exchanged, const float* token_coefficients) {
      float delta[kChannels], weight[kChannels], B[kStates];
      read_exchange<Shape>(exchanged, delta, weight);
      read_states(token_coefficients, B);
#pragma unroll
      for (int c = 0; c < kChannels; ++c)
#pragma unroll
        for (int n = 0; n < kStates; ++n)
          state[c][n] = fmaf(fast_exp2(delta[c] * exponent[c][n]), state[c][n], weight[c] * B[n]);
    };
    const float* exchanged = exchange;
    if (!broken) {
      save(0);
#pragma unroll 1
      for (int group = 1; group < kGroups; ++group) {
#pragma unroll
        for (int i = 0; i < kGroup; ++i)
          sweep_token(exchanged + i * Exchange::kToken, group_coefficients + i * kPitch);
        exchanged += Exchange::kGroupSize, group_coefficients += kGroup * kPitch;
        save(group);
      }
    } else {
#pragma unroll 1
      for (int offset = 0; offset < kTile; ++offset) {
        if (offset % kGroup == 0) save(offset / kGroup);
        if (starts.at(offset)) restart(state, p.initial_state, starts.sequence(offset));
        sweep_token(exchanged + offset / kGroup * Exchange::kGroupSize + offset % kGroup * Exchange::kToken,
                    group_coefficients + offset * kPitch);
      }
    }
  };

  // Forward through a group, then back.
  const auto walk_group = [&](const float* coefficients, int tile, int group, auto broken) {
    constexpr bool kBroken = decltype(broken)::value;
    const int token = tile * kTile + group * kGroup + q;
    const bool exists = token < end_token;
    const float* const exchanged = exchange + group * Exchange::kGroupSize;
    const float* const grad_y_group = grad_y_of + group * GradY::kGroupSize;
    const float* const group_coefficients = coefficients + group * kGroup * kPitch;
    float* const sums_to = Memory::kSumsByTile ? states_of_warp + group * Memory::kStates : group_sums;

    const auto read_token = [&](int i, float(&delta)[kChannels], float(&weight)[kChannels],
                                float(&grad_y)[kChannels], float(&B)[kStates], float(&C)[kStates]) {
      read_exchange<Shape>(exchanged + i * Exchange::kToken, delta, weight);
      read_grad_y(grad_y_group + i * GradY::kToken, grad_y);
      read_states(group_coefficients + i * kPitch, B);
      read_states(group_coefficients + i * kPitch + kC, C);
    };

    float state[kChannels][kStates], decay[kGroup][kChannels][kStates], faded[kGroup][kChannels][kStates];
    float y[kGroup][kChannels];
#pragma unroll
    for (int c = 0; c < kChannels; ++c)
#pragma unroll
      for (int n = 0; n < kStates; n += 4) {
        const float4 v =
            *reinterpret_cast<const float4*>(saved + group * Memory::kStates + (c * kStates + n) * 32);
        state[c][n] = v.x, state[c][n + 1] = v.y, state[c][n + 2] = v.z, state[c][n + 3] = v.w;
      }
    if constexpr (Memory::kSumsByTile) __syncwarp();  // the sums will overwrite them

    // Sums over the warp's channels of one value for every token and state of a lane, kind 0 for ∂B, 1 for
    // ∂C.
    constexpr int kKept = Memory::kPermuted ? 1 : kStates;
    float sums[kGroup * kKept];
    const auto collect_sum = [&](int i, const float(&v)[kStates]) {
      if constexpr (Memory::kPermuted) {
        const float a = v[0] + __shfl_xor_sync(kFullWarp, v[2], 2 * Shape::kLanes);
        const float b = v[1] + __shfl_xor_sync(kFullWarp, v[3], 2 * Shape::kLanes);
        sums[i] = a + __shfl_xor_sync(kFullWarp, b, Shape::kLanes);
      } else {
#pragma unroll
        for (int n = 0; n < kStates; ++n) sums[i * kStates + n] = v[n];
      }
    };
    const auto write_sums = [&](int kind) {
      if constexpr (Memory::kPermuted) {
        const int upper = place.column / 4;  // gets tokens 1 and 3
        float* const to = sums_to + kind * kGroup * kPadded + upper * kPadded + q * kStates + order;
#pragma unroll
        for (int j = 0; j < kGroup; j += 2) {
          const float keep = upper ? sums[j + 1] : sums[j], send = upper ? sums[j] : sums[j + 1];
          to[j * kPadded] = keep + __shfl_xor_sync(kFullWarp, send, 4 * Shape::kLanes);
        }
      } else {
        constexpr int kShare = kGroup * kStates / Shape::kColumns;  // some states of a token, or whole tokens
        sum_over_columns<Shape>(sums, place.column);
        float* const to = sums_to + kind * kGroup * kPadded + q * kStates;
        if constexpr (kShare <= kStates) {
          const int first = place.column * kShare;
          write_floats<kShare>(to + first / kStates * kPadded + first % kStates, sums);
        } else {
#pragma unroll
          for (int i = 0; i < kShare / kStates; ++i)
            write_floats<kStates>(to + (place.column * (kShare / kStates) + i) * kPadded, sums + i * kStates);
        }
      }
    };

#pragma unroll
    for (int i = 0; i < kGroup; ++i) {
      if constexpr (kBroken)
        if (starts.at(group * kGroup + i))
          restart(state, p.initial_state, starts.sequence(group * kGroup + i));
      float delta[kChannels], weight[kChannels], grad_y[kChannels], B[kStates], C[kStates], sum[kStates];
      read_token(i, delta, weight, grad_y, B, C);
#pragma unroll
      for (int c = 0; c < kChannels; ++c) {
        y[i][c] = 0.f;
#pragma unroll
        for (int n = 0; n < kStates; ++n) {
          decay[i][c][n] = fast_exp2(delta[c] * exponent[c][n]);
          faded[i][c][n] = decay[i][c][n] * state[c][n];
          state[c][n] = fmaf(weight[c], B[n], faded[i][c][n]);
          y[i][c] = fmaf(state[c][n], C[n], y[i][c]);
          sum[n] = c == 0 ? grad_y[c] * state[c][n] : fmaf(grad_y[c], state[c][n], sum[n]);
        }
      }
      collect_sum(i, sum);
    }
    write_sums(1);

    // Read again for the end of the group, rather than kept: they are in the caches.
    RawPack<T, kChannels, kVector> raw_delta, raw_u, raw_z, raw_grad_out;
    raw_delta.load_here(delta_row.at(token), exists, place.channels);
    raw_u.load_here(u_row.at(token), exists, place.channels);
    raw_z.load_here(z_row.at(token), token < z_end_token, place.channels);
    raw_grad_out.load_here(grad_out_row.at(token), exists, place.channels);

    float y_own[kChannels];  // lane q gets token q's
#pragma unroll
    for (int c = 0; c < kChannels; ++c)
      y_own[c] = sum_to_tokens<Shape>(y[0][c], y[1][c], y[2][c], y[3][c], q);

    float grad_weight[kGroup][kChannels], grad_step[kGroup][kChannels];
#pragma unroll
    for (int j = 0; j < kGroup; ++j) {
      const int i = kGroup - 1 - j;
      if constexpr (kBroken) {
        const int behind = group * kGroup + i + 1;
        if (starts.at(behind)) restart(adjoint, p.grad_last_state, starts.sequence(behind) - 1);
      }
      float delta[kChannels], weight[kChannels], grad_y[kChannels], B[kStates], C[kStates], sum[kStates];
      read_token(i, delta, weight, grad_y, B, C);
#pragma unroll
      for (int c = 0; c < kChannels; ++c) {
        grad_weight[i][c] = 0.f, grad_step[i][c] = 0.f;
#pragma unroll
        for (int n = 0; n < kStates; ++n) {
          const float grad = fmaf(grad_y[c], C[n], adjoint[c][n]);
          sum[n] = c == 0 ? grad * weight[c] : fmaf(grad, weight[c], sum[n]);
          grad_weight[i][c] = fmaf(grad, B[n], grad_weight[i][c]);
          const float grad_exponent = grad * faded[i][c][n];
          grad_step[i][c] = fmaf(grad_exponent, exponent[c][n], grad_step[i][c]);
          grad_A[c][n] = fmaf(grad_exponent, delta[c], grad_A[c][n]);
          adjoint[c][n] = grad * decay[i][c][n];
        }
      }
      collect_sum(i, sum);
    }
    write_sums(0);

    // Lane q finishes token q.
    float grad_u[kChannels], grad_delta[kChannels], grad_z[kChannels], out[kChannels];
    float delta[kChannels], weight[kChannels], grad_y[kChannels];
    const int own = loads ? 0 : -q;  // lanes without a token read the first one's
    read_exchange<Shape>(exchange_own + group * Exchange::kGroupSize + own * Exchange::kToken, delta, weight);
    read_grad_y(grad_y_own + group * GradY::kGroupSize + own * GradY::kToken, grad_y);
#pragma unroll
    for (int c = 0; c < kChannels; ++c) {
      const float of_weight =
          sum_to_tokens<Shape>(grad_weight[0][c], grad_weight[1][c], grad_weight[2][c], grad_weight[3][c], q);
      const float of_step =
          sum_to_tokens<Shape>(grad_step[0][c], grad_step[1][c], grad_step[2][c], grad_step[3][c], q);
      const float u = raw_u[c], z = raw_z[c], gate = fast_sigmoid(z);
      // The exponents carry a factor log2(e).
      const float slope = p.delta_softplus ? fast_sigmoid(raw_delta[c] + bias[c]) : 1.f;
      grad_delta[c] = fmaf(of_weight, u, of_step * kLn2) * slope;
      grad_u[c] = fmaf(of_weight, delta[c], grad_y[c] * skip[c]);
      const float ungated = fmaf(skip[c], u, y_own[c]);
      grad_z[c] = raw_grad_out[c] * ungated * (gate * fmaf(z, 1.f - gate, 1.f));
      out[c] = ungated * (has_z ? z * gate : 1.f);
      if (exists && (kVector || c < place.channels)) {
        grad_D[c] = fmaf(grad_y[c], u, grad_D[c]);
        grad_bias[c] += grad_delta[c];
      }
    }
    const auto store = [&](const TokenRow<T>& row, const float(&values)[kChannels], bool wanted) {
      store_pack<kVector, kChannels>(row.at(token), values, exists && wanted, place.channels);
    };
    store(grad_u_row, grad_u, p.grad_u.data);
    store(grad_delta_row, grad_delta, p.grad_delta.data);
    store(grad_z_row, grad_z, p.grad_z.data);
    if (kOut && (kVector || p.out.data)) {
      // Found anew for every group: registers are scarcer than instructions.
      const TokenRow<T> out_row(p.out, pinned(place.row), place.channel);
      store_pack<kVector, kChannels>(out_row.at(token), out, exists, place.channels);
    }
  };

  // Adds the warp's sums of kChainGroups groups from `group` on to those of the warps before it; the last
  // warp writes them.
  float* const chain = stage + Stage::kFloats + place.lane * 4;
  const auto add_sums = [&](int turn, int tile, int group) {
    if (place.warp > 0)
      barriers.summed[place.warp - 1].wait(turn);
    else
      barriers.summed[warps - 1].wait(turn - 1);
#pragma unroll
    for (int i = 0; i < Memory::kChain; i += 128) {
      const float* const own = Memory::kSumsByTile
                                   ? states_of_warp + i / Memory::kSums * Memory::kStates + i % Memory::kSums
                                   : group_sums + i;
      float4 sum = *reinterpret_cast<const float4*>(own + place.lane * 4);
      if (place.warp > 0) {
        const float4 v = *reinterpret_cast<const float4*>(chain + i);
        sum.x += v.x, sum.y += v.y, sum.z += v.z, sum.w += v.w;
      }
      if (place.warp < warps - 1) {
        *reinterpret_cast<float4*>(chain + i) = sum;
        continue;
      }
      const int64_t rows = gridDim.x / grid.channel_blocks, row = place.row - grid.first_row;
      const int at = i + place.lane * 4, n = at % kPadded, kind = at / (kGroup * kPadded) % 2;
      const int token = tile * kTile + (group + at / Memory::kSums) * kGroup + at / kPadded % kGroup;
      if (token >= length || n >= N) continue;
      float* const to =
          partials.BC + (((place.block * 2 + kind) * rows + row) * p.length + token) * int64_t{N} + n;
      if (N % 4 == 0) {
        *reinterpret_cast<float4*>(to) = sum;
      } else {
        const float values[4] = {sum.x, sum.y, sum.z, sum.w};
        for (int j = 0; j < 4 && n + j < N; ++j) to[j] = values[j];
      }
    }
    barriers.summed[place.warp].arrive();
  };

  const bool fetches = place.warp == 0;
  if (fetches) {
    fill(end_tile - 1, shared);
    barriers.filled[0].arrive();
  }
  // The warps of a scheduler begin one after the other, so that one prepares and sweeps, which leaves half of
  // the instruction slots free, while the others walk.
  constexpr int kSchedulers = 4;
  if (place.warp >= kSchedulers) barriers.swept[place.warp - kSchedulers].wait(0);
  int turn = 0;
  for (int tile = end_tile - 1; tile >= first_tile; --tile, ++turn) {
    float state[kChannels][kStates];
    state_place.load(p.saved_states + (static_cast<int64_t>(place.row) * tiles + tile) * state_size, state);
    starts.retreat(tile * kTile);
    const unsigned broken = starts.template broken_groups<true>();
    prepare_tile(tile);
    permute_states<Shape>(state, pinned(place.column));
    __syncwarp();
    barriers.filled[turn & 1].wait(turn >> 1);
    const float* const tile_coefficients = coefficients + (turn & 1) * Memory::kTileFloats;
    sweep_tile(state, tile_coefficients, broken);
    __syncwarp();
    if (turn == 0) barriers.swept[place.warp].arrive();
    const bool staged = Stage::usable(N, grid.vector_bc);
    if (fetches && staged && tile > first_tile) {
      Stage::copy(stage, p.B, p.C, place.row, int64_t{place.group} * N, (tile - 1) * kTile, length,
                  place.lane, 32);
      commit_copies();
    }
    if (tile > first_tile) prefetch_tile(tile - 1);
#pragma unroll 1
    for (int group = kGroups - 1; group >= 0; --group) {
      if (!(broken >> group & 1))
        walk_group(tile_coefficients, tile, group, std::false_type{});
      else
        walk_group(tile_coefficients, tile, group, std::true_type{});
      if constexpr (!Memory::kSumsByTile) {
        __syncwarp();
        add_sums(turn * kGroups + kGroups - 1 - group, tile, group);
      }
    }
    barriers.emptied[turn & 1].arrive();
    if (fetches && tile > first_tile) {
      const int next = turn + 1;
      float* const to = shared + (next & 1) * Memory::kTileFloats;
      barriers.emptied[next & 1].wait((next >> 1) - 1);
      if (staged) {
        wait_copies<0>();
        Stage::template convert<Memory::kCopies>(stage, to, to + kC, kPitch, place.lane, 32);
      } else {
        fill(tile - 1, to);
      }
      barriers.filled[next & 1].arrive();
    }
    if constexpr (Memory::kSumsByTile) add_sums(turn, tile, 0);
  }

  if (chained && place.segment > 0) {
    permute_states<Shape>(adjoint, place.column);
    state_place.store(carry + (place.part(grid) - 1) * state_size, adjoint);
    queue.pass_on();
  }
  permute_states<Shape>(grad_A, place.column);
  const int64_t part = place.part(grid);
  state_place.store(partials.A + part * state_size, grad_A);
#pragma unroll
  for (int c = 0; c < kChannels; ++c) {
    // Lanes from kGroup on hold zeros.
#pragma unroll
    for (int mask = 1; mask < kGroup; mask *= 2) {
      grad_D[c] += __shfl_xor_sync(kFullWarp, grad_D[c], mask);
      grad_bias[c] += __shfl_xor_sync(kFullWarp, grad_bias[c], mask);
    }
    if (q == 0 && c < place.channels) {
      partials.D[part * p.channels + place.channel + c] = grad_D[c];
      partials.bias[part * p.channels + place.channel + c] = grad_bias[c];
    }
  }
}

}  // namespace exactmamba::ops::scan
