// Products with few rows on the left: x (B, inner) · weightᵀ (inner, rows). The weights are read once, by all
// multiprocessors, straight into the registers that multiply them; a block's warps share a tile of outputs
// and split the inner dimension. What becomes of an output is the business of a Finish. With few sequences
// latencies are all there is: whatever does not depend on the step's earlier kernels is loaded before these
// have ended, and the rest at once, before the first product.
#pragma once

#include "models/ops/cuda/dependent_launch.cuh"
#include "models/ops/cuda/device_pack.cuh"
#include "models/ops/cuda/multiply_add.cuh"
#include "models/ops/token_step/token_step_cuda_params.h"

namespace exactmamba::ops {
namespace {

constexpr int kStepWarps = 8, kStepThreads = 32 * kStepWarps;

/// Elements of 16 bytes.
template <class T>
constexpr int kStepPiece = kWidestPack<T>;

/// Weights pass through once and would only push other things out of the nearest cache.
__device__ __forceinline__ uint4 load_once(const void* from) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(from));
  return v;
}
/// What an earlier kernel wrote, of this step or of the last one.
template <class V>
__device__ __forceinline__ V load_fresh(const V* from) {
  return __ldcg(from);
}
__device__ __forceinline__ float load_fresh(const __nv_bfloat16* from) { return to_float(__ldcg(from)); }
__device__ __forceinline__ float load_fresh(const __half* from) { return to_float(__ldcg(from)); }

/// Four neighbours.
template <class T>
__device__ __forceinline__ void load_fresh_four(const T* from, float (&to)[4]) {
  using Words = std::conditional_t<sizeof(T) == 4, uint4, uint2>;
  const Words words = __ldcg(reinterpret_cast<const Words*>(from));
  unpack(reinterpret_cast<const DevicePack<T, 4>&>(words), to);
}

__device__ __forceinline__ void prefetch(const void* from) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(from));
}

/// Keeps the compiler from computing an address only where it is used.
template <class V>
__device__ __forceinline__ V* made_early(V* address) {
  asm volatile("" : "+l"(address));
  return address;
}

/// The grid's blocks share what is asked for; one warp of each asks.
__device__ __forceinline__ void prefetch_ahead(const StepAhead& ahead) {
#if __CUDA_ARCH__ >= 900
  constexpr int64_t kBytes = 1024;
  if (threadIdx.x >= 32) return;
  const int64_t blocks = int64_t(gridDim.x) * gridDim.y, block = int64_t(blockIdx.y) * gridDim.x + blockIdx.x;
  for (int64_t at = (32 * block + threadIdx.x) * kBytes; at < ahead.bytes; at += 32 * blocks * kBytes) {
    const auto bytes = static_cast<uint32_t>(ahead.bytes - at < kBytes ? ahead.bytes - at : kBytes);
    asm volatile(
        "cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(static_cast<const char*>(ahead.data) + at),
        "r"(bytes)
        : "memory");
  }
#endif
}

/// Distance of the sums of two sequences in shared memory: eight lanes' pairs meet all banks.
template <int kRows>
constexpr int kStepStride = kRows % 32 == 8 ? kRows : kRows + 8;

/// What a lane multiplies in one turn: kSteps · 4 pieces of the inner dimension of every tile of eight rows
/// and every eight sequences. Its row, or sequence, is lane / 4.
template <class T, int kEights, int kTiles, int kSteps>
struct StepTurn {
  uint4 weights[kTiles][kSteps];

  /// `lane_weights`: the lane's row of the first tile, at its first piece; the block has `rows` rows.
  __device__ __forceinline__ void load(const T* lane_weights, int rows, int inner, int column) {
#pragma unroll
    for (int t = 0; t < kTiles; ++t)
#pragma unroll
      for (int s = 0; s < kSteps; ++s) {
        const int at = column + 4 * s * kStepPiece<T>;
        const bool valid =
            8 * t + threadIdx.x % 32 / 4 < rows && at + threadIdx.x % 4 * kStepPiece<T> < inner;
        weights[t][s] = valid ? load_once(lane_weights + 8 * t * inner + at) : uint4{0, 0, 0, 0};
      }
  }
};

/// The sums of a warp: 8 · kEights sequences × 8 · kTiles rows, 16 sequences an instruction. A lane holds
/// neighbouring elements of the inner dimension where the matrix instruction expects distant ones; a sum does
/// not care about the order of its terms, as long as both sides agree on it.
template <class T, int kEights, int kTiles, int kSteps>
struct StepSums {
  using Turn = StepTurn<T, kEights, kTiles, kSteps>;
  struct Inputs {
    uint4 pieces[kSteps][kEights];
  };
  static constexpr int kInstructions = (kEights + 1) / 2;
  float sums[kInstructions][kTiles][4] = {};

  /// The lane's sequences. Those beyond the last are the last again: nobody asks for their sums.
  struct Rows {
    const T* of[kEights];
    int columns;  // from the lane's first on

    __device__ __forceinline__ Rows(const StepProduct<T>& p, int first_b)
        : columns(static_cast<int>(p.inner) - threadIdx.x % 4 * kStepPiece<T>) {
      const int last = static_cast<int>(p.batch) - 1;
#pragma unroll
      for (int e = 0; e < kEights; ++e) {
        const int b = min(first_b + 8 * e + static_cast<int>(threadIdx.x % 32 / 4), last);
        of[e] = p.x + (b * static_cast<int>(p.inner) + threadIdx.x % 4 * kStepPiece<T>);
        if (kEights == 1) of[e] = made_early(of[e]);
      }
    }
    __device__ __forceinline__ Inputs load(int column) const {
      Inputs inputs;
#pragma unroll
      for (int s = 0; s < kSteps; ++s)
#pragma unroll
        for (int e = 0; e < kEights; ++e) {
          const int at = column + 4 * s * kStepPiece<T>;
          inputs.pieces[s][e] =
              at < columns ? load_fresh(reinterpret_cast<const uint4*>(of[e] + at)) : uint4{0, 0, 0, 0};
        }
      return inputs;
    }
  };

  __device__ __forceinline__ void add(const Turn& turn, const Inputs& inputs) {
#pragma unroll
    for (int s = 0; s < kSteps; ++s)
#pragma unroll
      for (int m = 0; m < kInstructions; ++m) {
        const uint4 upper = inputs.pieces[s][2 * m],
                    lower = 2 * m + 1 < kEights ? inputs.pieces[s][(2 * m + 1) % kEights] : uint4{0, 0, 0, 0};
        const uint32_t left[4] = {upper.x, lower.x, upper.y, lower.y},
                       right[4] = {upper.z, lower.z, upper.w, lower.w};
#pragma unroll
        for (int t = 0; t < kTiles; ++t) {
          multiply_add<T>(sums[m][t], left, turn.weights[t][s].x, turn.weights[t][s].y);
          multiply_add<T>(sums[m][t], right, turn.weights[t][s].z, turn.weights[t][s].w);
        }
      }
  }

  /// Into the warp's 8 · kEights rows of 8 · kTiles.
  __device__ __forceinline__ void store(float* to) const {
    const int row = threadIdx.x % 32 / 4, column = threadIdx.x % 4 * 2;
#pragma unroll
    for (int e = 0; e < kEights; ++e)
#pragma unroll
      for (int t = 0; t < kTiles; ++t)
        *reinterpret_cast<float2*>(to + (8 * e + row) * kStepStride<8 * kTiles> + 8 * t + column) =
            make_float2(sums[e / 2][t][2 * (e % 2)], sums[e / 2][t][2 * (e % 2) + 1]);
  }
};

/// In float, without rounding of the operands: every lane sums its elements for all sequences.
template <int kEights, int kTiles, int kSteps>
struct StepSums<float, kEights, kTiles, kSteps> {
  using Turn = StepTurn<float, kEights, kTiles, kSteps>;
  struct Inputs {
    float4 pieces[kSteps][8 * kEights];
  };
  float sums[8 * kEights][kTiles] = {};

  struct Rows {
    const float* first;
    int inner, sequences, columns;  // sequences from the first on, columns from the lane's first on

    __device__ __forceinline__ Rows(const StepProduct<float>& p, int first_b)
        : first(p.x + (first_b * static_cast<int>(p.inner) + threadIdx.x % 4 * kStepPiece<float>)),
          inner(static_cast<int>(p.inner)),
          sequences(static_cast<int>(p.batch) - first_b),
          columns(inner - threadIdx.x % 4 * kStepPiece<float>) {}
    __device__ __forceinline__ Inputs load(int column) const {
      Inputs inputs;
#pragma unroll
      for (int s = 0; s < kSteps; ++s) {
        const int at = column + 4 * s * kStepPiece<float>;
#pragma unroll
        for (int b = 0; b < 8 * kEights; ++b)
          inputs.pieces[s][b] = b < sequences && at < columns
                                    ? load_fresh(reinterpret_cast<const float4*>(first + b * inner + at))
                                    : float4{0, 0, 0, 0};
      }
      return inputs;
    }
  };

  __device__ __forceinline__ void add(const Turn& turn, const Inputs& inputs) {
#pragma unroll
    for (int s = 0; s < kSteps; ++s)
#pragma unroll
      for (int b = 0; b < 8 * kEights; ++b)
#pragma unroll
        for (int t = 0; t < kTiles; ++t) {
          const float4 x = inputs.pieces[s][b];
          const uint4 w = turn.weights[t][s];
          sums[b][t] = fmaf(x.x, __uint_as_float(w.x), sums[b][t]);
          sums[b][t] = fmaf(x.y, __uint_as_float(w.y), sums[b][t]);
          sums[b][t] = fmaf(x.z, __uint_as_float(w.z), sums[b][t]);
          sums[b][t] = fmaf(x.w, __uint_as_float(w.w), sums[b][t]);
        }
  }

  __device__ __forceinline__ void store(float* to) const {
#pragma unroll
    for (int b = 0; b < 8 * kEights; ++b)
#pragma unroll
      for (int t = 0; t < kTiles; ++t) {
        float sum = sums[b][t];
        sum += __shfl_xor_sync(~0u, sum, 1);
        sum += __shfl_xor_sync(~0u, sum, 2);
        if (threadIdx.x % 4 == 0) to[b * kStepStride<8 * kTiles> + 8 * t + threadIdx.x % 32 / 4] = sum;
      }
  }
};

/// What the products of a block's sequences are multiplied with: as many neighbouring threads a sequence as
/// there are, each adds up some parts. Made before the wait for the previous kernel; load() comes behind it.
template <int kSequences, int kThreads = kStepThreads>
class StepFactors {
 public:
  __device__ __forceinline__ StepFactors(const StepNorm& norm, int first_b, int batch)
      : norm_(norm), b_(first_b + static_cast<int>(threadIdx.x) / kLanes) {
    const int lane = threadIdx.x % kLanes, parts = static_cast<int>(norm.parts);
    valid_ = norm.squares && b_ < batch;
    left_ = valid_ ? parts - lane : 0;
    inverse_size_ = 1.0f / static_cast<float>(static_cast<int>(norm.size));
    squares_ = made_early(norm.squares + (b_ * parts + lane));
  }
  __device__ __forceinline__ void load() {
    load(0);
    if (valid_ && norm_.carried) carried_ = load_fresh(norm_.carried + b_);
  }
  __device__ __forceinline__ void store(float* factors) {
    float total = sum();
    for (int first = kBatch * kLanes; first < norm_.parts; first += kBatch * kLanes) {
      load(first);
      total += sum();
    }
#pragma unroll
    for (int mask = 1; mask < kLanes; mask *= 2) total += __shfl_xor_sync(~0u, total, mask);
    if (!valid_ || threadIdx.x % kLanes != 0) return;
    const float rstd = rsqrtf(fmaf(total, inverse_size_, norm_.eps));
    factors[threadIdx.x / kLanes] = __fdividef(rstd, carried_);
    if (norm_.rstd && blockIdx.y == 0) norm_.rstd[b_] = rstd;
  }

 private:
  static constexpr int kLanes = kThreads / kSequences < 32 ? kThreads / kSequences : 32, kBatch = 4;

  __device__ __forceinline__ void load(int first) {
#pragma unroll
    for (int i = 0; i < kBatch; ++i)
      parts_[i] = first + i * kLanes < left_ ? load_fresh(squares_ + first + i * kLanes) : 0.0f;
  }
  __device__ __forceinline__ float sum() const {
    float total = parts_[0];
#pragma unroll
    for (int i = 1; i < kBatch; ++i) total += parts_[i];
    return total;
  }

  const StepNorm& norm_;
  const int b_;
  bool valid_;
  int left_;  // parts of the sequence from the thread's first on
  const float* squares_;
  float inverse_size_, parts_[kBatch], carried_ = 1;
};

/// Steps of a turn. Few sequences leave registers enough to have 1024 columns under way before the first
/// product.
template <class T>
constexpr int step_turn_steps(int eights, int tiles) {
  return sizeof(T) == 4 ? 1 : eights == 1 && tiles == 3 ? 2 : 4 / tiles;
}

/// `finish` takes the outputs. Its Row is what it needs of a row beside the sum, its Needs what it needs of
/// an output: load_constants() what no kernel of this step writes (prefetch() moves it nearer), load_fresh()
/// the rest. Registers are bounded so that blocks of the next kernel fit beside this one's.
/// operator()<kRows>(row's, needs, b, row, value, valid): kRows neighbouring lanes have a sequence's outputs.
template <class T, int kEights, int kTiles, class Finish>
__global__ void __launch_bounds__(kStepThreads, 2)
    step_product_kernel(const __grid_constant__ StepProduct<T> p, const __grid_constant__ Finish finish) {
  constexpr int kSequences = 8 * kEights, kRows = 8 * kTiles, kOutputs = kSequences * kRows,
                kSums = kSequences * kStepStride<kRows>, kSteps = step_turn_steps<T>(kEights, kTiles),
                kSpan = kSteps * 4 * kStepPiece<T>, kStride = kStepWarps * kSpan,
                kTurns = (kOutputs + kStepThreads - 1) / kStepThreads, kAtOnce = kTurns < 4 ? kTurns : 4;
  constexpr bool kFew = kEights == 1;
  extern __shared__ float shared[];  // a warp's sums each, factors (kSequences)
  float* factors = shared + kStepWarps * kSums;
  const int first_row = static_cast<int>(blockIdx.y) * kRows, inner = static_cast<int>(p.inner),
            first_b = static_cast<int>(blockIdx.x) * kSequences, batch = static_cast<int>(p.batch),
            rows = static_cast<int>(p.rows) - first_row, warp = threadIdx.x / 32;
  using Sums = StepSums<T, kEights, kTiles, kSteps>;

  typename Sums::Turn turn, next;
  const T* lane_weights =
      p.weight + int64_t(first_row + threadIdx.x % 32 / 4) * inner + threadIdx.x % 4 * kStepPiece<T>;
  int column = warp * kSpan;
  turn.load(lane_weights, rows, inner, column);
  next.load(lane_weights, rows, inner, column + kStride);
  prefetch_ahead(p.ahead[0]);
  prefetch_ahead(p.ahead[1]);
  const int own_row = threadIdx.x % kRows, row = first_row + own_row;  // of all outputs of a thread
  const auto sequence = [&](int i) { return first_b + i / kRows; };
  const auto is_output = [&](int i) { return i < kOutputs && sequence(i) < batch && own_row < rows; };
  const typename Sums::Rows x(p, first_b);
  StepFactors<kSequences> norm(p.norm, first_b, batch);
  typename Finish::Needs needs[kAtOnce];
  typename Finish::Row of_row = {};
  if (own_row < rows) finish.load_row(of_row, row);
  const auto load_needs = [&](int first, bool constants, bool fresh) {
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      const int i = threadIdx.x + (first + k) * kStepThreads;
      if (constants && is_output(i)) finish.load_constants(needs[k], sequence(i), row);
      if (fresh && is_output(i)) finish.load_fresh(needs[k], sequence(i), row);
    }
  };
  if constexpr (kFew) {
    load_needs(0, true, false);
  } else {
    for (int i = threadIdx.x; is_output(i); i += kStepThreads) finish.prefetch(sequence(i), row);
  }
  allow_dependent_launch();
  wait_for_previous_launch();

  Sums sums;
  typename Sums::Inputs inputs = x.load(column), next_inputs = x.load(column + kStride);
  if (p.norm.squares) norm.load();
  if constexpr (kFew) load_needs(0, false, true);
#pragma unroll 1
  for (; column < inner; column += 2 * kStride) {
    const bool goes_on = column + 2 * kStride < inner;
    sums.add(turn, inputs);
    if (goes_on) {
      turn.load(lane_weights, rows, inner, column + 2 * kStride);
      inputs = x.load(column + 2 * kStride);
    }
    sums.add(next, next_inputs);
    if (goes_on) {
      next.load(lane_weights, rows, inner, column + 3 * kStride);
      next_inputs = x.load(column + 3 * kStride);
    }
  }
  if constexpr (!kFew) load_needs(0, true, true);
  if (p.norm.squares) norm.store(factors);
  sums.store(shared + warp * kSums);
  __syncthreads();
#pragma unroll
  for (int first = 0; first < kTurns; first += kAtOnce) {
    if (first != 0) load_needs(first, true, true);
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      const int i = threadIdx.x + (first + k) * kStepThreads;
      if (i >= kOutputs) break;  // whole warps
      float value = 0;
#pragma unroll
      for (int w = 0; w < kStepWarps; ++w)
        value += shared[w * kSums + i / kRows * kStepStride<kRows> + own_row];
      if (p.norm.squares) value *= factors[i / kRows];
      if (p.bias && is_output(i)) value += to_float(p.bias[row]);
      finish.template operator()<kRows>(of_row, needs[k], sequence(i), row, value, is_output(i));
    }
  }
}

template <class T, int kEights, int kTiles, class Finish>
cudaError_t run_step_product(const StepProduct<T>& p, const Finish& finish) {
  constexpr int kSequences = 8 * kEights, kRows = 8 * kTiles;
  constexpr size_t kShared = sizeof(float) * (kStepWarps * kSequences * kStepStride<kRows> + kSequences);
  const auto kernel = step_product_kernel<T, kEights, kTiles, Finish>;
  if constexpr (kShared > 48 * 1024) {
    const cudaError_t error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared);
    if (error != cudaSuccess) return error;
  }
  // Neighbours in time share the weights.
  const dim3 blocks(static_cast<unsigned>(ceil_divide<int64_t>(p.batch, kSequences)),
                    static_cast<unsigned>(ceil_divide<int64_t>(p.rows, kRows)));
  return launch_dependent(kernel, blocks, kStepThreads, kShared, p.stream, p, finish);
}

/// Tiles of eight rows of a block for up to 8 sequences; tiles, and eights of sequences, for more. More rows
/// spare reads of x, fewer give more blocks.
template <class T, int kFewTiles, int kManyEights, int kManyTiles>
struct StepTiling {
  template <class Body>
  static auto dispatch(int64_t batch, const Body& body) {
    if constexpr (sizeof(T) == 2)
      if (batch > kStepFew) return body.template operator()<kManyEights, kManyTiles>();
    return body.template operator()<1, kFewTiles>();
  }
  static int64_t parts(int64_t batch, int64_t rows) {
    return dispatch(batch, [&]<int kEights, int kTiles>() { return ceil_divide<int64_t>(rows, 8 * kTiles); });
  }
  template <class Finish>
  static cudaError_t run(const StepProduct<T>& p, const Finish& finish) {
    return dispatch(
        p.batch, [&]<int kEights, int kTiles>() { return run_step_product<T, kEights, kTiles>(p, finish); });
  }
};

}  // namespace
}  // namespace exactmamba::ops
