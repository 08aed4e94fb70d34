// A thread per block of four words, and so per four numbers of a row.
#include <algorithm>

#include "models/ops/cuda/device_pack.cuh"
#include "models/ops/cuda/launch.h"
#include "models/ops/dropout/dropout_cuda_params.h"

namespace exactmamba::ops {
namespace {

constexpr int kThreads = 256;

/// core::philox4x32, on the device.
__device__ uint4 philox4x32(uint4 counter, uint2 key) {
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    constexpr uint32_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
    counter = {__umulhi(kMultiplier1, counter.z) ^ counter.y ^ key.x, kMultiplier1 * counter.z,
               __umulhi(kMultiplier0, counter.x) ^ counter.w ^ key.y, kMultiplier0 * counter.x};
    key.x += 0x9E3779B9;
    key.y += 0xBB67AE85;
  }
  return counter;
}

template <class T, bool kPacks>
__global__ void __launch_bounds__(kThreads)
    dropout_kernel(const __grid_constant__ DropoutCudaParams<T> params) {
  const int64_t block = int64_t(blockIdx.x) * kThreads + threadIdx.x, begin = 4 * block;
  if (begin >= params.size) return;
  for (int64_t row = blockIdx.y; row < params.rows; row += gridDim.y) {
    const uint64_t sample = params.first_row + row;
    const uint4 words = philox4x32(
        {static_cast<uint32_t>(block), static_cast<uint32_t>(sample), static_cast<uint32_t>(params.layer),
         static_cast<uint32_t>((params.layer >> 32) << 16 | sample >> 32)},
        {params.key[0], params.key[1]});
    const uint32_t drawn[4] = {words.x, words.y, words.z, words.w};
    const T* x = params.x + row * params.size + begin;
    T* out = params.out + row * params.size + begin;
    float values[4] = {};
    const auto kept = [&](int i) { return drawn[i] >= params.threshold ? values[i] * params.scale : 0.0f; };
    if constexpr (kPacks) {
      load_floats(x, values);
#pragma unroll
      for (int i = 0; i < 4; ++i) values[i] = kept(i);
      store_floats(out, values);
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (begin + i >= params.size) break;
        values[i] = to_float(x[i]);
        out[i] = from_float<T>(kept(i));
      }
    }
  }
}

}  // namespace

template <class T>
cudaError_t launch_dropout(const DropoutCudaParams<T>& params) {
  if (params.rows == 0 || params.size == 0) return cudaSuccess;
  const dim3 grid(static_cast<unsigned>(ceil_divide<int64_t>(params.size, 4 * kThreads)),
                  static_cast<unsigned>(std::min<int64_t>(params.rows, 65535)));
  const bool packs =
      params.size % 4 == 0 && is_aligned(params.x, 4 * sizeof(T)) && is_aligned(params.out, 4 * sizeof(T));
  const auto kernel = packs ? dropout_kernel<T, true> : dropout_kernel<T, false>;
  kernel<<<grid, kThreads, 0, params.stream>>>(params);
  return cudaGetLastError();
}

template cudaError_t launch_dropout(const DropoutCudaParams<float>&);
template cudaError_t launch_dropout(const DropoutCudaParams<__nv_bfloat16>&);
template cudaError_t launch_dropout(const DropoutCudaParams<__half>&);

}  // namespace exactmamba::ops
