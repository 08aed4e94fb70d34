// The backward pass of ssd on the GPU. The gradient of the state leaving every chunk comes from the same walk
// as the states of the forward pass, backwards (ssd_state_kernel). Then, per chunk and head, with L the
// decays inside the chunk, e and f those from its start and to its end, s the entering state, ∂s the leaving
// state's gradient:
//   ∂(Δ x) = (CBᵀ ∘ L)ᵀ ∂out + f ∘ (B ∂sᵀ)             ssd_grad_x_kernel, which also sums
//   ∂(CBᵀ) = Σ_heads (∂out xᵀ) ∘ L ∘ Δ                  over the heads of a group
//   ∂C = Σ_heads e ∘ (∂out s) + ∂(CBᵀ) B                 ssd_grad_key_kernel
//   ∂B = Σ_heads f ∘ Δ ∘ (x ∂s) + ∂(CBᵀ)ᵀ C
// Where rows and heads fill the GPU the first walk makes ∂(Δ x), too (ssd_walk_kernel), and one kernel the
// rest (ssd_grad_key_wide_kernel).
// Gradients of the decays' exponents are gathered per token on the way (SsdGradientParts) and turned into
// those of dt, A and dt_bias at the end (ssd_grad_dt_kernel). Sums over heads, chunks and sequences have a
// fixed order.
#pragma once

#include "models/ops/ssd/ssd_grad_key.cuh"
#include "models/ops/ssd/ssd_grad_key_wide.cuh"
#include "models/ops/ssd/ssd_grad_x_wide.cuh"

namespace exactmamba::ops {

/// Adds the splits' parts of the gradient of B or C. One thread per element of G·N, one block row per token.
template <class T>
__global__ __launch_bounds__(128) void ssd_add_splits_kernel(const float* partial, Rows<T> to, int64_t tokens,
                                                             int width, int splits) {
  const int64_t token = blockIdx.x;
  T* row = row_at(to, token);
  for (int n = threadIdx.x; n < width; n += 128) {
    float sum = 0;
    for (int s = 0; s < splits; ++s) sum += partial[(s * tokens + token) * width + n];
    row[n] = from_float<T>(sum);
  }
}

/// Grid: (slots, ⌈H / 8⌉). One warp per head, 4 tokens a lane: gradients of dt, and the chunk's part (3, H,
/// slots) of those of A, D and dt_bias.
template <class T, class Cumulative>
__global__ __launch_bounds__(256, 6) void ssd_grad_dt_kernel(const SsdCudaParams<T> p,
                                                             const SsdTables<Cumulative> t,
                                                             const SsdGradientParts parts, float* sums,
                                                             int slots) {
  __shared__ double suffixes[8][kSsdChunk + 1];
  __shared__ float steps[8][kSsdChunk + 4];  // dt + dt_bias, then the gradient
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int slot = blockIdx.x, first_head = blockIdx.y * 8, head = first_head + warp;
  const int64_t row = static_cast<int64_t>(slot) * p.heads + head;
  const SsdChunk chunk = t.chunks[slot];
  float grad_A = 0, grad_D = 0, grad_bias = 0;
  if (chunk.size > 0) load_biased_steps(p, chunk, first_head, steps);
  __syncthreads();
  if (chunk.size > 0 && head < p.heads) {
    const bool has_state = chunk.first < 0 || p.initial_state,
               has_grad_state = chunk.last < 0 || p.grad_last_state;
    const int64_t at = row * kSsdChunk + lane * 4;
    const auto of_lane = [&](const float* table) {
      return lane * 4 < chunk.size ? reinterpret_cast<const float4&>(table[at]) : float4{};
    };
    const auto element = [](const float4& v, int k) {
      return k == 0 ? v.x : k == 1 ? v.y : k == 2 ? v.z : v.w;
    };
    const float4 rows = of_lane(parts.rows), columns = of_lane(parts.columns), direct = of_lane(parts.direct),
                 delta = of_lane(t.delta), read = has_state ? of_lane(parts.read) : float4{},
                 written = has_grad_state ? of_lane(parts.written) : float4{};
    double exponents[4], to_end = 0;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      exponents[k] = 0;
      if (lane * 4 + k >= chunk.size) continue;
      exponents[k] = static_cast<double>(element(rows, k)) - element(columns, k) + element(read, k) -
                     element(written, k);
      to_end += element(written, k);
    }
    if (has_state && has_grad_state && lane < 16)
      to_end += static_cast<double>(t.across[row]) * parts.cross[row * 16 + lane];
    if (lane < 8) grad_D = parts.skip[row * 8 + lane];
    for (int step = 16; step; step /= 2) to_end += __shfl_xor_sync(~0u, to_end, step);
#pragma unroll
    for (int k = 0; k < 4; ++k)
      if (lane * 4 + k == chunk.size - 1) exponents[k] += to_end;
    double after = exponents[0] + exponents[1] + exponents[2] + exponents[3];
    const double own = after;
    for (int step = 1; step < 32; step *= 2) {
      const double other = __shfl_down_sync(~0u, after, step);
      if (lane + step < 32) after += other;
    }
    after -= own;
#pragma unroll
    for (int k = 3; k >= 0; --k) {
      after += exponents[k];
      exponents[k] = after;  // from here on the sum over this and all later tokens
      suffixes[warp][lane * 4 + k] = after;
    }
    if (lane == 0) suffixes[warp][kSsdChunk] = 0;
    __syncwarp();
    const float rate = p.A[head];
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const int i = lane * 4 + k;
      if (i >= chunk.size) continue;
      // Later sequences' sums are taken off exactly: they are the same numbers.
      const int stop = chunk.tail > 0 ? t.stop[slot * kSsdChunk + i] : kSsdChunk;
      const float later = static_cast<float>(exponents[k] - suffixes[warp][stop]);
      const float biased = steps[warp][i], step = ssd_softplus(biased);
      const bool clamped = step < p.dt_min || step > p.dt_max;
      const float slope = clamped ? 0.f : 1.f / (1.f + expf(-biased));
      const float grad = (element(direct, k) + rate * later) * slope;
      steps[warp][i] = grad;
      grad_A += later * element(delta, k);
      grad_bias += grad;
    }
  }
  grad_A = sum_warp(grad_A);
  grad_D = sum_warp(grad_D);
  grad_bias = sum_warp(grad_bias);
  if (lane == 0 && head < p.heads) {
    const int64_t stride = static_cast<int64_t>(p.heads) * slots,
                  to = static_cast<int64_t>(head) * slots + slot;
    sums[to] = grad_A;
    sums[stride + to] = grad_D;
    sums[2 * stride + to] = grad_bias;
  }
  __syncthreads();
  const int of_block = threadIdx.x % 8;
  if (!p.grad_dt.data || first_head + of_block >= p.heads) return;
  T* grad_dt = row_at(p.grad_dt, chunk.begin) + first_head + of_block;
  for (int i = threadIdx.x / 8; i < chunk.size; i += 32)
    grad_dt[i * p.grad_dt.token_stride] = from_float<T>(steps[of_block][i]);
}

/// Adds the chunks' parts to a parameter's gradient. Grid: (H, 3).
static __global__ __launch_bounds__(128) void ssd_add_parameters_kernel(const float* sums, float* grad_A,
                                                                        float* grad_D, float* grad_bias,
                                                                        int slots) {
  __shared__ double of_warps[4];
  float* to = blockIdx.y == 0 ? grad_A : blockIdx.y == 1 ? grad_D : grad_bias;
  if (!to) return;
  const float* from = sums + (static_cast<int64_t>(blockIdx.y) * gridDim.x + blockIdx.x) * slots;
  double sum = 0;
  for (int s = threadIdx.x; s < slots; s += 128) sum += from[s];
  for (int step = 16; step; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
  if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x == 0)
    to[blockIdx.x] += static_cast<float>(of_warps[0] + of_warps[1] + of_warps[2] + of_warps[3]);
}

/// Stages that the device's shared memory allows; 0: none. At least as many as kSsdStages of its
/// architecture.
template <class T>
int ssd_backward_stages() {
  const int limit = shared_limit();
  for (int stages = 2; stages > 0; --stages)
    if (limit >= SsdGradXTile<T, 128>::bytes(stages) && limit >= SsdGradKeyTile<T, 128>::bytes(stages))
      return stages;
  return 0;
}

template <class T>
bool uses_fast_backward(const SsdCudaParams<T>& p) {
  if constexpr (sizeof(T) == 2)
    return has_fast_shape(p) && is_aligned(p.grad_out) && is_aligned(p.grad_x) && is_aligned(p.grad_B) &&
           is_aligned(p.grad_C) && ssd_backward_stages<T>() > 0;
  return false;
}

template <class T>
struct SsdBackwardSpace {
  SsdTables<float> fast{};
  SsdTables<double> generic{};
  SsdGradientParts parts;
  T *states, *grad_states;
  float* sums;  // (3, H, slots)
  float *grad_products = nullptr, *partial_B = nullptr, *partial_C = nullptr, *products, *pairs, *read,
        *written, *grad_scaled_x;
  int splits = 1;
  size_t bytes;

  SsdBackwardSpace(const SsdCudaParams<T>& p, const SsdSizes<T>& sizes) {
    SsdArena arena(p.workspace);
    const int64_t rows = sizes.slots * p.heads, tokens = rows * kSsdChunk, squares = kSsdChunk * kSsdChunk,
                  per_group = p.heads / p.groups, of_groups = sizes.slots * p.groups;
    const auto floats = [&](int64_t count) { return arena.template take<float>(count); };
    parts = {floats(tokens), floats(tokens),   floats(tokens),   floats(tokens),
             floats(tokens), floats(rows * 8), floats(rows * 16)};
    sums = floats(3 * rows);
    states = p.chunk_states ? p.chunk_states : arena.template take<T>(rows * sizes.state_size);
    grad_states = arena.template take<T>(rows * sizes.state_size);
    if (uses_fast_backward(p)) {
      const bool walks = walks_once(p, sizes);
      fast = sizes.template take_tables<float>(arena, p, walks);
      splits = ssd_splits((walks ? 2 : 1) * of_groups, per_group, 200);
      if (!walks) grad_products = floats(splits * of_groups * squares);
      if (splits > 1) {
        const int64_t elements = splits * p.batch * p.length * p.groups * p.states;
        partial_B = floats(elements);
        partial_C = floats(elements);
      }
    } else {
      generic = sizes.template take_tables<double>(arena, p, false);
      products = floats(of_groups * squares);
      grad_products = floats(of_groups * squares);
      pairs = floats(rows * squares);
      read = floats(tokens * p.head_size);
      written = floats(tokens * p.head_size);
      grad_scaled_x = floats(tokens * p.head_size);
    }
    bytes = arena.used();
  }
};

/// The gradients of x, B and C, given those of the states.
template <class T, int N>
cudaError_t launch_ssd_gradients(const SsdCudaParams<T>& p, const SsdBackwardArguments<T>& a) {
  const int stages = ssd_backward_stages<T>();
  const auto run = [&](auto kernel, int threads, int bytes) {
    if (const cudaError_t error = allow_shared(kernel, bytes)) return error;
    kernel<<<dim3(a.slots, p.groups, a.splits), threads, bytes, p.stream>>>(a);
    return cudaGetLastError();
  };
  bool wide = false;
  if (const cudaError_t error = find_wide(ssd_grad_x_wide_kernel<T, N>, wide)) return error;
  const cudaError_t of_x = wide ? run(ssd_grad_x_wide_kernel<T, N>, 384, SsdGradXWideTile<T, N>::kBytes)
                                : run(ssd_grad_x_kernel<T, N>, 512, SsdGradXTile<T, N>::bytes(stages));
  return of_x ? of_x : run(ssd_grad_key_kernel<T, N>, 512, SsdGradKeyTile<T, N>::bytes(stages));
}

template <class T, int N>
cudaError_t ssd_fast_backward(const SsdCudaParams<T>& p, const SsdSizes<T>& sizes,
                              const SsdBackwardSpace<T>& space) {
  const bool walks = walks_once(p, sizes);
  if (!p.chunk_states) {
    const cudaError_t error =
        walks ? launch_ssd_walk<T, N, SsdWalkMakes::kStates>(p, sizes, space.fast, space.states)
              : launch_ssd_states<T, N, false>(p, sizes, space.fast, space.states);
    if (error) return error;
  }
  if (const cudaError_t error =
          walks ? launch_ssd_walk<T, N, SsdWalkMakes::kGradX>(p, sizes, space.fast, space.grad_states)
                : launch_ssd_states<T, N, true>(p, sizes, space.fast, space.grad_states))
    return error;
  const SsdBackwardArguments<T> a{p.x,
                                  p.B,
                                  p.C,
                                  p.grad_out,
                                  p.grad_x,
                                  p.grad_B,
                                  p.grad_C,
                                  p.D,
                                  space.states,
                                  space.grad_states,
                                  p.initial_state != nullptr,
                                  p.grad_last_state != nullptr,
                                  space.fast,
                                  space.parts,
                                  space.grad_products,
                                  space.partial_B,
                                  space.partial_C,
                                  static_cast<int>(p.heads),
                                  static_cast<int>(p.groups),
                                  space.splits,
                                  sizes.slots,
                                  p.batch * p.length};
  if (const cudaError_t error = walks ? launch_ssd_grad_keys<T, N>(p, a) : launch_ssd_gradients<T, N>(p, a))
    return error;
  if (space.splits > 1) {
    const int width = static_cast<int>(p.groups * p.states);
    if (p.grad_B)
      ssd_add_splits_kernel<<<a.tokens, 128, 0, p.stream>>>(space.partial_B, p.grad_B, a.tokens, width,
                                                            space.splits);
    if (p.grad_C)
      ssd_add_splits_kernel<<<a.tokens, 128, 0, p.stream>>>(space.partial_C, p.grad_C, a.tokens, width,
                                                            space.splits);
  }
  return cudaGetLastError();
}

template <class T, class Cumulative>
cudaError_t ssd_finish_backward(const SsdCudaParams<T>& p, const SsdSizes<T>& sizes,
                                const SsdTables<Cumulative>& tables, const SsdBackwardSpace<T>& space) {
  const int slots = static_cast<int>(sizes.slots);
  ssd_grad_dt_kernel<<<dim3(slots, (p.heads + 7) / 8), 256, 0, p.stream>>>(p, tables, space.parts, space.sums,
                                                                           slots);
  ssd_add_parameters_kernel<<<dim3(p.heads, 3), 128, 0, p.stream>>>(space.sums, p.grad_A, p.grad_D,
                                                                    p.grad_dt_bias, slots);
  return cudaGetLastError();
}

template <class T>
size_t ssd_backward_workspace(const SsdCudaParams<T>& params) {
  return ssd_workspace<SsdBackwardSpace>(params);
}

template <class T>
cudaError_t launch_ssd_backward(const SsdCudaParams<T>& p) {
  if (p.batch * p.length * p.heads == 0) return cudaSuccess;
  const SsdSizes<T> sizes(p);
  const SsdBackwardSpace<T> space(p, sizes);
  if constexpr (sizeof(T) == 2)
    if (uses_fast_backward(p)) {
      if (const cudaError_t error = launch_ssd_prepare(p, sizes, space.fast)) return error;
      if (const cudaError_t error = p.states == 128 ? ssd_fast_backward<T, 128>(p, sizes, space)
                                                    : ssd_fast_backward<T, 64>(p, sizes, space))
        return error;
      return ssd_finish_backward(p, sizes, space.fast, space);
    }
  if (const cudaError_t error = launch_ssd_prepare(p, sizes, space.generic)) return error;
  if (!p.chunk_states) {
    const auto states = state_arguments<false>(p, sizes, space.generic, space.states);
    if (const cudaError_t error = ssd_generic_states<T, false>(states, sizes, p.stream)) return error;
  }
  const SsdGenericBackward<T> backward{{p, space.generic, space.states, space.products},
                                       space.grad_states,
                                       space.pairs,
                                       space.grad_products,
                                       space.read,
                                       space.written,
                                       space.grad_scaled_x,
                                       space.parts};
  const auto states = state_arguments<true>(p, sizes, space.generic, space.grad_states);
  if (const cudaError_t error = ssd_generic_backward(backward, states, sizes)) return error;
  return ssd_finish_backward(p, sizes, space.generic, space);
}

}  // namespace exactmamba::ops
