// A block per row. The first pass reads the row from memory and adds up the exponentials against a running
// maximum; where the gradient is wanted and the row fits, it stays in shared memory for the second pass, so
// the logits are read once and written once. A thread meets the same columns in both passes.
#pragma once

#include <algorithm>

#include <climits>

#include "models/ops/cuda/device_pack.cuh"
#include "models/ops/cuda/fast_math.cuh"
#include "models/ops/cuda/launch.h"
#include "models/ops/linear_cross_entropy/linear_cross_entropy_cuda_params.h"

namespace exactmamba::ops {
namespace {

constexpr int kMostCrossEntropyThreads = 512;

/// Σ 2^(x·log2 e − reference) over some columns, the reference near the largest exponent among them.
struct ExponentialSum {
  float reference = -3e38f, sum = 0;

  __device__ void raise(float to) {
    const float higher = fmaxf(reference, to);
    sum *= fast_exp2(reference - higher);
    reference = higher;
  }
  __device__ void add(const ExponentialSum& other) {
    raise(other.reference);
    sum = fmaf(other.sum, fast_exp2(other.reference - reference), sum);
  }
};

/// The largest value and the lowest column that has it.
struct Largest {
  float value = -INFINITY;
  int column = INT_MAX;

  __device__ void add(float other, int other_column) {
    if (other > value || (other == value && other_column < column)) value = other, column = other_column;
  }
};

__device__ inline ExponentialSum shuffled(const ExponentialSum& item, int offset) {
  return {__shfl_down_sync(~0u, item.reference, offset), __shfl_down_sync(~0u, item.sum, offset)};
}
__device__ inline ExponentialSum first_lane(const ExponentialSum& item) {
  return {__shfl_sync(~0u, item.reference, 0), __shfl_sync(~0u, item.sum, 0)};
}

/// The sum over the block, the same in all threads.
__device__ inline ExponentialSum block_sum(ExponentialSum item) {
  __shared__ ExponentialSum warps[32];
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) item.add(shuffled(item, offset));
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = item;
  __syncthreads();
  item = threadIdx.x % 32 < blockDim.x / 32 ? warps[threadIdx.x % 32] : ExponentialSum{};
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) item.add(shuffled(item, offset));
  return first_lane(item);
}

/// The sum over the block, in thread 0.
__device__ inline float block_sum(float item) {
  __shared__ float warps[32];
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) item += __shfl_down_sync(~0u, item, offset);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = item;
  __syncthreads();
  if (threadIdx.x == 0)
    for (unsigned w = 1; w < blockDim.x / 32; ++w) item += warps[w];
  return item;
}

/// The largest of the block, in thread 0.
__device__ inline Largest block_largest(Largest item) {
  __shared__ Largest warps[32];
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2)
    item.add(__shfl_down_sync(~0u, item.value, offset), __shfl_down_sync(~0u, item.column, offset));
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = item;
  __syncthreads();
  if (threadIdx.x == 0)
    for (unsigned w = 1; w < blockDim.x / 32; ++w) item.add(warps[w].value, warps[w].column);
  return item;
}

template <class T, int kVector, bool kResident, bool kPredicts, bool kSmooths>
__global__ void __launch_bounds__(kMostCrossEntropyThreads)
    cross_entropy_rows_kernel(const __grid_constant__ CrossEntropyRowsCudaParams<T> params) {
  constexpr int kBatch = kVector > 1 ? 4 : 8;
  extern __shared__ __align__(16) unsigned char kept_row[];
  const int64_t row = gridDim.x - 1 - blockIdx.x;
  const int vocabulary = static_cast<int>(params.vocabulary), first = threadIdx.x * kVector,
            step = blockDim.x * kVector;
  T* logits = params.logits + row * params.row_stride;
  T* kept = kResident ? reinterpret_cast<T*>(kept_row) : logits;
  const int64_t target = params.targets[row];
  const bool counts = target >= 0 && target < vocabulary;

  if (!counts && params.write_gradient && !kPredicts) {
    const float zeros[kVector] = {};
    for (int column = first; column < vocabulary; column += step) store_floats(logits + column, zeros);
  }
  if (!counts && threadIdx.x == 0) params.losses[row] = 0;
  if (!counts && !kPredicts) return;

  const float target_logit = counts ? to_float(logits[target]) : 0.0f;
  ExponentialSum exponentials;
  Largest largest;
  float sum = 0;  // of the logits
  for (int begin = first; begin < vocabulary; begin += kBatch * step) {
    DevicePack<T, kVector> packs[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i)
      if (begin + i * step < vocabulary) packs[i] = load_pack<kVector>(logits + begin + i * step);
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int column = begin + i * step;
      if (column >= vocabulary) break;
      if constexpr (kResident) *reinterpret_cast<DevicePack<T, kVector>*>(kept + column) = packs[i];
      float values[kVector];
      unpack(packs[i], values);
      float top = values[0];
#pragma unroll
      for (int v = 1; v < kVector; ++v) top = fmaxf(top, values[v]);
      exponentials.raise(top * kLog2E);
#pragma unroll
      for (int v = 0; v < kVector; ++v) {
        exponentials.sum += fast_exp2(fmaf(values[v], kLog2E, -exponentials.reference));
        if (kPredicts && column + v < params.true_vocab) largest.add(values[v], column + v);
        if (kSmooths) sum += values[v];
      }
    }
  }
  if constexpr (kPredicts) {
    largest = block_largest(largest);
    if (threadIdx.x == 0) params.predictions[row] = largest.column == INT_MAX ? 0 : largest.column;
  }
  exponentials = block_sum(exponentials);
  if constexpr (kSmooths) sum = block_sum(sum);
  if (counts && threadIdx.x == 0) {
    float wanted = target_logit;
    if constexpr (kSmooths) wanted += params.label_smoothing * (sum / vocabulary - target_logit);
    params.losses[row] = kLn2 * (log2f(exponentials.sum) + fmaf(-wanted, kLog2E, exponentials.reference));
  }
  if (!params.write_gradient) return;

  const float scale = !counts ? 0.0f : params.scale * (params.device_scale ? *params.device_scale : 1.0f),
              factor = scale / exponentials.sum,
              everywhere = kSmooths ? scale * params.label_smoothing / vocabulary : 0.0f,
              at_target = kSmooths ? scale * (1.0f - params.label_smoothing) : scale;
#pragma unroll 2
  for (int column = first; column < vocabulary; column += step) {
    float values[kVector];
    load_floats(kept + column, values);
#pragma unroll
    for (int v = 0; v < kVector; ++v) {
      values[v] = factor * fast_exp2(fmaf(values[v], kLog2E, -exponentials.reference));
      if constexpr (kSmooths) values[v] -= everywhere;
    }
    if (target >= column && target < column + kVector)
#pragma unroll
      for (int v = 0; v < kVector; ++v)
        if (target == column + v) values[v] -= at_target;
    store_floats(logits + column, values);
  }
}

template <class T, int kVector, bool kResident, bool kPredicts, bool kSmooths>
cudaError_t run_cross_entropy_rows(const CrossEntropyRowsCudaParams<T>& params) {
  const size_t shared = kResident ? params.vocabulary * sizeof(T) : 0;
  const auto kernel = cross_entropy_rows_kernel<T, kVector, kResident, kPredicts, kSmooths>;
  if (shared > 48 * 1024)
    if (const auto error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                static_cast<int>(shared)))
      return error;
  const int64_t packs = ceil_divide<int64_t>(params.vocabulary, kVector);
  const int threads =
      static_cast<int>(std::min<int64_t>(ceil_divide<int64_t>(packs, 32) * 32, kMostCrossEntropyThreads));
  kernel<<<static_cast<unsigned>(params.rows), threads, shared, params.stream>>>(params);
  return cudaGetLastError();
}

template <class T, int kVector>
cudaError_t dispatch_cross_entropy_rows(const CrossEntropyRowsCudaParams<T>& params) {
  if (params.predictions) return run_cross_entropy_rows<T, kVector, false, true, false>(params);
  constexpr int64_t kStaticShared = 1024;
  const bool fits = params.vocabulary * int64_t(sizeof(T)) + kStaticShared <=
                    device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
  const bool resident = params.write_gradient && fits;
  if (params.label_smoothing > 0)
    return resident ? run_cross_entropy_rows<T, kVector, true, false, true>(params)
                    : run_cross_entropy_rows<T, kVector, false, false, true>(params);
  return resident ? run_cross_entropy_rows<T, kVector, true, false, false>(params)
                  : run_cross_entropy_rows<T, kVector, false, false, false>(params);
}

}  // namespace

template <class T>
cudaError_t launch_cross_entropy_rows(const CrossEntropyRowsCudaParams<T>& params) {
  if (params.rows == 0) return cudaSuccess;
  if (params.vocabulary < 1 || params.vocabulary >= (int64_t(1) << 30)) return cudaErrorInvalidValue;
  constexpr int kVector = kWidestPack<T>;
  const bool packs =
      params.vocabulary % kVector == 0 && params.row_stride % kVector == 0 && is_aligned(params.logits, 16);
  return packs ? dispatch_cross_entropy_rows<T, kVector>(params) : dispatch_cross_entropy_rows<T, 1>(params);
}

}  // namespace exactmamba::ops
