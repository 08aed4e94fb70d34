// One pass over memory: 28 bytes an element and what the copy takes.
#include "models/ops/cuda/device_pack.cuh"
#include "models/ops/cuda/launch.h"
#include "train/adamw_cuda_params.h"

namespace exactmamba::train {
namespace {

constexpr int kVector = 4, kThreads = 256;

template <class T>
__global__ void __launch_bounds__(kThreads) adamw_kernel(const __grid_constant__ AdamWCudaParams<T> params) {
  const int64_t first = (int64_t(blockIdx.x) * kThreads + threadIdx.x) * kVector;
  if (first >= params.count || !*params.allowed) return;
  const auto factor = static_cast<float>(*params.factor);
  float parameters[kVector], gradient[kVector], exp_avg[kVector], exp_avg_sq[kVector];
  ops::load_floats(params.parameters + first, parameters);
  ops::load_floats(params.gradient + first, gradient);
  ops::load_floats(params.exp_avg + first, exp_avg);
  ops::load_floats(params.exp_avg_sq + first, exp_avg_sq);
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    const float g = factor * gradient[i];
    exp_avg[i] = fmaf(params.beta1, exp_avg[i] - g, g);
    exp_avg_sq[i] = fmaf(params.beta2, exp_avg_sq[i] - g * g, g * g);
    const float denominator = fmaf(sqrtf(exp_avg_sq[i]), params.correction, params.eps);
    parameters[i] =
        fmaf(-params.decay, parameters[i], parameters[i]) - params.step_size * exp_avg[i] / denominator;
  }
  ops::store_floats(params.parameters + first, parameters);
  ops::store_floats(params.exp_avg + first, exp_avg);
  ops::store_floats(params.exp_avg_sq + first, exp_avg_sq);
  if (params.compute) ops::store_floats(params.compute + first, parameters);
}

}  // namespace

template <class T>
cudaError_t launch_adamw(const AdamWCudaParams<T>& params) {
  const int64_t blocks = ops::ceil_divide<int64_t>(params.count, kThreads * kVector);
  if (blocks > 0) adamw_kernel<<<static_cast<unsigned>(blocks), kThreads, 0, params.stream>>>(params);
  return cudaGetLastError();
}

template cudaError_t launch_adamw(const AdamWCudaParams<float>&);
template cudaError_t launch_adamw(const AdamWCudaParams<__nv_bfloat16>&);
template cudaError_t launch_adamw(const AdamWCudaParams<__half>&);

}  // namespace exactmamba::train
