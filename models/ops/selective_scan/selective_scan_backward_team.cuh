// The Mamba-1 scan on the GPU, backward, for 16 states and activations of 16 bits: who walks does nothing
// else.
//
// A block has 128 channels of a row and 16 warps. Eight walk as in selective_scan_backward_kernel.cuh, but
// from shared memory to shared memory. Beside each of them a helper does whatever waits for global memory: it
// prepares and sweeps the tiles to come, and finishes the tokens that were walked. A tile is prepared in
// halves, the first before the second, and walked from the second to the first, so that three places of half
// a tile are enough: the second halves use one of them in turn, the first halves the two others.
#pragma once

#include "models/ops/selective_scan/selective_scan_backward_device.cuh"

namespace exactmamba::ops::scan {

using TeamShape = ScanShape<4, 4, 2>;

/// Shared memory of the kernel, in floats.
struct TeamMemory {
  using Memory = BackwardMemory<TeamShape>;
  static constexpr int kWalkers = 8, kHalfGroups = kGroups / 2, kHalfTile = kTile / 2;
  // Of a group: the state in front of it, which the walker replaces by its sums over channels (∂B, ∂C) and
  // behind them by four of a lane's six sums over states; then Δ and Δ·u, where the other two come; then ∂y.
  static constexpr int kLaneSumsAt = Memory::kSums, kExchangeAt = Memory::kStates,
                       kGradYAt = kExchangeAt + Memory::Exchange::kGroupSize,
                       kOfGroup = kGradYAt + Memory::GradY::kGroupSize;
  static constexpr int kHalf = kHalfGroups * kOfGroup, kOfWalker = 3 * kHalf;
  // Behind the walkers' places: B and C of the next tile as they came, and its saved states.
  static constexpr int kWalkersAt = Memory::kCoefficients, kStageAt = kWalkersAt + kWalkers * kOfWalker,
                       kStage = 2 * kTile * TeamShape::kPadded / 2,
                       kStatesOfWarp = TeamShape::kWarpChannels * TeamShape::kPadded / 2;
  static constexpr size_t kBytes = (kStageAt + kStage + kWalkers * kStatesOfWarp) * sizeof(float);

  /// Where half `which` (0 or 1) of the tile of a turn lies among the walker's places.
  __device__ static constexpr int half_at(int turn, int which) {
    return which ? kHalf : (turn & 1) * (2 * kHalf);
  }
};

struct TeamBarriers {
  // Helpers: the sums of the half that lay here are added up; B and C are there. Half a tile a phase.
  PhaseBarrier ready;
  PhaseBarrier swept[TeamMemory::kWalkers];  // a tile is prepared
  // By all walkers: the second half of a tile; the first half, in each of its places.
  PhaseBarrier walked_second, walked_first[2];
};

/// Where sequences start in a tile, as the helper tells its walker.
struct TeamStarts {
  uint64_t bits;    // SequenceStarts::bits
  unsigned broken;  // groups
};

namespace team {

using Shape = TeamShape;
using Team = TeamMemory;
using Memory = Team::Memory;
using Exchange = Memory::Exchange;
using GradY = Memory::GradY;
constexpr int kChannels = Shape::kChannels, kStates = Shape::kStates, kPadded = Shape::kPadded,
              kWalkers = Team::kWalkers, kHalfGroups = Team::kHalfGroups;
constexpr int kPitch = Memory::kPitch,
              kC = kPitch / 2;  // of a token's B and C; C lies behind the copies of B

/// `x` or 0, where the compiler would rather branch around what makes x.
__device__ __forceinline__ float or_zero(bool exists, float x) {
  float result;
  asm("{ .reg .pred p; setp.ne.s32 p, %2, 0; selp.f32 %0, %1, 0f00000000, p; }"
      : "=f"(result)
      : "f"(x), "r"(static_cast<int>(exists)));
  return result;
}

/// Asked for anew wherever places that follow from it would otherwise wait in local memory.
__device__ __forceinline__ int fresh_thread() {
  int thread;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
  return thread;
}

/// What all warps of a block know.
template <class T>
struct Block {
  const SelectiveScanCudaParams<T>& p;
  const ScanGrid& grid;
  const BackwardPartials& partials;
  float* shared;
  TeamBarriers& barriers;
  TeamStarts (&told)[TeamMemory::kWalkers][2];  // by tiles in turn
  const Place<TeamShape>& place;                // walker i has the channels of helper i
  int tiles, first_tile, end_tile;              // of the row; of the segment

  __device__ __forceinline__ int length() const { return static_cast<int>(p.length); }
  __device__ __forceinline__ int64_t state_size() const { return p.channels * p.states; }
};

/// For the state of a sequence that starts, and the adjoint one of a sequence that ends.
__device__ __forceinline__ void reset(float (&state)[kChannels][kStates]) {
#pragma unroll
  for (int c = 0; c < kChannels; ++c)
#pragma unroll
    for (int n = 0; n < kStates; ++n) state[c][n] = 0.f;
}

__device__ __forceinline__ void read_grad_y(const float* from, float (&grad_y)[TeamShape::kChannels]) {
  const float2 v = *reinterpret_cast<const float2*>(from);
  grad_y[0] = v.x, grad_y[1] = v.y;
}

/// One warp: reads the inputs, prepares and sweeps tiles for its walker, and writes what the walker has
/// summed.
template <bool kPacked, class T>
__device__ __forceinline__ void help(const Block<T>& block, SequenceStarts& starts) {
  const SelectiveScanCudaParams<T>& p = block.p;
  const Place<Shape>& place = block.place;
  const StatePlace<Shape> state_place = place.states(p, block.grid);
  float* const shared = block.shared;
  const int length = block.length(), q = place.q, end_tile = block.end_tile, first_tile = block.first_tile,
            turns = end_tile - first_tile;
  // A lane without channels reads tokens of another's and takes none: its states, Δ, Δ·u and ∂y are 0.
  const int end_token = pinned(place.channels > 0 ? length : 0), last_token = length - 1;
  const bool has_z = p.z.data;
  // Cheap to find again, which is left to the compiler: registers are scarce.
  const int thread = threadIdx.x, lane = thread % 32;
  float* const of_walker = shared + Team::kWalkersAt + thread / 32 * Team::kOfWalker;
  const int lane_at = lane * 4, exchange_at = Team::kExchangeAt + lane / 4 * (2 * kChannels),
            exchange_own = exchange_at + lane % 4 * Exchange::kToken,
            grad_y_own = Team::kGradYAt + lane / 4 * kChannels + lane % 4 * GradY::kToken;
  const TokenRow<const T> u_row(p.u, place.row, place.channel), delta_row(p.delta, place.row, place.channel),
      grad_out_row(p.grad_out, place.row, place.channel),
      z_row(has_z ? p.z : p.grad_out, place.row, place.channel);
  const TokenRow<T> grad_u_row(p.grad_u, place.row, place.channel),
      grad_delta_row(p.grad_delta, place.row, place.channel), grad_z_row(p.grad_z, place.row, place.channel),
      out_row(p.out, place.row, place.channel);
  float exponent[kChannels][kStates], state[kChannels][kStates];
  float skip[kChannels], bias[kChannels], grad_D[kChannels] = {}, grad_bias[kChannels] = {};
  load_exponents(state_place, p, exponent);
  permute_states<Shape>(exponent, place.column);
  load_channels(p.D, place.channel, place.channels, skip);
  load_channels(p.delta_bias, place.channel, place.channels, bias);

  // The inputs of half a tile, of what is to be prepared and of what is to be finished: asked for a step
  // ahead.
  using Raw = RawPack<T, kChannels, true>;
  struct HalfInputs {
    Raw u[kHalfGroups], z[kHalfGroups], grad_out[kHalfGroups];
  };
  HalfInputs next, done;
  Raw next_delta[kHalfGroups];
  const auto load_half = [&](int token, HalfInputs& to, auto with_delta) {
#pragma unroll
    for (int i = 0; i < kHalfGroups; ++i) {
      const int t = min(token + i * kGroup + q, last_token);
      if constexpr (decltype(with_delta)::value) next_delta[i].load_here(delta_row.at(t));
      to.u[i].load_here(u_row.at(t));
      to.z[i].load_here(z_row.at(t));
      to.grad_out[i].load_here(grad_out_row.at(t));
    }
  };
  // The saved state of a tile, and eight states of one token's B or C for each of the first threads.
  float* const stage = shared + Team::kStageAt;
  float* const state_stage = stage + Team::kStage + thread / 32 * Team::kStatesOfWarp + lane * 2;
  constexpr int kVectors = 2 * kPadded / 8, kTileVectors = kTile * kVectors;
  const int vector_token = thread / kVectors, vector_state = thread % (kVectors / 2) * 8;
  const bool vector_of_C = thread % kVectors >= kVectors / 2;
  const int first_state = static_cast<int>(state_place.first);
  const auto copy_tile = [&](int tile) {
    const T* const from = p.saved_states +
                          (static_cast<int64_t>(place.row) * block.tiles + tile) * block.state_size() +
                          first_state;
#pragma unroll
    for (int c = 0; c < kChannels; ++c)
      copy_async<8>(state_stage + c * 64, from + c * kPadded, end_token > 0);
    if (thread < kTileVectors) {
      const Rows<const T>& rows = vector_of_C ? p.C : p.B;
      const int t = tile * kTile + vector_token;
      copy_async<16>(stage + thread * 4,
                     rows.data + place.row * rows.batch_stride + int64_t{place.group} * kPadded +
                         min(t, last_token) * rows.token_stride + vector_state,
                     t <= last_token);
    }
    commit_copies();
  };
  const auto begin_tile = [&](int turn) {
    wait_copies<0>();
    if (thread < kTileVectors)
      write_copies<Memory::kCopies, kPadded>(shared + (turn & 1) * Memory::kTileFloats +
                                                 vector_token * kPitch + (vector_of_C ? kC : 0) +
                                                 vector_state,
                                             load_pack<8>(reinterpret_cast<const T*>(stage + thread * 4)));
#pragma unroll
    for (int c = 0; c < kChannels; ++c) {
      float four[4];
      load_floats(reinterpret_cast<const T*>(state_stage + c * 64), four);
      state[c][0] = four[0], state[c][1] = four[1], state[c][2] = four[2], state[c][3] = four[3];
    }
    permute_states<Shape>(state, place.column);
  };
  const auto prepare_half = [&](int token, float* half) {
#pragma unroll
    for (int i = 0; i < kHalfGroups; ++i) {
      float step[kChannels], weight[kChannels], grad_y[kChannels];
      const bool exists = token + i * kGroup + q < end_token;
#pragma unroll
      for (int c = 0; c < kChannels; ++c) {
        const float biased = next_delta[i][c] + bias[c], smooth = softplus<T>(biased), gate = next.z[i][c];
        step[c] = or_zero(exists, p.delta_softplus ? smooth : biased);
        weight[c] = or_zero(exists, step[c] * next.u[i][c]);
        grad_y[c] = or_zero(exists, next.grad_out[i][c] * (has_z ? gate * fast_sigmoid(gate) : 1.f));
      }
      write_exchange<Shape>(half + exchange_own + i * Team::kOfGroup, step, weight);
      *reinterpret_cast<float2*>(half + grad_y_own + i * Team::kOfGroup) = make_float2(grad_y[0], grad_y[1]);
    }
    __syncwarp();
  };
  // The state in front of every group; behind the first half it stays for the second.
  const auto sweep_half = [&](int turn, int which, float* half, unsigned broken) {
    const int lane = fresh_thread() % 32, lane_at = lane * 4,
              exchange_at = Team::kExchangeAt + lane / 4 * (2 * kChannels);
    const float* half_coefficients = shared + (turn & 1) * Memory::kTileFloats +
                                     which * (Team::kHalfTile * kPitch) + lane / 4 % 4 * kPadded +
                                     lane % 4 * kStates;
    const auto save = [&](float* group) {
#pragma unroll
      for (int c = 0; c < kChannels; ++c)
        *reinterpret_cast<float4*>(group + lane_at + c * kStates * 32) =
            make_float4(state[c][0], state[c][1], state[c][2], state[c][3]);
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
    save(half);
#pragma unroll 1
    for (int group = 0; group < kHalfGroups - which; ++group) {
      const float* const exchanged = half + exchange_at;
      if (!kPacked || !(broken >> (which * kHalfGroups + group) & 1)) {
#pragma unroll
        for (int i = 0; i < kGroup; ++i)
          sweep_token(exchanged + i * Exchange::kToken, half_coefficients + i * kPitch);
      } else {
#pragma unroll 1
        for (int i = 0; i < kGroup; ++i) {
          const int offset = which * Team::kHalfTile + group * kGroup + i;
          if (starts.at(offset)) reset(state);
          sweep_token(exchanged + i * Exchange::kToken, half_coefficients + i * kPitch);
        }
      }
      half += Team::kOfGroup, half_coefficients += kGroup * kPitch;
      if (group < kHalfGroups - 1) save(half);
    }
  };
  // Lane q finishes token q of every group from the walker's sums.
  const auto finish_half = [&](int token, const float* half) {
#pragma unroll
    for (int i = 0; i < kHalfGroups; ++i) {
      const int t = token + i * kGroup + q;
      const bool exists = t < end_token;
      const float* const group = half + i * Team::kOfGroup;
      const float4 sums = *reinterpret_cast<const float4*>(group + Team::kLaneSumsAt + lane_at);
      const float of_weight[kChannels] = {sums.x, sums.y}, of_step[kChannels] = {sums.z, sums.w};
      float delta[kChannels], y[kChannels], grad_y[kChannels];
      read_exchange<Shape>(group + exchange_own, delta, y);
      read_grad_y(group + grad_y_own, grad_y);
      float grad_u[kChannels], grad_delta[kChannels], grad_z[kChannels], out[kChannels];
#pragma unroll
      for (int c = 0; c < kChannels; ++c) {
        const float u = done.u[i][c], z = done.z[i][c], gate = fast_sigmoid(z);
        const float slope = p.delta_softplus ? softplus_slope(delta[c]) : 1.f;
        // The exponents carry a factor log2(e).
        grad_delta[c] = fmaf(of_weight[c], u, of_step[c] * kLn2) * slope;
        grad_u[c] = fmaf(of_weight[c], delta[c], grad_y[c] * skip[c]);
        const float ungated = fmaf(skip[c], u, y[c]);
        grad_z[c] = done.grad_out[i][c] * ungated * (gate * fmaf(z, 1.f - gate, 1.f));
        out[c] = ungated * (has_z ? z * gate : 1.f);
        if (exists) {
          grad_D[c] = fmaf(grad_y[c], u, grad_D[c]);
          grad_bias[c] += grad_delta[c];
        }
      }
      store_pack<true, kChannels>(grad_u_row.at(t), grad_u, exists && p.grad_u.data, kChannels);
      store_pack<true, kChannels>(grad_delta_row.at(t), grad_delta, exists && p.grad_delta.data, kChannels);
      store_pack<true, kChannels>(grad_z_row.at(t), grad_z, exists && p.grad_z.data, kChannels);
      store_pack<true, kChannels>(out_row.at(t), out, exists && p.out.data, kChannels);
    }
  };
  // The thread's share of the sums of all walkers, two states of one token, in a fixed order.
  static_assert(64 * kWalkers == kHalfGroups * Memory::kSums);
  const int sum_group = 2 * thread / Memory::kSums, sum_within = 2 * thread % Memory::kSums,
            sum_token = sum_group * kGroup + sum_within / kPadded % kGroup;
  const int64_t rows = gridDim.x / block.grid.channel_blocks;
  float* const sums_to =
      block.partials.BC +
      (((place.block * 2 + sum_within / (kGroup * kPadded)) * rows + place.row - block.grid.first_row) *
           p.length +
       sum_token) *
          kPadded +
      sum_within % kPadded;
  const auto add_sums = [&](int token, int at) {
    const int thread = fresh_thread();
    const float* const from = shared + Team::kWalkersAt + at + 2 * thread / Memory::kSums * Team::kOfGroup +
                              2 * thread % Memory::kSums;
    float2 sum = *reinterpret_cast<const float2*>(from);
#pragma unroll
    for (int j = 1; j < kWalkers; ++j) {
      const float2 v = *reinterpret_cast<const float2*>(from + j * Team::kOfWalker);
      sum.x += v.x, sum.y += v.y;
    }
    if (token + sum_token < length) *reinterpret_cast<float2*>(sums_to + int64_t{token} * kPadded) = sum;
  };

  copy_tile(end_tile - 1);
  load_half((end_tile - 1) * kTile, next, std::true_type{});
  unsigned broken = 0;
  // Half a tile a step: what was walked in its place is finished, then it is prepared. In the last three
  // steps there is nothing to prepare.
  const int steps = 2 * turns;
#pragma unroll 1
  for (int step = 0; step < steps + 3; ++step) {
    const int turn = step >> 1, which = step & 1, tile = end_tile - 1 - turn, walked = turn - 2 + which;
    const int token = tile * kTile + which * Team::kHalfTile, at = Team::half_at(turn, which);
    float* const half = of_walker + at;
    if (walked >= 0) {
      const int walked_token = token + (2 - which) * kTile;
      if (which)
        block.barriers.walked_second.wait(walked);
      else
        block.barriers.walked_first[walked & 1].wait(walked >> 1);
      add_sums(walked_token, at);
      finish_half(walked_token, half);
    }
    if (step < steps) {
      if (!which) begin_tile(turn);
      block.barriers.ready.arrive();
      prepare_half(token, half);
      if constexpr (kPacked) {
        if (!which) {
          starts.retreat(tile * kTile);
          broken = starts.template broken_groups<true>();
          if (lane == 0) block.told[place.warp][turn & 1] = {starts.bits, broken};
        }
      }
    }
    // For the next step. It finishes the other half of the tile behind this one.
    if (which && step + 1 < steps) copy_tile(tile - 1);
    if (step + 1 < steps)
      load_half(which ? (tile - 1) * kTile : token + Team::kHalfTile, next, std::true_type{});
    if (turn > 0 && turn <= turns)
      load_half((tile + 1) * kTile + (1 - which) * Team::kHalfTile, done, std::false_type{});
    if (step < steps) {
      block.barriers.ready.wait(step);
      sweep_half(turn, which, half, broken);
      if (which) block.barriers.swept[place.warp].arrive();
    }
  }
  const int64_t part = place.part(block.grid);
#pragma unroll
  for (int c = 0; c < kChannels; ++c) {
#pragma unroll
    for (int mask = 1; mask < kGroup; mask *= 2) {
      grad_D[c] += __shfl_xor_sync(kFullWarp, grad_D[c], mask);
      grad_bias[c] += __shfl_xor_sync(kFullWarp, grad_bias[c], mask);
    }
    if (q == 0 && c < place.channels) {
      block.partials.D[part * p.channels + place.channel + c] = grad_D[c];
      block.partials.bias[part * p.channels + place.channel + c] = grad_bias[c];
    }
  }
}

/// One warp: walks over the tiles that its helper has prepared. `entering` (D, N): the adjoint state behind
/// the segment, nullable; `leaving`: the one in front of it, written, nullable.
template <bool kPacked, class T>
__device__ __forceinline__ void walk(const Block<T>& block, const float* entering, float* leaving) {
  const SelectiveScanCudaParams<T>& p = block.p;
  const Place<Shape>& place = block.place;
  const StatePlace<Shape> state_place = place.states(p, block.grid);
  float* const shared = block.shared;
  const int q = place.q, end_tile = block.end_tile, turns = end_tile - block.first_tile;
  float exponent[kChannels][kStates], adjoint[kChannels][kStates] = {}, grad_A[kChannels][kStates] = {};
  load_exponents(state_place, p, exponent);
  permute_states<Shape>(exponent, place.column);
  if (entering) state_place.load(entering, adjoint);
  permute_states<Shape>(adjoint, place.column);
  // In bytes, so that what is the same for the warp stays apart.
  const int lane_at = pinned(place.lane * 16),
            exchange_at = pinned(Team::kExchangeAt * 4 + place.column * (8 * kChannels)),
            grad_y_at = pinned(Team::kGradYAt * 4 + place.column * (4 * kChannels)),
            coefficients_at = pinned((place.column % 4 * kPadded + q * kStates) * 4);
  const auto at = [&](int of_warp, int of_lane) {
    return reinterpret_cast<float*>(reinterpret_cast<char*>(shared) + of_warp + of_lane);
  };

  // Forward through a group, then back. `group` and `B_at` are places of the warp in bytes.
  const auto walk_group = [&](int group, int B_at, const TeamStarts* starts, int offset, auto broken) {
    constexpr bool kBroken = decltype(broken)::value;
    const auto starts_at = [&](int token) { return (starts->bits >> token) & 1; };
    const auto read_token = [&](int i, float(&delta)[kChannels], float(&weight)[kChannels],
                                float(&grad_y)[kChannels], float(&B)[kStates], float(&C)[kStates]) {
      read_exchange<Shape>(at(group, exchange_at) + i * Exchange::kToken, delta, weight);
      read_grad_y(at(group, grad_y_at) + i * GradY::kToken, grad_y);
      read_states(at(B_at, coefficients_at) + i * kPitch, B);
      read_states(at(B_at, coefficients_at) + i * kPitch + kC, C);
    };

    float state[kChannels][kStates], decay[kGroup][kChannels][kStates], faded[kGroup][kChannels][kStates];
    float y[kGroup][kChannels];
#pragma unroll
    for (int c = 0; c < kChannels; ++c) {
      const float4 v = *reinterpret_cast<const float4*>(at(group, lane_at) + c * kStates * 32);
      state[c][0] = v.x, state[c][1] = v.y, state[c][2] = v.z, state[c][3] = v.w;
    }
    __syncwarp();  // the sums will overwrite them

    // Sums over the warp's channels of one value for every token and state of a lane, kind 0 for ∂B, 1 for
    // ∂C.
    float sums[2][kGroup];
    const auto collect_sum = [&](int kind, int i, const float(&v)[kStates]) {
      const float a = v[0] + __shfl_xor_sync(kFullWarp, v[2], 2 * Shape::kLanes);
      const float b = v[1] + __shfl_xor_sync(kFullWarp, v[3], 2 * Shape::kLanes);
      sums[kind][i] = a + __shfl_xor_sync(kFullWarp, b, Shape::kLanes);
    };
    const auto write_sums = [&](int kind) {
      const int upper = place.column / 4;  // gets tokens 1 and 3
      float* const to = at(group, coefficients_at) + kind * kGroup * kPadded + upper * kPadded -
                        place.column % 4 * (kPadded - 1);
#pragma unroll
      for (int j = 0; j < kGroup; j += 2) {
        const float keep = upper ? sums[kind][j + 1] : sums[kind][j],
                    send = upper ? sums[kind][j] : sums[kind][j + 1];
        to[j * kPadded] = keep + __shfl_xor_sync(kFullWarp, send, 4 * Shape::kLanes);
      }
    };

    float delta[kChannels], weight[kChannels], grad_y[kChannels], B[kStates], C[kStates];
#pragma unroll
    for (int i = 0; i < kGroup; ++i) {
      if constexpr (kBroken)
        if (starts_at(offset + i)) reset(state);
      float sum[kStates];
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
      collect_sum(1, i, sum);
    }

    float y_own[kChannels];  // lane q gets token q's
    float grad_weight[kGroup][kChannels], grad_step[kGroup][kChannels];
#pragma unroll
    for (int j = 0; j < kGroup; ++j) {
      const int i = kGroup - 1 - j;
      if constexpr (kBroken)
        if (starts_at(offset + i + 1)) reset(adjoint);
      float sum[kStates];
      if (j > 0) read_token(i, delta, weight, grad_y, B, C);
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
      collect_sum(0, i, sum);
      // The sums of the way forward wait for nobody here.
      if (j == 0) write_sums(1);
      if (j == 1) {
#pragma unroll
        for (int c = 0; c < kChannels; ++c)
          y_own[c] = sum_to_tokens<Shape>(y[0][c], y[1][c], y[2][c], y[3][c], q);
      }
    }
    write_sums(0);

    float of_weight[kChannels], of_step[kChannels];
#pragma unroll
    for (int c = 0; c < kChannels; ++c) {
      of_weight[c] =
          sum_to_tokens<Shape>(grad_weight[0][c], grad_weight[1][c], grad_weight[2][c], grad_weight[3][c], q);
      of_step[c] =
          sum_to_tokens<Shape>(grad_step[0][c], grad_step[1][c], grad_step[2][c], grad_step[3][c], q);
    }
    __syncwarp();  // Δ·u has been read
    *reinterpret_cast<float4*>(at(group, lane_at) + Team::kLaneSumsAt) =
        make_float4(of_weight[0], of_weight[1], of_step[0], of_step[1]);
    *reinterpret_cast<float2*>(at(group, exchange_at) + q * Exchange::kToken + kChannels) =
        make_float2(y_own[0], y_own[1]);
  };

#pragma unroll 1
  for (int turn = 0; turn < turns; ++turn) {
    block.barriers.swept[place.warp].wait(turn);
    const TeamStarts* const starts_of_tile = &block.told[place.warp][turn & 1];
    unsigned broken = 0;
    if constexpr (kPacked) broken = starts_of_tile->broken;
#pragma unroll 1
    for (int group = kGroups - 1; group >= 0; --group) {
      const int group_at = (Team::kWalkersAt + place.warp * Team::kOfWalker +
                            Team::half_at(turn, group / kHalfGroups) + group % kHalfGroups * Team::kOfGroup) *
                           4,
                B_at = ((turn & 1) * Memory::kTileFloats + group * (kGroup * kPitch)) * 4;
      if (!kPacked || !(broken >> group & 1))
        walk_group(group_at, B_at, starts_of_tile, group * kGroup, std::false_type{});
      else if constexpr (kPacked)
        walk_group(group_at, B_at, starts_of_tile, group * kGroup, std::true_type{});
      if (group == kHalfGroups) block.barriers.walked_second.arrive();
    }
    block.barriers.walked_first[turn & 1].arrive();
  }

  if (leaving) {
    permute_states<Shape>(adjoint, place.column);
    state_place.store(leaving, adjoint);
  }
  permute_states<Shape>(grad_A, place.column);
  state_place.store(block.partials.A + place.part(block.grid) * block.state_size(), grad_A);
}

}  // namespace team

/// `carry` and `queue_counters` as in backward_kernel. Sequences of packed rows start from zeros.
template <class T, bool kPacked>
__global__ void __launch_bounds__(64 * TeamMemory::kWalkers, 1)
    backward_team_kernel(const __grid_constant__ SelectiveScanCudaParams<T> p,
                         const __grid_constant__ ScanGrid grid,
                         const __grid_constant__ BackwardPartials partials, float* carry,
                         int* queue_counters) {
  constexpr int kWalkers = TeamMemory::kWalkers;
  extern __shared__ __align__(16) float shared[];
  __shared__ TeamBarriers barriers;
  __shared__ TeamStarts told[kWalkers][2];

  const SegmentQueue queue(queue_counters, grid.segments);
  const int warp = __shfl_sync(kFullWarp, threadIdx.x >> 5, 0);
  const Place<TeamShape> place(p, grid, queue.index(), queue.segment(), warp % kWalkers, kWalkers);
  const int tiles = static_cast<int>((p.length + kTile - 1) / kTile),
            first_tile = place.segment * grid.segment_tiles,
            end_tile = min(tiles, first_tile + grid.segment_tiles);
  const team::Block<T> block{p, grid, partials, shared, barriers, told, place, tiles, first_tile, end_tile};
  if (threadIdx.x == 0) {
    barriers.ready.init(kWalkers), barriers.walked_second.init(kWalkers);
    barriers.walked_first[0].init(kWalkers), barriers.walked_first[1].init(kWalkers);
    for (int i = 0; i < kWalkers; ++i) barriers.swept[i].init(1);
  }
  __syncthreads();
  const bool chained = queue_counters;
  if (chained && !queue.first()) queue.wait();

  SequenceStarts starts(p, place.row, min(end_tile * kTile + 1, block.length()));
  const int64_t part = place.part(grid) * block.state_size();
  if (warp < kWalkers) {
    team::help<kPacked>(block, starts);
  } else {
    const float* entering = nullptr;
    if (carry && !(chained && queue.first()))
      entering = carry + part;
    else if (p.grad_last_state)
      entering = p.grad_last_state + (p.cu_seqlens ? starts.next - 1 : place.row) * block.state_size();
    const bool leaves = chained && place.segment > 0;
    team::walk<kPacked>(block, entering, leaves ? carry + part - block.state_size() : nullptr);
  }
  if (chained && place.segment > 0) queue.pass_on();
}

}  // namespace exactmamba::ops::scan
