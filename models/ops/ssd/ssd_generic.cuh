// ssd for every shape and for fp32: the same chunks as the fast kernels, as plain fp32 matrix products (no
// tensor cores, so no tf32) whose operands are computed while they are loaded. Right, not fast.
#pragma once

#include "models/ops/ssd/ssd_chunks.cuh"

namespace exactmamba::ops {

inline constexpr int kGenericTile = 64, kGenericDepth = 16;

/// Stores the 64×64 tile (blockIdx.y, blockIdx.z) of left (rows, depth) · right (depth, columns). 256
/// threads.
template <class Left, class Right, class Store>
__device__ void multiply_tile(int rows, int columns, int depth, Left left, Right right, Store store) {
  __shared__ float lefts[kGenericDepth][kGenericTile + 4], rights[kGenericDepth][kGenericTile + 4];
  const int row0 = blockIdx.y * kGenericTile, column0 = blockIdx.z * kGenericTile;
  const int y = threadIdx.x / 16 * 4, x = threadIdx.x % 16 * 4;
  float sums[4][4] = {};
  for (int k0 = 0; k0 < depth; k0 += kGenericDepth) {
    for (int e = threadIdx.x; e < kGenericDepth * kGenericTile; e += 256) {
      const int k = e % kGenericDepth, row = e / kGenericDepth;
      lefts[k][row] = row0 + row < rows && k0 + k < depth ? left(row0 + row, k0 + k) : 0.f;
      const int column = e % kGenericTile, l = e / kGenericTile;
      rights[l][column] =
          column0 + column < columns && k0 + l < depth ? right(k0 + l, column0 + column) : 0.f;
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kGenericDepth; ++k)
#pragma unroll
      for (int r = 0; r < 4; ++r)
#pragma unroll
        for (int c = 0; c < 4; ++c) sums[r][c] += lefts[k][y + r] * rights[k][x + c];
    __syncthreads();
  }
#pragma unroll
  for (int r = 0; r < 4; ++r)
#pragma unroll
    for (int c = 0; c < 4; ++c)
      if (row0 + y + r < rows && column0 + x + c < columns) store(row0 + y + r, column0 + x + c, sums[r][c]);
}

template <class T>
struct SsdGenericArguments {
  SsdCudaParams<T> p;
  SsdTables<double> t;
  const T* states;  // (slots, H, P, N)
  float* products;  // (slots, G, Q, Q): C_i·B_j
};

/// One chunk of one head (or of one group, with `heads` groups), and its pointers.
template <class T>
struct SsdGenericChunk {
  const SsdGenericArguments<T>& a;
  int slot, head, group, P, N;
  SsdChunk chunk;
  int64_t row;  // of the tables

  __device__ SsdGenericChunk(const SsdGenericArguments<T>& arguments, bool of_group)
      : a(arguments), P(a.p.head_size), N(a.p.states) {
    const int per_group = a.p.heads / a.p.groups, count = of_group ? a.p.groups : a.p.heads;
    slot = blockIdx.x / count;
    const int index = blockIdx.x % count;
    group = of_group ? index : index / per_group;
    head = of_group ? index * per_group : index;
    chunk = a.t.chunks[slot];
    row = static_cast<int64_t>(slot) * a.p.heads + head;
  }
  __device__ bool has_state() const { return chunk.first < 0 || a.p.initial_state; }
  __device__ bool has_grad_state() const { return chunk.last < 0 || a.p.grad_last_state; }
  __device__ float B(int j, int n) const {
    return as_float(row_at(a.p.B, chunk.begin)[j * a.p.B.token_stride + group * N + n]);
  }
  __device__ float C(int i, int n) const {
    return as_float(row_at(a.p.C, chunk.begin)[i * a.p.C.token_stride + group * N + n]);
  }
  __device__ float x(int j, int p, int h = 0) const {
    return as_float(row_at(a.p.x, chunk.begin)[j * a.p.x.token_stride + (head + h) * P + p]);
  }
  __device__ float grad_out(int i, int p, int h = 0) const {
    return as_float(row_at(a.p.grad_out, chunk.begin)[i * a.p.grad_out.token_stride + (head + h) * P + p]);
  }
  __device__ float product(int i, int j) const {
    return a.products[((static_cast<int64_t>(slot) * a.p.groups + group) * kSsdChunk + i) * kSsdChunk + j];
  }
  __device__ float of(const float* table, int i, int h = 0) const { return table[(row + h) * kSsdChunk + i]; }
  /// Decay from token j to token i; 0 where j does not reach i.
  __device__ float decay(int i, int j, int h = 0) const {
    if (j > i || (chunk.tail > 0 && j < a.t.start[slot * kSsdChunk + i])) return 0.f;
    const double* cumulative = a.t.cumulative + (row + h) * kSsdChunk;
    return exp2f(static_cast<float>(cumulative[i] - cumulative[j]));
  }
  __device__ int64_t state(int p, int n, int h = 0) const { return ((row + h) * P + p) * N + n; }
};

template <class T>
__global__ __launch_bounds__(256) void ssd_generic_products_kernel(const SsdGenericArguments<T> a) {
  const SsdGenericChunk<T> c(a, true);
  multiply_tile(
      c.chunk.size, c.chunk.size, c.N, [&](int i, int n) { return c.C(i, n); },
      [&](int n, int j) { return c.B(j, n); },
      [&](int i, int j, float v) {
        a.products[((static_cast<int64_t>(c.slot) * a.p.groups + c.group) * kSsdChunk + i) * kSsdChunk + j] =
            v;
      });
}

/// Each chunk's own sum of weight · value · keyᵀ.
template <class T>
__global__ __launch_bounds__(256) void ssd_generic_state_kernel(const SsdStateArguments<T> a) {
  const int slot = blockIdx.x / a.heads, head = blockIdx.x % a.heads, group = head / (a.heads / a.groups);
  const SsdChunk chunk = a.chunks[slot];
  const int P = a.head_size, N = a.state_size / P;
  const int64_t row = static_cast<int64_t>(slot) * a.heads + head;
  const T *values = row_at(a.values, chunk.begin) + head * P, *keys = row_at(a.keys, chunk.begin) + group * N;
  multiply_tile(
      P, N, chunk.size,
      [&](int p, int t) {
        return a.weights[row * kSsdChunk + t] * as_float(values[t * a.values.token_stride + p]);
      },
      [&](int t, int n) { return as_float(keys[t * a.keys.token_stride + n]); },
      [&](int p, int n, float v) { a.states[row * a.state_size + p * N + n] = from_float<T>(v); });
}

template <class T>
__global__ __launch_bounds__(256) void ssd_generic_output_kernel(const SsdGenericArguments<T> a) {
  const SsdGenericChunk<T> c(a, false);
  T* out = row_at(a.p.out, c.chunk.begin) + c.head * c.P;
  const float skip = a.p.D ? a.p.D[c.head] : 0.f;
  multiply_tile(
      c.chunk.size, c.P, kSsdChunk + (c.has_state() ? c.N : 0),
      [&](int i, int k) {
        if (k >= kSsdChunk) return c.of(a.t.enter, i) * c.C(i, k - kSsdChunk);
        return k <= i ? c.product(i, k) * c.decay(i, k) * c.of(a.t.delta, k) : 0.f;
      },
      [&](int k, int p) {
        if (k >= kSsdChunk) return as_float(a.states[c.state(p, k - kSsdChunk)]);
        return k < c.chunk.size ? c.x(k, p) : 0.f;
      },
      [&](int i, int p, float v) {
        out[i * a.p.out.token_stride + p] = from_float<T>(v + skip * c.x(i, p));
      });
}

inline int generic_tiles(int64_t size) { return static_cast<int>((size + kGenericTile - 1) / kGenericTile); }

template <class T, bool kReverse>
cudaError_t ssd_generic_states(const SsdStateArguments<T>& a, const SsdSizes<T>& sizes, cudaStream_t stream) {
  const dim3 grid(sizes.slots * a.heads, generic_tiles(a.head_size),
                  generic_tiles(a.state_size / a.head_size));
  ssd_generic_state_kernel<<<grid, 256, 0, stream>>>(a);
  if (const cudaError_t error = cudaGetLastError()) return error;
  return launch_ssd_pass<T, kReverse>(a, sizes.walks, stream);
}

template <class T>
cudaError_t ssd_generic_forward(const SsdCudaParams<T>& p, const SsdSizes<T>& sizes,
                                const SsdTables<double>& tables, T* states, float* products) {
  const int slots = static_cast<int>(sizes.slots), heads = static_cast<int>(p.heads);
  if (const cudaError_t error = launch_ssd_prepare(p, sizes, tables)) return error;
  const SsdGenericArguments<T> a{p, tables, states, products};
  const int Q = generic_tiles(kSsdChunk);
  ssd_generic_products_kernel<<<dim3(slots * p.groups, Q, Q), 256, 0, p.stream>>>(a);
  if (const cudaError_t error = cudaGetLastError()) return error;
  const auto of_states = state_arguments<false>(p, sizes, tables, states);
  if (const cudaError_t error = ssd_generic_states<T, false>(of_states, sizes, p.stream)) return error;
  ssd_generic_output_kernel<<<dim3(slots * heads, Q, generic_tiles(p.head_size)), 256, 0, p.stream>>>(a);
  return cudaGetLastError();
}

// Backward.

/// What the kernels of the backward pass find out about the exponents of decays and about D, per token.
struct SsdGradientParts {
  float* rows;            // (slots, H, Q): + gradient of token i's exponent, from pairs (i, j)
  float* columns;         // (slots, H, Q): - gradient of token j's exponent, from the same pairs
  float *read, *written;  // (slots, H, Q): + through the entering state; - through the leaving state
  float* direct;          // (slots, H, Q): gradient of Δ through Δ x
  float* skip;            // (slots, H, 8): parts of the gradient of D
  float* cross;           // (slots, H, 16): parts of ⟨∂state, state⟩
};

template <class T>
struct SsdGenericBackward {
  SsdGenericArguments<T> forward;
  const T* grad_states;   // (slots, H, P, N): gradient of the state leaving each chunk
  float* pairs;           // (slots, H, Q, Q): ∂out_i · x_j
  float* grad_products;   // (slots, G, Q, Q)
  float *read, *written;  // (slots, H, Q, P): state C_i; ∂state B_j
  float* grad_scaled_x;   // (slots, H, Q, P): gradient of Δ x
  SsdGradientParts parts;
};

template <class T>
__global__ __launch_bounds__(256) void ssd_generic_pairs_kernel(const SsdGenericBackward<T> b) {
  const SsdGenericChunk<T> c(b.forward, false);
  multiply_tile(
      c.chunk.size, c.chunk.size, c.P, [&](int i, int p) { return c.grad_out(i, p); },
      [&](int p, int j) { return c.x(j, p); },
      [&](int i, int j, float v) { b.pairs[(c.row * kSsdChunk + i) * kSsdChunk + j] = v; });
}

/// blockIdx.y: rows i of the chunk.
template <class T>
__global__ __launch_bounds__(kSsdChunk) void ssd_generic_grad_products_kernel(const SsdGenericBackward<T> b) {
  const SsdGenericChunk<T> c(b.forward, true);
  const int i = blockIdx.y, j = threadIdx.x, per_group = b.forward.p.heads / b.forward.p.groups;
  if (i >= c.chunk.size || j > i) return;
  float sum = 0;
  for (int h = 0; h < per_group; ++h)
    sum += b.pairs[((c.row + h) * kSsdChunk + i) * kSsdChunk + j] * c.of(b.forward.t.delta, j, h) *
           c.decay(i, j, h);
  b.grad_products[((static_cast<int64_t>(c.slot) * b.forward.p.groups + c.group) * kSsdChunk + i) *
                      kSsdChunk +
                  j] = sum;
}

/// state · key for every token: of the entering state and C, or of the leaving state's gradient and B.
template <class T, bool kWritten>
__global__ __launch_bounds__(256) void ssd_generic_read_kernel(const SsdGenericBackward<T> b) {
  const SsdGenericChunk<T> c(b.forward, false);
  if (!(kWritten ? c.has_grad_state() : c.has_state())) return;
  const T* states = kWritten ? b.grad_states : b.forward.states;
  float* to = kWritten ? b.written : b.read;
  multiply_tile(
      c.chunk.size, c.P, c.N, [&](int t, int n) { return kWritten ? c.B(t, n) : c.C(t, n); },
      [&](int n, int p) { return as_float(states[c.state(p, n)]); },
      [&](int t, int p, float v) { to[(c.row * kSsdChunk + t) * c.P + p] = v; });
}

template <class T>
__global__ __launch_bounds__(256) void ssd_generic_grad_x_kernel(const SsdGenericBackward<T> b) {
  const SsdGenericChunk<T> c(b.forward, false);
  const auto& p = b.forward.p;
  const auto& t = b.forward.t;
  const bool has_grad_state = c.has_grad_state();
  const float skip = p.D ? p.D[c.head] : 0.f;
  multiply_tile(
      c.chunk.size, c.P, c.chunk.size,
      [&](int j, int i) { return i >= j ? c.product(i, j) * c.decay(i, j) : 0.f; },
      [&](int i, int q) { return c.grad_out(i, q); },
      [&](int j, int q, float v) {
        const int64_t at = (c.row * kSsdChunk + j) * c.P + q;
        if (has_grad_state) v += c.of(t.leave, j) * b.written[at];
        b.grad_scaled_x[at] = v;
        if (p.grad_x.data)
          row_at(p.grad_x, c.chunk.begin)[j * p.grad_x.token_stride + c.head * c.P + q] =
              from_float<T>(c.of(t.delta, j) * v + skip * c.grad_out(j, q));
      });
}

__device__ inline float sum_block_of_128(float v) {
  __shared__ float sums[4];
  v = sum_warp(v);
  __syncthreads();
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = v;
  __syncthreads();
  return sums[0] + sums[1] + sums[2] + sums[3];
}

template <class T>
__global__ __launch_bounds__(kSsdChunk) void ssd_generic_parts_kernel(const SsdGenericBackward<T> b) {
  const SsdGenericChunk<T> c(b.forward, false);
  const auto& t = b.forward.t;
  if (c.chunk.size == 0) return;
  const int i = threadIdx.x;
  const int64_t at = c.row * kSsdChunk + i;
  double row = 0, column = 0, read = 0, written = 0, direct = 0;
  float skip = 0, cross = 0;
  if (i < c.chunk.size) {
    const auto of_pair = [&](int i, int j) {
      return b.pairs[(c.row * kSsdChunk + i) * kSsdChunk + j] * c.of(t.delta, j) * c.decay(i, j) *
             c.product(i, j);
    };
    for (int j = 0; j < i; ++j) row += of_pair(i, j);
    for (int k = i + 1; k < c.chunk.size; ++k) column += of_pair(k, i);
    for (int p = 0; p < c.P; ++p) {
      if (c.has_state()) read += c.grad_out(i, p) * b.read[at * c.P + p];
      if (c.has_grad_state()) written += c.x(i, p) * b.written[at * c.P + p];
      direct += b.grad_scaled_x[at * c.P + p] * c.x(i, p);
      skip += c.grad_out(i, p) * c.x(i, p);
    }
  }
  b.parts.rows[at] = static_cast<float>(row - column);
  b.parts.columns[at] = 0;
  b.parts.read[at] = static_cast<float>(read * c.of(t.enter, i));
  b.parts.written[at] = static_cast<float>(written * c.of(t.write, i));
  b.parts.direct[at] = static_cast<float>(direct);
  if (c.has_state() && c.has_grad_state())
    for (int e = i; e < c.P * c.N; e += kSsdChunk)
      cross += as_float(b.forward.states[c.state(0, e)]) * as_float(b.grad_states[c.state(0, e)]);
  skip = sum_block_of_128(skip);
  cross = sum_block_of_128(cross);
  if (i < 8) b.parts.skip[c.row * 8 + i] = i == 0 ? skip : 0.f;
  if (i < 16) b.parts.cross[c.row * 16 + i] = i == 0 ? cross : 0.f;
}

/// The gradient of C: tokens' own through the entering state, and through the products; or that of B.
template <class T, bool kOfB>
__global__ __launch_bounds__(256) void ssd_generic_grad_key_kernel(const SsdGenericBackward<T> b) {
  const SsdGenericChunk<T> c(b.forward, true);
  const auto& p = b.forward.p;
  const auto& t = b.forward.t;
  const Rows<T>& to = kOfB ? p.grad_B : p.grad_C;
  const int of_states = p.heads / p.groups * c.P;
  const bool has_states = kOfB ? c.has_grad_state() : c.has_state();
  const float* grad_products =
      b.grad_products + (static_cast<int64_t>(c.slot) * p.groups + c.group) * kSsdChunk * kSsdChunk;
  multiply_tile(
      c.chunk.size, c.N, of_states + c.chunk.size,
      [&](int i, int k) {
        if (k >= of_states) {
          const int j = k - of_states;
          if constexpr (kOfB) return j >= i ? grad_products[j * kSsdChunk + i] : 0.f;
          return j <= i ? grad_products[i * kSsdChunk + j] : 0.f;
        }
        if (!has_states) return 0.f;
        const int h = k / c.P, q = k % c.P;
        return kOfB ? c.of(t.write, i, h) * c.x(i, q, h) : c.of(t.enter, i, h) * c.grad_out(i, q, h);
      },
      [&](int k, int n) {
        if (k >= of_states) return kOfB ? c.C(k - of_states, n) : c.B(k - of_states, n);
        if (!has_states) return 0.f;
        return as_float((kOfB ? b.grad_states : b.forward.states)[c.state(k % c.P, n, k / c.P)]);
      },
      [&](int i, int n, float v) {
        row_at(to, c.chunk.begin)[i * to.token_stride + c.group * c.N + n] = from_float<T>(v);
      });
}

/// All but the step sizes' and parameters' gradients, given the prepared tables.
template <class T>
cudaError_t ssd_generic_backward(const SsdGenericBackward<T>& b, const SsdStateArguments<T>& of_states,
                                 const SsdSizes<T>& sizes) {
  const auto& p = b.forward.p;
  const int slots = static_cast<int>(sizes.slots), of_heads = slots * static_cast<int>(p.heads),
            of_groups = slots * static_cast<int>(p.groups), Q = generic_tiles(kSsdChunk);
  const dim3 by_x(of_heads, Q, generic_tiles(p.head_size)), by_key(of_groups, Q, generic_tiles(p.states));
  if (const cudaError_t error = ssd_generic_states<T, true>(of_states, sizes, p.stream)) return error;
  ssd_generic_products_kernel<<<dim3(of_groups, Q, Q), 256, 0, p.stream>>>(b.forward);
  ssd_generic_pairs_kernel<<<dim3(of_heads, Q, Q), 256, 0, p.stream>>>(b);
  ssd_generic_grad_products_kernel<<<dim3(of_groups, kSsdChunk), kSsdChunk, 0, p.stream>>>(b);
  ssd_generic_read_kernel<T, false><<<by_x, 256, 0, p.stream>>>(b);
  ssd_generic_read_kernel<T, true><<<by_x, 256, 0, p.stream>>>(b);
  ssd_generic_grad_x_kernel<<<by_x, 256, 0, p.stream>>>(b);
  ssd_generic_parts_kernel<<<of_heads, kSsdChunk, 0, p.stream>>>(b);
  if (p.grad_B) ssd_generic_grad_key_kernel<T, true><<<by_key, 256, 0, p.stream>>>(b);
  if (p.grad_C) ssd_generic_grad_key_kernel<T, false><<<by_key, 256, 0, p.stream>>>(b);
  return cudaGetLastError();
}

}  // namespace exactmamba::ops
