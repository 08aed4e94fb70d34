// The Mamba-1 scan on the GPU, forward; the parts that backward shares.
//
// A warp owns a few neighbouring channels of one row and walks over its tokens. A column of kLanes lanes
// shares kChannels channels: each lane keeps kStates states of each in registers. Tokens go in groups of
// four: lane q < 4 of a column has token q of a group copied three groups ahead, computes its Δ and Δ·u one
// group ahead, and passes them to the column through the warp's own shared memory; sums over the states are
// transposed so that lane q ends up with token q, whose gate and output it computes while the next group is
// scanned. B and C of a tile of 32 tokens are shared by the block, as fp32; that is the only thing for which
// the warps of a block wait for each other.
//
// Where batch × channels is small the rows are cut into segments: one launch finds every segment's own final
// state and decay, a second one chains them, and the scan proper starts every segment from the right state.
#pragma once

#include "models/ops/selective_scan/selective_scan_device.cuh"

namespace exactmamba::ops::scan {

// ---- forward ----

/// What the lanes of a warp pass to their columns, float kValues times a column: rows of tokens, padded so
/// that a warp writes four of them without bank conflicts.
template <class Shape, int kValues>
struct ExchangeLayout {
  static constexpr int kPad = Shape::kLanes == 4 && Shape::kChannels == 2 ? 2 : 0;  // columns
  static constexpr int kToken = (Shape::kColumns + kPad) * kValues, kGroupSize = kGroup * kToken;
};

/// Shared memory of the forward kernel, in floats.
template <class Shape>
struct ForwardMemory {
  static constexpr int kPitch = 2 * Shape::kPadded;         // B and C of a token
  static constexpr int kCoefficients = 2 * kTile * kPitch;  // two tiles
  using Exchange = ExchangeLayout<Shape, 2 * Shape::kChannels>;
  static constexpr int kExchange = 2 * Exchange::kGroupSize;  // two groups, of each warp
  template <class T, bool kVector>
  static constexpr size_t bytes(int warps) {
    return (kCoefficients + warps * (kExchange + GroupLoads<T, Shape, kVector, 3>::kFloats) +
            TileStage<Shape, T>::kFloats) *
           sizeof(float);
  }
};

/// Δ and Δ·u of one channel pack; 0 leaves the state alone.
template <class Shape>
__device__ __forceinline__ void write_exchange(float* to, const float (&delta)[Shape::kChannels],
                                               const float (&weight)[Shape::kChannels]) {
  if constexpr (Shape::kChannels == 2)
    *reinterpret_cast<float4*>(to) = make_float4(delta[0], delta[1], weight[0], weight[1]);
  else
    *reinterpret_cast<float2*>(to) = make_float2(delta[0], weight[0]);
}
template <class Shape>
__device__ __forceinline__ void read_exchange(const float* from, float (&delta)[Shape::kChannels],
                                              float (&weight)[Shape::kChannels]) {
  if constexpr (Shape::kChannels == 2) {
    const float4 v = *reinterpret_cast<const float4*>(from);
    delta[0] = v.x, delta[1] = v.y, weight[0] = v.z, weight[1] = v.w;
  } else {
    const float2 v = *reinterpret_cast<const float2*>(from);
    delta[0] = v.x, weight[0] = v.y;
  }
}
template <int kStates>
__device__ __forceinline__ void read_states(const float* from, float (&to)[kStates]) {
#pragma unroll
  for (int n = 0; n < kStates; n += 4) {
    const float4 v = *reinterpret_cast<const float4*>(from + n);
    to[n] = v.x, to[n + 1] = v.y, to[n + 2] = v.z, to[n + 3] = v.w;
  }
}

/// `carry` (B, segments, D, N): the state entering every segment; null where rows are whole.
template <class T, class Shape, bool kVector, int kBlocks>
__global__ void __launch_bounds__(128, kBlocks)
    forward_kernel(const __grid_constant__ SelectiveScanCudaParams<T> p,
                   const __grid_constant__ ScanGrid grid, const float* carry) {
  constexpr int kChannels = Shape::kChannels, kStates = Shape::kStates;
  using Memory = ForwardMemory<Shape>;
  using Exchange = typename Memory::Exchange;
  extern __shared__ __align__(16) float shared[];

  const Place<Shape> place(p, grid, blockIdx.x, blockIdx.y, threadIdx.x >> 5);
  const StatePlace<Shape> state_place = place.states(p, grid);
  const int length = static_cast<int>(p.length), N = static_cast<int>(p.states), q = place.q;
  const int tiles = (length + kTile - 1) / kTile;
  const int first_tile = place.segment * grid.segment_tiles,
            end_tile = min(tiles, first_tile + grid.segment_tiles);
  const int64_t state_size = p.channels * p.states;
  float* const exchange = shared + pinned(Memory::kCoefficients + place.warp * Memory::kExchange +
                                          place.column * (2 * kChannels));
  float* const exchange_own = exchange + pinned(q * Exchange::kToken);  // of the lane's own token
  const bool loads = Shape::kLanes <= kGroup || q < kGroup;             // lanes beyond keep zeros
  // Tokens from here on do not exist for this lane.
  const int end_token = pinned(loads && place.channels > 0 ? length : 0),
            z_end_token = pinned(p.z.data ? end_token : 0);
  const int has_z = pinned(p.z.data != nullptr);

  const int begin_token = first_tile * kTile;
  TokenRow<const T> u_row(p.u, place.row, place.channel), delta_row(p.delta, place.row, place.channel),
      z_row(p.z, place.row, place.channel);
  TokenRow<T> out_row(p.out, place.row, place.channel);
  float exponent[kChannels][kStates], state[kChannels][kStates] = {}, skip[kChannels], bias[kChannels];
  load_exponents(state_place, p, exponent);
  load_channels(p.D, place.channel, place.channels, skip);
  load_channels(p.delta_bias, place.channel, place.channels, bias);

  SequenceStarts starts(p, place.row, first_tile * kTile);
  if (carry)
    state_place.load(carry + place.part(grid) * state_size, state);
  else if (p.initial_state)
    state_place.load(p.initial_state + (p.cu_seqlens ? starts.next - 1 : place.row) * state_size, state);

  using Loads = GroupLoads<T, Shape, kVector, 3>;
  using Stage = TileStage<Shape, T>;
  float* const behind_warps = shared + Memory::kCoefficients + (blockDim.x / 32) * Memory::kExchange;
  float* const stage = behind_warps + (blockDim.x / 32) * Loads::kFloats;
  Loads loads_of(behind_warps + pinned(place.warp * Loads::kFloats), place.lane);
  typename Loads::Raw raw_u[2], raw_z[2];  // of the group in work and of the next
  const auto load_group = [&](int slot, int t) {
    loads_of.start(slot, 0, delta_row.at(t), t < end_token, place.channels);
    loads_of.start(slot, 1, u_row.at(t), t < end_token, place.channels);
    loads_of.start(slot, 2, z_row.at(t), t < z_end_token, place.channels);
    loads_of.commit();
  };
  const auto prepare_group = [&](int slot, int t) {
    float delta[kChannels], weight[kChannels];
    const typename Loads::Raw raw_delta = loads_of.get(slot, 0);
    raw_u[slot & 1] = loads_of.get(slot, 1), raw_z[slot & 1] = loads_of.get(slot, 2);
#pragma unroll
    for (int c = 0; c < kChannels; ++c) {
      const float biased = raw_delta[c] + bias[c];
      const float smooth = softplus<T>(biased);
      delta[c] = t < end_token ? (p.delta_softplus ? smooth : biased) : 0.f;
      weight[c] = delta[c] * raw_u[slot & 1][c];
    }
    if (loads) write_exchange<Shape>(exchange_own + (slot & 1) * Exchange::kGroupSize, delta, weight);
  };
  const auto fill = [&](int tile) {
    float* to = shared + (tile & 1) * kTile * Memory::kPitch;
    fill_tile<Shape, 1>(to, Memory::kPitch, p.B, place.row, int64_t{place.group} * N, N, tile * kTile, length,
                        grid.vector_bc, threadIdx.x, blockDim.x);
    fill_tile<Shape, 1>(to + Shape::kPadded, Memory::kPitch, p.C, place.row, int64_t{place.group} * N, N,
                        tile * kTile, length, grid.vector_bc, threadIdx.x, blockDim.x);
  };

  const auto scan_token = [&](const float* coefficients, const float* exchanged, float(&y)[kChannels]) {
    float delta[kChannels], weight[kChannels], B[kStates], C[kStates];
    read_exchange<Shape>(exchanged, delta, weight);
    read_states(coefficients + q * kStates, B);
    read_states(coefficients + Shape::kPadded + q * kStates, C);
#pragma unroll
    for (int c = 0; c < kChannels; ++c) {
      y[c] = 0.f;
#pragma unroll
      for (int n = 0; n < kStates; ++n) {
        state[c][n] = fmaf(fast_exp2(delta[c] * exponent[c][n]), state[c][n], weight[c] * B[n]);
        y[c] = fmaf(state[c][n], C[n], y[c]);
      }
    }
  };
  const auto restart = [&](int sequence) {
    if (p.last_state) state_place.store(p.last_state + (sequence - 1) * state_size, state);
    if (p.initial_state) {
      state_place.load(p.initial_state + sequence * state_size, state);
    } else {
#pragma unroll
      for (int c = 0; c < kChannels; ++c)
#pragma unroll
        for (int n = 0; n < kStates; ++n) state[c][n] = 0.f;
    }
  };

  fill(first_tile);
#pragma unroll
  for (int i = 0; i < 3; ++i) load_group(i, first_tile * kTile + i * kGroup + q);
  loads_of.template wait<2>();
  prepare_group(0, first_tile * kTile + q);
  int token = first_tile * kTile + q;  // the lane's own

  // A group's output is finished while the next one is scanned.
  float y[kGroup][kChannels] = {};
  const auto finish_group = [&](int slot, int t) {
    float out[kChannels];
#pragma unroll
    for (int c = 0; c < kChannels; ++c) {
      const float sum = sum_to_tokens<Shape>(y[0][c], y[1][c], y[2][c], y[3][c], q);
      const float z = raw_z[slot & 1][c];
      out[c] = fmaf(skip[c], raw_u[slot & 1][c], sum) * (has_z ? z * fast_sigmoid(z) : 1.f);
    }
    store_pack<kVector, kChannels>(out_row.at(t), out, t >= begin_token && t < end_token, place.channels);
  };
  const auto scan_group = [&](int slot, const float* coefficients, int offset, auto broken) {
    if constexpr (Loads::kAsync) load_group((slot + 3) & 3, token + 3 * kGroup);
    loads_of.template wait<2>();
    const float* const exchanged = exchange + (slot & 1) * Exchange::kGroupSize;
    finish_group(slot + 3, token - kGroup);
    if constexpr (!decltype(broken)::value) {
#pragma unroll
      for (int i = 0; i < kGroup; ++i) {
        // In the middle, so that its chain of operations runs beside the scan.
        if (i == kGroup / 2) prepare_group((slot + 1) & 3, token + kGroup);
        scan_token(coefficients + i * Memory::kPitch, exchanged + i * Exchange::kToken, y[i]);
      }
    } else {
      prepare_group((slot + 1) & 3, token + kGroup);
#pragma unroll 1
      for (int i = 0; i < kGroup; ++i) {
        if (starts.at(offset + i)) restart(starts.sequence(offset + i));
        float y_now[kChannels];
        scan_token(coefficients + i * Memory::kPitch, exchanged + i * Exchange::kToken, y_now);
#pragma unroll
        for (int j = 0; j < kGroup; ++j)
#pragma unroll
          for (int c = 0; c < kChannels; ++c) y[j][c] = i == j ? y_now[c] : y[j][c];
      }
    }
    if constexpr (!Loads::kAsync) load_group((slot + 3) & 3, token + 3 * kGroup);
  };

  for (int tile = first_tile; tile < end_tile; ++tile) {
    __syncthreads();
    const bool staged = Stage::usable(N, grid.vector_bc) && tile + 1 < end_tile;
    if (staged)
      Stage::copy(stage, p.B, p.C, place.row, int64_t{place.group} * N, (tile + 1) * kTile, length,
                  threadIdx.x, blockDim.x);  // committed below
    starts.advance(tile * kTile);
    if (p.chunk_states)
      state_place.store(p.chunk_states + (static_cast<int64_t>(place.row) * tiles + tile) * state_size,
                        state);
    const float* const coefficients = shared + (tile & 1) * kTile * Memory::kPitch;
    unsigned broken = starts.template broken_groups<false>();
#pragma unroll 1
    for (int half = 0; half < kGroups; half += 4, broken >>= 4) {
#pragma unroll
      for (int slot = 0; slot < 4; ++slot, token += kGroup) {
        const int offset = (half + slot) * kGroup;
        const float* const group_coefficients = coefficients + offset * Memory::kPitch;
        __syncwarp();
        // One straight piece of code, so that the next group's preparation fills the gaps of this one's scan.
        if (!(broken >> slot & 1))
          scan_group(slot, group_coefficients, offset, std::false_type{});
        else
          scan_group(slot, group_coefficients, offset, std::true_type{});
      }
    }
    if (staged) {
      if constexpr (!Loads::kAsync) commit_copies(), wait_copies<0>();
      float* const to = shared + ((tile + 1) & 1) * kTile * Memory::kPitch;
      Stage::template convert<1>(stage, to, to + Shape::kPadded, Memory::kPitch, threadIdx.x, blockDim.x);
    } else if (tile + 1 < end_tile) {
      fill(tile + 1);
    }
  }
  finish_group(3, token - kGroup);
  if (p.last_state && end_tile == tiles) {
    const int64_t sequence = p.cu_seqlens ? starts.next - 1 : place.row;
    state_place.store(p.last_state + sequence * state_size, state);
  }
}

// ---- segments ----

/// Every segment's final state when it starts from zeros, and its decay from end to end; with kReverse those
/// of the adjoint recurrence G_t = a_t (C_t ∂y_t + G_{t+1}), which runs from the last token to the first.
template <class T, class Shape, bool kVector, bool kReverse>
__global__ void __launch_bounds__(128)
    segment_kernel(const __grid_constant__ SelectiveScanCudaParams<T> p,
                   const __grid_constant__ ScanGrid grid, float* states, float* decays) {
  constexpr int kChannels = Shape::kChannels, kStates = Shape::kStates, kPitch = Shape::kPadded;
  using Memory = ForwardMemory<Shape>;
  using Exchange = typename Memory::Exchange;
  extern __shared__ __align__(16) float shared[];

  const Place<Shape> place(p, grid, blockIdx.x, blockIdx.y, threadIdx.x >> 5);
  const StatePlace<Shape> state_place = place.states(p, grid);
  const int length = static_cast<int>(p.length), N = static_cast<int>(p.states), q = place.q;
  const int tiles = (length + kTile - 1) / kTile;
  const int first_tile = place.segment * grid.segment_tiles,
            end_tile = min(tiles, first_tile + grid.segment_tiles);
  const int64_t state_size = p.channels * p.states;
  float* const exchange = shared + pinned(Memory::kCoefficients + place.warp * Memory::kExchange +
                                          place.column * (2 * kChannels));
  float* const exchange_own = exchange + pinned(q * Exchange::kToken);  // of the lane's own token
  const bool loads = Shape::kLanes <= kGroup || q < kGroup;
  const int end_token = pinned(loads && place.channels > 0 ? length : 0),
            z_end_token = pinned(p.z.data ? end_token : 0);

  // The input's weight is Δ·u, the adjoint's ∂y = ∂out · SiLU(z).
  const int groups = (end_tile - first_tile) * kGroups;
  const auto token_of = [&](int index) {  // of the groups in the order of the walk
    return (kReverse ? first_tile * kGroups + groups - 1 - index : first_tile * kGroups + index) * kGroup;
  };
  TokenRow<const T> delta_row(p.delta, place.row, place.channel),
      input_row(kReverse ? p.grad_out : p.u, place.row, place.channel), z_row(p.z, place.row, place.channel);
  const Rows<const T>& matrix = kReverse ? p.C : p.B;
  float exponent[kChannels][kStates], state[kChannels][kStates] = {}, bias[kChannels],
                                      elapsed[kChannels] = {};
  load_exponents(state_place, p, exponent);
  load_channels(p.delta_bias, place.channel, place.channels, bias);
  bool reset = false;
  const auto restart = [&](const float* from, int64_t sequence) {
    reset = true;
    if (from) {
      state_place.load(from + sequence * state_size, state);
    } else {
#pragma unroll
      for (int c = 0; c < kChannels; ++c)
#pragma unroll
        for (int n = 0; n < kStates; ++n) state[c][n] = 0.f;
    }
  };
  SequenceStarts starts(p, place.row, kReverse ? min(end_tile * kTile + 1, length) : first_tile * kTile);

  using Loads = GroupLoads<T, Shape, kVector, 3>;
  Loads loads_of(shared + Memory::kCoefficients + (blockDim.x / 32) * Memory::kExchange +
                     pinned(place.warp * Loads::kFloats),
                 place.lane);
  const auto load_group = [&](int slot, int index) {
    const int t = index < groups ? token_of(index) + q : length;
    loads_of.start(slot, 0, delta_row.at(t), t < end_token, place.channels);
    loads_of.start(slot, 1, input_row.at(t), t < end_token, place.channels);
    if constexpr (kReverse) loads_of.start(slot, 2, z_row.at(t), t < z_end_token, place.channels);
    loads_of.commit();
  };
  const auto prepare_group = [&](int slot, int index) {
    float delta[kChannels], weight[kChannels];
    const typename Loads::Raw raw_delta = loads_of.get(slot, 0), raw_input = loads_of.get(slot, 1);
    typename Loads::Raw raw_z;
    if constexpr (kReverse) raw_z = loads_of.get(slot, 2);
#pragma unroll
    for (int c = 0; c < kChannels; ++c) {
      const float biased = raw_delta[c] + bias[c];
      const float smooth = softplus<T>(biased), input = raw_input[c];
      delta[c] = token_of(index) + q < end_token ? (p.delta_softplus ? smooth : biased) : 0.f;
      if constexpr (kReverse) {
        const float z = raw_z[c];
        weight[c] = p.z.data ? input * (z * fast_sigmoid(z)) : input;
      } else {
        weight[c] = delta[c] * input;
      }
    }
    if (loads) write_exchange<Shape>(exchange_own + (slot & 1) * Exchange::kGroupSize, delta, weight);
  };
  const auto fill = [&](int tile) {
    fill_tile<Shape, 1>(shared + (tile & 1) * kTile * kPitch, kPitch, matrix, place.row,
                        int64_t{place.group} * N, N, tile * kTile, length, grid.vector_bc, threadIdx.x,
                        blockDim.x);
  };
  const auto scan_token = [&](const float* coefficients, const float* exchanged) {
    float delta[kChannels], weight[kChannels], column[kStates];
    read_exchange<Shape>(exchanged, delta, weight);
    read_states(coefficients + q * kStates, column);
#pragma unroll
    for (int c = 0; c < kChannels; ++c) {
      elapsed[c] += delta[c];
#pragma unroll
      for (int n = 0; n < kStates; ++n) {
        const float decay = fast_exp2(delta[c] * exponent[c][n]);
        state[c][n] = kReverse ? decay * fmaf(weight[c], column[n], state[c][n])
                               : fmaf(decay, state[c][n], weight[c] * column[n]);
      }
    }
  };

  fill(kReverse ? end_tile - 1 : first_tile);
#pragma unroll
  for (int i = 0; i < 3; ++i) load_group(i, i);
  loads_of.template wait<2>();
  prepare_group(0, 0);
  for (int index = 0; index < end_tile - first_tile; ++index) {
    const int tile = kReverse ? end_tile - 1 - index : first_tile + index;
    __syncthreads();
    kReverse ? starts.retreat(tile * kTile) : starts.advance(tile * kTile);
    const float* const coefficients = shared + (tile & 1) * kTile * kPitch;
    const unsigned broken_groups = starts.template broken_groups<kReverse>();
#pragma unroll 1
    for (int half = 0; half < kGroups; half += 4) {
#pragma unroll
      for (int slot = 0; slot < 4; ++slot) {
        const int walked = index * kGroups + half + slot, offset = token_of(walked) - tile * kTile;
        __syncwarp();
        if constexpr (Loads::kAsync) load_group((slot + 3) & 3, walked + 3);
        loads_of.template wait<2>();
        prepare_group((slot + 1) & 3, walked + 1);
        if constexpr (!Loads::kAsync) load_group((slot + 3) & 3, walked + 3);
        const float* exchanged = exchange + (slot & 1) * Exchange::kGroupSize;
        const bool broken = broken_groups >> (offset / kGroup) & 1;
#pragma unroll
        for (int j = 0; j < kGroup; ++j) {
          const int i = kReverse ? kGroup - 1 - j : j;
          if (broken) {
            if (kReverse && starts.at(offset + i + 1))
              restart(p.grad_last_state, starts.sequence(offset + i + 1) - 1);
            if (!kReverse && starts.at(offset + i)) restart(p.initial_state, starts.sequence(offset + i));
          }
          scan_token(coefficients + (offset + i) * kPitch, exchanged + i * Exchange::kToken);
        }
      }
    }
    if (index + 1 < end_tile - first_tile) fill(kReverse ? tile - 1 : tile + 1);
  }
  const int64_t at = place.part(grid) * state_size;
  state_place.store(states + at, state);
#pragma unroll
  for (int c = 0; c < kChannels; ++c)
#pragma unroll
    for (int n = 0; n < kStates; ++n) state[c][n] = reset ? 0.f : fast_exp2(elapsed[c] * exponent[c][n]);
  state_place.store(decays + at, state);
}

/// Turns the segments' own states into the states that enter them. `border` (S, D, N) [nullable] enters the
/// first segment of the walk; with `reverse` that is the last of the row.
static __global__ void chain_kernel(float* states, const float* decays, const float* border,
                                    const int32_t* cu_seqlens, int64_t sequence_count, int64_t length,
                                    int64_t state_size, int segments, bool reverse) {
  const int64_t element = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int row = blockIdx.y;
  __shared__ int first_sequence;
  if (border) {
    if (threadIdx.x < 32) {
      // The row's first sequence, or its last one: the one before the next row's first.
      int sequence = row;
      if (cu_seqlens)
        sequence = first_start_from(cu_seqlens, static_cast<int>(sequence_count), (row + reverse) * length) -
                   reverse;
      if (threadIdx.x == 0) first_sequence = sequence;
    }
    __syncthreads();
  }
  if (element >= state_size) return;
  float carry = border ? border[first_sequence * state_size + element] : 0.f;
  float* const state = states + row * segments * state_size + element;
  const float* const decay = decays + row * segments * state_size + element;
#pragma unroll 8
  for (int i = 0; i < segments; ++i) {
    const int64_t at = (reverse ? segments - 1 - i : i) * state_size;
    const float own = state[at];
    state[at] = carry;
    carry = fmaf(decay[at], carry, own);
  }
}

// ---- one token ----

/// A warp takes 32 / kLanes channels of a row; each lane every kLanes-th state of one of them.
template <class T, int kLanes>
__global__ void step_kernel(const __grid_constant__ SelectiveScanCudaParams<T> p) {
  const int q = threadIdx.x % kLanes;
  const int64_t channel = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / kLanes;
  const int64_t row = blockIdx.y;
  if (channel >= p.channels) return;  // whole columns leave; the shuffles below stay within a column
  const unsigned column =
      kLanes == 32 ? kFullWarp : ((1u << kLanes) - 1) << (threadIdx.x % 32 / kLanes * kLanes);

  const int64_t group = channel / (p.channels / p.groups);
  const float u = to_float(p.u.data[row * p.u.batch_stride + channel]);
  const float biased = to_float(p.delta.data[row * p.delta.batch_stride + channel]) +
                       (p.delta_bias ? p.delta_bias[channel] : 0.f);
  const float delta = p.delta_softplus ? softplus<T>(biased) : biased;
  const T* B = p.B.data + row * p.B.batch_stride + group * p.states;
  const T* C = p.C.data + row * p.C.batch_stride + group * p.states;
  const float* A = p.A + channel * p.states;
  const float* before = p.initial_state + (row * p.channels + channel) * p.states;
  float* after = p.last_state + (row * p.channels + channel) * p.states;
  float y = 0.f;
  for (int n = q; n < p.states; n += kLanes) {
    const float state =
        fmaf(fast_exp2(delta * (A_of(p, A[n]) * kLog2E)), before[n], delta * u * to_float(B[n]));
    after[n] = state;
    y = fmaf(state, to_float(C[n]), y);
  }
#pragma unroll
  for (int mask = 1; mask < kLanes; mask *= 2) y += __shfl_xor_sync(column, y, mask);
  if (q == 0) {
    float value = y + (p.D ? p.D[channel] * u : 0.f);
    if (p.z.data) {
      const float z = to_float(p.z.data[row * p.z.batch_stride + channel]);
      value *= z * fast_sigmoid(z);
    }
    p.out.data[row * p.out.batch_stride + channel] = from_float<T>(value);
  }
}

// ---- launches ----

inline int multiprocessors() {
  int device = 0, count = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device);
  return std::max(count, 1);
}

template <class R>
bool aligned_rows(const R& rows, int64_t bytes) {
  if (!rows.data) return true;
  const int64_t size = sizeof(*rows.data);
  return reinterpret_cast<uintptr_t>(rows.data) % bytes == 0 && rows.batch_stride * size % bytes == 0 &&
         rows.token_stride * size % bytes == 0;
}
inline bool aligned(const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; }

template <class R>
bool fits_int(const R& rows) {
  return !rows.data || (rows.token_stride >= 0 && rows.token_stride < (int64_t{1} << 28));
}

/// Calls f with the shape for N states and whether two channels may be accessed at once.
template <class T, class F>
cudaError_t dispatch_shape(const SelectiveScanCudaParams<T>& p, F&& f) {
  const int64_t bytes = 2 * sizeof(T);
  const auto aligned = [&](const auto&... rows) { return (aligned_rows(rows, bytes) && ...); };
  const bool vector = p.channels / p.groups % 2 == 0 &&
                      aligned(p.u, p.delta, p.z, p.out, p.grad_out, p.grad_u, p.grad_delta, p.grad_z);
  if (p.states <= 16)
    return vector ? f.template operator()<ScanShape<4, 4, 2>, true>()
                  : f.template operator()<ScanShape<4, 4, 2>, false>();
  if (p.states <= 32) return f.template operator()<ScanShape<8, 4, 2>, false>();
  if (p.states <= 64) return f.template operator()<ScanShape<16, 4, 2>, false>();
  if (p.states <= 128) return f.template operator()<ScanShape<32, 4, 2>, false>();
  return f.template operator()<ScanShape<32, 8, 1>, false>();
}

template <class Shape, class T>
ScanGrid grid_of(const SelectiveScanCudaParams<T>& p, int warps) {
  ScanGrid grid{};
  const int64_t per_group = p.channels / p.groups, of_block = warps * Shape::kWarpChannels;
  grid.blocks_per_group = static_cast<int>((per_group + of_block - 1) / of_block);
  grid.channel_blocks = grid.blocks_per_group * static_cast<int>(p.groups);
  grid.vector_bc = p.states * sizeof(T) % 16 == 0 && aligned_rows(p.B, 16) && aligned_rows(p.C, 16);
  grid.vector_states = p.states % 4 == 0 && aligned(p.A) && aligned(p.initial_state) &&
                       aligned(p.last_state) && aligned(p.chunk_states) && aligned(p.saved_states) &&
                       aligned(p.grad_last_state);
  grid.segments = 1;
  grid.segment_tiles = static_cast<int>((p.length + kTile - 1) / kTile);
  return grid;
}

/// Cuts rows into segments of whole tiles, as equal as can be.
inline void cut(ScanGrid& grid, int64_t segments) {
  const int tiles = grid.segment_tiles;
  grid.segment_tiles = static_cast<int>((tiles + segments - 1) / segments);
  grid.segments = (tiles + grid.segment_tiles - 1) / grid.segment_tiles;
}

/// Cuts rows into segments where whole rows would leave most of the device idle. A cut costs a second walk,
/// so it must at least double the number of blocks at work; a segment has at least two tiles.
inline void cut_into_segments(ScanGrid& grid, int64_t blocks, int64_t wanted) {
  const int64_t cuts = std::min<int64_t>(wanted / blocks, grid.segment_tiles / 2);
  if (cuts >= 3) cut(grid, cuts);
}

template <class T>
bool valid(const SelectiveScanCudaParams<T>& p) {
  const auto fit = [](const auto&... rows) { return (fits_int(rows) && ...); };
  return fit(p.u, p.delta, p.z, p.B, p.C, p.out, p.grad_out, p.grad_u, p.grad_delta, p.grad_z) &&
         p.states >= 1 && p.states <= 256 && p.groups >= 1 && p.channels % p.groups == 0 &&
         p.length < (int64_t{1} << 28);
}

template <class Kernel>
cudaError_t allow_shared(Kernel kernel, size_t bytes) {
  if (bytes <= 48 * 1024) return cudaSuccess;
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
}

template <class Shape, class T>
int forward_warps(const SelectiveScanCudaParams<T>& p) {
  const int64_t per_group = p.channels / p.groups;
  return static_cast<int>(
      std::min<int64_t>(4, (per_group + Shape::kWarpChannels - 1) / Shape::kWarpChannels));
}

template <class Shape, class T>
ScanGrid forward_grid(const SelectiveScanCudaParams<T>& p) {
  const int warps = forward_warps<Shape>(p);
  ScanGrid grid = grid_of<Shape>(p, warps);
  // With segments, initial states are read by other blocks than those that write the last ones.
  const bool in_place = p.cu_seqlens && p.initial_state && p.initial_state == p.last_state;
  if (!in_place)
    cut_into_segments(grid, p.batch * grid.channel_blocks, int64_t{multiprocessors()} * 12 / warps);
  return grid;
}

/// States and decays of the segments.
template <class T>
size_t segment_bytes(const SelectiveScanCudaParams<T>& p, const ScanGrid& grid) {
  return grid.segments == 1 ? 0 : 2 * sizeof(float) * p.batch * grid.segments * p.channels * p.states;
}

/// Fills `carry` with the states that enter the segments.
template <class T, class Shape, bool kVector, bool kReverse>
cudaError_t launch_segments(const SelectiveScanCudaParams<T>& p, const ScanGrid& grid, int warps,
                            float* carry) {
  const int64_t state_size = p.channels * p.states;
  float* const decays = carry + p.batch * grid.segments * state_size;
  const auto kernel = segment_kernel<T, Shape, kVector, kReverse>;
  const size_t bytes = ForwardMemory<Shape>::template bytes<T, kVector>(warps);
  if (const cudaError_t error = allow_shared(kernel, bytes)) return error;
  const dim3 blocks(static_cast<unsigned>(p.batch * grid.channel_blocks), grid.segments);
  kernel<<<blocks, 32 * warps, bytes, p.stream>>>(p, grid, carry, decays);
  const dim3 chains(static_cast<unsigned>((state_size + 127) / 128), static_cast<unsigned>(p.batch));
  chain_kernel<<<chains, 128, 0, p.stream>>>(carry, decays, kReverse ? p.grad_last_state : p.initial_state,
                                             p.cu_seqlens, p.sequence_count, p.length, state_size,
                                             grid.segments, kReverse);
  return cudaGetLastError();
}

}  // namespace exactmamba::ops::scan

namespace exactmamba::ops {

template <class T>
size_t selective_scan_forward_workspace(const SelectiveScanCudaParams<T>& p) {
  size_t bytes = 0;
  scan::dispatch_shape(p, [&]<class Shape, bool kVector>() {
    bytes = scan::segment_bytes(p, scan::forward_grid<Shape>(p));
    return cudaSuccess;
  });
  return bytes;
}

template <class T>
cudaError_t launch_selective_scan_forward(const SelectiveScanCudaParams<T>& p) {
  if (!scan::valid(p)) return cudaErrorInvalidValue;
  if (p.batch * p.length * p.channels == 0) return cudaSuccess;
  return scan::dispatch_shape(p, [&]<class Shape, bool kVector>() {
    const int warps = scan::forward_warps<Shape>(p);
    const scan::ScanGrid grid = scan::forward_grid<Shape>(p);
    float* carry = nullptr;
    if (grid.segments > 1) {
      carry = static_cast<float*>(p.workspace);
      if (const cudaError_t error = scan::launch_segments<T, Shape, kVector, false>(p, grid, warps, carry))
        return error;
    }
    // Fewer registers where that brings all blocks onto the device at once.
    auto kernel = scan::forward_kernel<T, Shape, kVector, 3>;
    if constexpr (kVector)
      if (p.batch * grid.channel_blocks * grid.segments > int64_t{3} * scan::multiprocessors())
        kernel = scan::forward_kernel<T, Shape, kVector, 4>;
    const size_t bytes = scan::ForwardMemory<Shape>::template bytes<T, kVector>(warps);
    if (const cudaError_t error = scan::allow_shared(kernel, bytes)) return error;
    const dim3 blocks(static_cast<unsigned>(p.batch * grid.channel_blocks), grid.segments);
    kernel<<<blocks, 32 * warps, bytes, p.stream>>>(p, grid, carry);
    return cudaGetLastError();
  });
}

template <class T>
cudaError_t launch_selective_scan_step(const SelectiveScanCudaParams<T>& p) {
  if (!scan::valid(p) || p.length != 1 || p.cu_seqlens || !p.initial_state || !p.last_state)
    return cudaErrorInvalidValue;
  if (p.batch * p.channels == 0) return cudaSuccess;
  constexpr int kThreads = 128;
  const auto launch = [&]<int kLanes>() {
    const dim3 blocks(static_cast<unsigned>((p.channels * kLanes + kThreads - 1) / kThreads),
                      static_cast<unsigned>(p.batch));
    scan::step_kernel<T, kLanes><<<blocks, kThreads, 0, p.stream>>>(p);
    return cudaGetLastError();
  };
  return p.states <= 32 ? launch.template operator()<8>() : launch.template operator()<32>();
}

}  // namespace exactmamba::ops
