// A row stays in its team's registers between the reduction and the result, so each tensor moves once. Packs
// have four elements: 16 bytes of the fp32 stream.
#pragma once

#include "models/ops/cuda/column_sums.cuh"
#include "models/ops/cuda/norm_weight.cuh"
#include "models/ops/cuda/row_team.cuh"
#include "models/ops/rms_norm/rms_norm_cuda_params.h"

namespace exactmamba::ops {
namespace {

constexpr int kRmsNormPack = 4;

template <class T, class Team>
__global__ void __launch_bounds__(Team::kThreads)
    rms_norm_forward_kernel(const __grid_constant__ RmsNormCudaParams<T> params) {
  constexpr int kVector = Team::kVector;
  const int64_t row = params.rows - 1 - Team::place(), at = row * params.size;
  const int size = static_cast<int>(params.size);
  if (row < 0) return;  // a whole team
  const float scale = params.scale ? params.scale[row] : 1.f;
  DevicePack<T, kVector> x[Team::kPacks];
  float stream[Team::kPacks][kVector] = {};
  Team::for_each_pack(size, [&](int k, int column) { x[k] = load_pack<kVector>(params.x + at + column); });
  if (params.residual)
    Team::for_each_pack(size,
                        [&](int k, int column) { load_floats(params.residual + at + column, stream[k]); });
  float squares = 0;
  Team::for_each_pack(size, [&](int k, int column) {
    float added[kVector];
    unpack(x[k], added);
#pragma unroll
    for (int v = 0; v < kVector; ++v) {
      stream[k][v] = fmaf(scale, added[v], stream[k][v]);
      squares = fmaf(stream[k][v], stream[k][v], squares);
    }
    if (params.sum) store_floats(params.sum + at + column, stream[k]);
  });
  typename Team::Sum team_sum;
  const float rstd = rsqrtf(team_sum(squares) / static_cast<float>(size) + params.eps);
  if (params.rstd && Team::column(0) == 0) params.rstd[row] = rstd;
  Team::for_each_pack(size, [&](int k, int column) {
    float weight[kVector], out[kVector];
    load_floats(params.weight + column, weight);
#pragma unroll
    for (int v = 0; v < kVector; ++v) out[v] = usable_weight<T>(weight[v]) * (stream[k][v] * rstd);
    store_floats(params.out + at + column, out);
  });
}

/// With r̂ = normed / weight and ĝ = weight ⊙ grad_out: grad_residual = rstd (ĝ − r̂ mean(ĝ ⊙ r̂)) +
/// grad_residual_out, and ĝ ⊙ r̂ = grad_out ⊙ normed.
template <class T, class Team>
__global__ void __launch_bounds__(Team::kThreads)
    rms_norm_backward_kernel(const __grid_constant__ RmsNormCudaParams<T> params) {
  constexpr int kVector = Team::kVector;
  allow_dependent_launch();
  const int size = static_cast<int>(params.size);
  float grad_weight[Team::kElements] = {};  // times the weight
  typename Team::Sum team_sum;
  for (int64_t row = params.rows - 1 - Team::place(); row >= 0; row -= Team::count()) {
    const int64_t at = row * params.size;
    const float rstd = params.saved_rstd[row], scale = params.scale ? params.scale[row] : 1.f;
    float through[Team::kPacks][kVector] = {};
    DevicePack<T, kVector> normed[Team::kPacks], grad_out[Team::kPacks];
    Team::for_each_pack(size, [&](int k, int column) {
      normed[k] = load_pack<kVector>(params.normed + at + column);
      grad_out[k] = load_pack<kVector>(params.grad_out + at + column);
    });
    if (params.grad_residual_out)
      Team::for_each_pack(
          size, [&](int k, int column) { load_floats(params.grad_residual_out + at + column, through[k]); });
    float products = 0;
    Team::for_each_pack(size, [&](int k, int column) {
      float grad[kVector], out[kVector];
      unpack(grad_out[k], grad);
      unpack(normed[k], out);
#pragma unroll
      for (int v = 0; v < kVector; ++v) {
        grad_weight[k * kVector + v] = fmaf(grad[v], out[v], grad_weight[k * kVector + v]);
        products = fmaf(grad[v], out[v], products);
      }
    });
    const float mean = team_sum(products) / static_cast<float>(size);
    Team::for_each_pack(size, [&](int k, int column) {
      float grad[kVector], out[kVector], weight[kVector], sum[kVector];
      unpack(grad_out[k], grad);
      unpack(normed[k], out);
      load_floats(params.weight + column, weight);
#pragma unroll
      for (int v = 0; v < kVector; ++v) {
        const float used = usable_weight<T>(weight[v]), along = __fdividef(out[v], used) * mean;
        sum[v] = fmaf(rstd, fmaf(used, grad[v], -along), through[k][v]);
      }
      store_floats(params.grad_residual + at + column, sum);
      if (!params.grad_x) return;
#pragma unroll
      for (int v = 0; v < kVector; ++v) sum[v] *= scale;
      store_floats(params.grad_x + at + column, sum);
    });
  }
  Team::for_each_pack(size, [&](int k, int column) {
    float weight[kVector];
    load_floats(params.weight + column, weight);
#pragma unroll
    for (int v = 0; v < kVector; ++v) grad_weight[k * kVector + v] /= usable_weight<T>(weight[v]);
  });
  if (params.grad_weight)
    store_column_partials<Team>(grad_weight, size,
                                static_cast<float*>(params.workspace) + int64_t(blockIdx.x) * size);
}

template <class T>
bool takes_packs(const RmsNormCudaParams<T>& params) {
  constexpr size_t kStream = sizeof(float) * kRmsNormPack, kActivation = sizeof(T) * kRmsNormPack;
  return params.size % kRmsNormPack == 0 && is_aligned(params.weight, kStream) &&
         is_aligned(params.x, kActivation) && is_aligned(params.residual, kStream) &&
         is_aligned(params.out, kActivation) && is_aligned(params.sum, kStream) &&
         is_aligned(params.normed, kActivation) && is_aligned(params.grad_out, kActivation) &&
         is_aligned(params.grad_residual_out, kStream) && is_aligned(params.grad_residual, kStream) &&
         is_aligned(params.grad_x, kActivation);
}

/// Calls launch.operator()<Team>(kernel, blocks, shared memory).
template <class T, class Launch>
cudaError_t dispatch_backward(const RmsNormCudaParams<T>& params, const Launch& launch) {
  const auto go = [&]<class Team>() {
    const auto kernel = rms_norm_backward_kernel<T, Team>;
    const size_t shared = column_partials_shared<Team>(params.size);
    return launch.template operator()<Team>(kernel, walking_blocks<Team>(kernel, shared, params.rows, 1),
                                            shared);
  };
  return dispatch_row_team<kRmsNormPack>(params.size, takes_packs(params), go);
}

}  // namespace

template <class T>
size_t rms_norm_backward_workspace(const RmsNormCudaParams<T>& params) {
  return column_partials_bytes(params.size,
                               [&](const auto& launch) { return dispatch_backward(params, launch); });
}

template <class T>
cudaError_t launch_rms_norm_forward(const RmsNormCudaParams<T>& params) {
  if (params.rows == 0 || params.size == 0) return cudaSuccess;
  return dispatch_row_team<kRmsNormPack>(params.size, takes_packs(params), [&]<class Team>() {
    const auto blocks = static_cast<unsigned>(ceil_divide<int64_t>(params.rows, Team::kTeams));
    rms_norm_forward_kernel<T, Team><<<blocks, Team::kThreads, 0, params.stream>>>(params);
    return cudaGetLastError();
  });
}

template <class T>
cudaError_t launch_rms_norm_backward(const RmsNormCudaParams<T>& params) {
  if (params.rows == 0 || params.size == 0) return cudaSuccess;
  return dispatch_backward(params, [&]<class Team>(auto kernel, int64_t blocks, size_t shared) {
    kernel<<<static_cast<unsigned>(blocks), Team::kThreads, shared, params.stream>>>(params);
    return add_column_partials(params.workspace, blocks, params.size, params.grad_weight, params.stream);
  });
}

}  // namespace exactmamba::ops
