// A team normalises one group of one token, kept in registers in packs of 16 bytes, so each tensor moves
// once.
#pragma once

#include <type_traits>

#include "models/ops/cuda/column_sums.cuh"
#include "models/ops/cuda/fast_math.cuh"
#include "models/ops/cuda/norm_weight.cuh"
#include "models/ops/cuda/row_team.cuh"
#include "models/ops/gated_rms_norm/gated_rms_norm_cuda_params.h"

namespace exactmamba::ops {
namespace {

/// Where the channels of one group of a token begin.
template <class T>
__device__ __forceinline__ T* group_of(const Rows<T>& rows, int64_t token, int64_t first) {
  const int64_t batch = rows.batch_stride == rows.length * rows.token_stride ? 0 : token / rows.length;
  return rows.data + batch * rows.batch_stride + (token - batch * rows.length) * rows.token_stride + first;
}

/// kVector weights, in accesses of 16 bytes.
template <class T, int kVector>
__device__ __forceinline__ void load_weights(const float* from, float (&to)[kVector]) {
  constexpr int kSize = kVector < 4 ? kVector : 4;
#pragma unroll
  for (int i = 0; i < kVector; i += kSize) {
    const auto pack = load_pack<kSize>(from + i);
#pragma unroll
    for (int v = 0; v < kSize; ++v) to[i + v] = usable_weight<T>(pack.values[v]);
  }
}

template <class T, class Team>
__global__ void __launch_bounds__(Team::kThreads)
    gated_rms_norm_forward_kernel(const __grid_constant__ GatedRmsNormCudaParams<T> params, const int size) {
  constexpr int kVector = Team::kVector;
  const int64_t token = params.tokens - 1 - Team::place(), first = int64_t(blockIdx.y) * size;
  if (token < 0) return;  // a whole team
  const T *x = group_of(params.x, token, first), *z = group_of(params.z, token, first);
  DevicePack<T, kVector> x_packs[Team::kPacks], z_packs[Team::kPacks];
  Team::for_each_pack(size, [&](int k, int column) {
    x_packs[k] = load_pack<kVector>(x + column);
    z_packs[k] = load_pack<kVector>(z + column);
  });
  float gated[Team::kPacks][kVector], squares = 0;
  Team::for_each_pack(size, [&](int k, int) {
    float gate[kVector];
    unpack(x_packs[k], gated[k]);
    unpack(z_packs[k], gate);
#pragma unroll
    for (int v = 0; v < kVector; ++v) {
      gated[k][v] *= usable_gate<T>(gate[v], fast_sigmoid(gate[v]));
      squares = fmaf(gated[k][v], gated[k][v], squares);
    }
  });
  typename Team::Sum team_sum;
  const float rstd = rsqrtf(team_sum(squares) / static_cast<float>(size) + params.eps);
  if (params.rstd && Team::column(0) == 0) params.rstd[token * params.groups + blockIdx.y] = rstd;
  const float scale = params.scale_later ? 1.f : rstd;
  T* out = group_of(params.out, token, first);
  Team::for_each_pack(size, [&](int k, int column) {
    float weight[kVector];
    load_weights<T>(params.weight + first + column, weight);
#pragma unroll
    for (int v = 0; v < kVector; ++v) gated[k][v] *= scale * weight[v];
    store_floats(out + column, gated[k]);
  });
}

/// The gradient of v = x ⊙ SiLU(z) is that of RMSNorm: rstd (ĝ − v̂ mean(ĝ ⊙ v̂)), v̂ = v·rstd, ĝ = weight ⊙
/// grad_out. v and x come from forward's out, read (`kFromOut`) or made again, so that both give the same
/// bits: v̂ = out / weight, x = v̂ / (rstd SiLU(z)), and ĝ ⊙ v̂ = grad_out ⊙ out. With scale_later out is
/// weight ⊙ v, grad_out that of it, and ĝ = weight ⊙ grad_out / rstd.
template <class T, class Team, bool kFromOut>
__global__ void __launch_bounds__(Team::kThreads)
    gated_rms_norm_backward_kernel(const __grid_constant__ GatedRmsNormCudaParams<T> params, const int size) {
  constexpr int kVector = Team::kVector;
  allow_dependent_launch();
  const int64_t first = int64_t(blockIdx.y) * size;
  float grad_weight[Team::kElements] = {};  // times the weight
  typename Team::Sum team_sum;
  for (int64_t token = params.tokens - 1 - Team::place(); token >= 0; token -= Team::count()) {
    const T *from = group_of(kFromOut ? params.normed : params.x, token, first),
            *z = group_of(params.z, token, first), *grad_out = group_of(params.grad_out, token, first);
    const float rstd = params.saved_rstd[token * params.groups + blockIdx.y],
                scale = params.scale_later ? 1.f : rstd;
    DevicePack<T, kVector> out_packs[Team::kPacks], z_packs[Team::kPacks], grad_packs[Team::kPacks];
    Team::for_each_pack(size, [&](int k, int column) {
      out_packs[k] = load_pack<kVector>(from + column);
      z_packs[k] = load_pack<kVector>(z + column);
      grad_packs[k] = load_pack<kVector>(grad_out + column);
    });
    using Floats = float[kVector];
    float sigmoids[Team::kPacks][kVector], products = 0;
    Team::for_each_pack(size, [&](int k, int column) {
      Floats out, z_floats, grad;
      unpack(z_packs[k], z_floats);
#pragma unroll
      for (int v = 0; v < kVector; ++v) sigmoids[k][v] = fast_sigmoid(z_floats[v]);
      if constexpr (!kFromOut) {
        Floats weight;
        load_weights<T>(params.weight + first + column, weight);
        unpack(out_packs[k], out);
#pragma unroll
        for (int v = 0; v < kVector; ++v)
          out[v] = out[v] * usable_gate<T>(z_floats[v], sigmoids[k][v]) * (scale * weight[v]);
        out_packs[k] = pack_floats<T>(out);
      }
      unpack(out_packs[k], out);
      unpack(grad_packs[k], grad);
#pragma unroll
      for (int v = 0; v < kVector; ++v) {
        grad_weight[k * kVector + v] = fmaf(grad[v], out[v], grad_weight[k * kVector + v]);
        products = fmaf(grad[v], out[v], products);
      }
    });
    const float mean =
        team_sum(products) / static_cast<float>(size) * (params.scale_later ? rstd * rstd : 1.f);
    T* grad_x = params.grad_x.data ? group_of(params.grad_x, token, first) : nullptr;
    T* grad_z = params.grad_z.data ? group_of(params.grad_z, token, first) : nullptr;
    T* out_again = params.out.data ? group_of(params.out, token, first) : nullptr;
    Team::for_each_pack(size, [&](int k, int column) {
      Floats out, z_floats, grad, weight;
      load_weights<T>(params.weight + first + column, weight);
      unpack(out_packs[k], out);
      unpack(z_packs[k], z_floats);
      unpack(grad_packs[k], grad);
#pragma unroll
      for (int v = 0; v < kVector; ++v) {
        const float s = sigmoids[k][v], silu = usable_gate<T>(z_floats[v], s),
                    scaled = out[v] * fast_reciprocal(weight[v]), x = scaled * fast_reciprocal(scale * silu),
                    inner = scale * fmaf(weight[v], grad[v], -scaled * mean);
        grad[v] = inner * silu;
        z_floats[v] = inner * x * s * fmaf(z_floats[v], 1 - s, 1.0f);
      }
      if (grad_x) store_floats(grad_x + column, grad);
      if (grad_z) store_floats(grad_z + column, z_floats);
      if (out_again) *reinterpret_cast<DevicePack<T, kVector>*>(out_again + column) = out_packs[k];
    });
  }
  Team::for_each_pack(size, [&](int k, int column) {
    float weight[kVector];
    load_weights<T>(params.weight + first + column, weight);
#pragma unroll
    for (int v = 0; v < kVector; ++v) grad_weight[k * kVector + v] /= weight[v];
  });
  if (params.grad_weight)
    store_column_partials<Team>(
        grad_weight, size,
        static_cast<float*>(params.workspace) + int64_t(blockIdx.x) * params.channels + first);
}

template <class T>
bool takes_packs(const GatedRmsNormCudaParams<T>& params) {
  constexpr int kVector = kWidestPack<T>;
  return params.channels / params.groups % kVector == 0 && is_aligned(params.weight, 16) &&
         allows_packs(params.x, kVector) && allows_packs(params.normed, kVector) &&
         allows_packs(params.z, kVector) && allows_packs(params.out, kVector) &&
         allows_packs(params.grad_out, kVector) && allows_packs(params.grad_x, kVector) &&
         allows_packs(params.grad_z, kVector);
}

template <class T>
cudaError_t checked(const GatedRmsNormCudaParams<T>& params) {
  const bool fits = params.groups >= 1 && params.groups <= 65535 && params.channels % params.groups == 0;
  return fits ? cudaSuccess : cudaErrorInvalidValue;
}

/// Calls launch.operator()<Team>(kernel, blocks of a group, shared memory).
template <class T, class Launch>
cudaError_t dispatch_backward(const GatedRmsNormCudaParams<T>& params, const Launch& launch) {
  if (const cudaError_t error = checked(params)) return error;
  const int64_t size = params.channels / params.groups;
  const auto go = [&]<class Team>() {
    const auto kernel = params.normed.data ? gated_rms_norm_backward_kernel<T, Team, true>
                                           : gated_rms_norm_backward_kernel<T, Team, false>;
    const size_t shared = column_partials_shared<Team>(size);
    return launch.template operator()<Team>(
        kernel, walking_blocks<Team>(kernel, shared, params.tokens, params.groups), shared);
  };
  return dispatch_wide_row_team<kWidestPack<T>>(size, takes_packs(params), go);
}

}  // namespace

template <class T>
size_t gated_rms_norm_backward_workspace(const GatedRmsNormCudaParams<T>& params) {
  return column_partials_bytes(params.channels,
                               [&](const auto& launch) { return dispatch_backward(params, launch); });
}

template <class T>
cudaError_t launch_gated_rms_norm_forward(const GatedRmsNormCudaParams<T>& params) {
  if (params.tokens == 0 || params.channels == 0) return cudaSuccess;
  if (const cudaError_t error = checked(params)) return error;
  const int64_t size = params.channels / params.groups;
  return dispatch_row_team<kWidestPack<T>>(size, takes_packs(params), [&]<class Team>() {
    const dim3 blocks(static_cast<unsigned>(ceil_divide<int64_t>(params.tokens, Team::kTeams)),
                      static_cast<unsigned>(params.groups));
    gated_rms_norm_forward_kernel<T, Team>
        <<<blocks, Team::kThreads, 0, params.stream>>>(params, static_cast<int>(size));
    return cudaGetLastError();
  });
}

template <class T>
cudaError_t launch_gated_rms_norm_backward(const GatedRmsNormCudaParams<T>& params) {
  if (params.tokens == 0 || params.channels == 0) return cudaSuccess;
  return dispatch_backward(params, [&]<class Team>(auto kernel, int64_t blocks, size_t shared) {
    const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(params.groups));
    kernel<<<grid, Team::kThreads, shared, params.stream>>>(
        params, static_cast<int>(params.channels / params.groups));
    return add_column_partials(params.workspace, blocks, params.channels, params.grad_weight, params.stream);
  });
}

}  // namespace exactmamba::ops
