#include <cmath>

#include <ATen/Parallel.h>

#include "models/ops/gated_rms_norm/gated_rms_norm_params.h"
#include "models/ops/packed_activation.h"
#include "models/ops/partial_sums.h"
#include "models/ops/vector_math.h"

namespace exactmamba::ops {
namespace {

constexpr int64_t kGrain = 16;  // tokens of a thread at least

template <class T>
void forward_token(const GatedRmsNormParams<T>& params, int64_t token) {
  const int64_t size = params.channels / params.groups;
  for (int64_t group = 0; group < params.groups; ++group) {
    const int64_t first = group * size;
    const T *x = params.x.at(token) + first, *z = params.z.at(token) + first;
    T* out = params.out.at(token) + first;
    Pack<T> squares{};
    for_each_pack<T>(size, [&](int64_t c, int64_t n) {
      const Pack<T> gated = load(x + c, n) * silu(load(z + c, n));
      store(out + c, gated, n);
      squares += gated * gated;
    });
    const T rstd =
        static_cast<T>(1.0 / std::sqrt(sum_of_lanes(squares) / static_cast<double>(size) + params.eps));
    if (params.rstd) params.rstd[token * params.groups + group] = rstd;
    const T scale = params.scale_later ? T(1) : rstd;
    for_each_pack<T>(size, [&](int64_t c, int64_t n) {
      store(out + c, load(params.weight + first + c, n) * (load(out + c, n) * scale), n);
    });
  }
}

/// The gradient of v = x ⊙ SiLU(z) is that of RMSNorm: rstd (ĝ − v̂ mean(ĝ ⊙ v̂)), v̂ = v·rstd, ĝ = weight ⊙
/// grad_out / scale, where out = weight ⊙ v ⊙ scale.
template <class T>
void backward_token(const GatedRmsNormParams<T>& params, int64_t token, T* grad_weight) {
  const int64_t size = params.channels / params.groups;
  for (int64_t group = 0; group < params.groups; ++group) {
    const int64_t first = group * size;
    const T rstd = params.saved_rstd[token * params.groups + group], scale = params.scale_later ? T(1) : rstd,
            late = scale / rstd;
    const T *x = params.x.at(token) + first, *z = params.z.at(token) + first,
            *grad_out = params.grad_out.at(token) + first;
    const T* weight = params.weight + first;
    Pack<T> products{};
    for_each_pack<T>(size, [&](int64_t c, int64_t n) {
      const Pack<T> normed = load(x + c, n) * silu(load(z + c, n)) * rstd, g = load(grad_out + c, n) * late;
      T* to = grad_weight + first + c;
      store(to, load(to, n) + g * normed, n);
      products += load(weight + c, n) * g * normed;
    });
    const T mean = sum_of_lanes(products) / static_cast<T>(size);
    for_each_pack<T>(size, [&](int64_t c, int64_t n) {
      const Pack<T> x_pack = load(x + c, n), z_pack = load(z + c, n);
      const Pack<T> gate = sigmoid(z_pack), silu_z = z_pack * gate;
      const Pack<T> normed = x_pack * silu_z * rstd, weights = load(weight + c, n);
      const Pack<T> grad = rstd * (weights * load(grad_out + c, n) * late - normed * mean);
      if (params.grad_x) store(params.grad_x.at(token) + first + c, grad * silu_z, n);
      if (params.grad_z)
        store(params.grad_z.at(token) + first + c, grad * x_pack * gate * (1 + z_pack * (1 - gate)), n);
      if (params.out) store(params.out.at(token) + first + c, weights * (x_pack * silu_z * scale), n);
    });
  }
}

}  // namespace

template <class T>
void gated_rms_norm_forward_cpu(const GatedRmsNormParams<T>& params) {
  at::parallel_for(0, params.tokens, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t token = begin; token < end; ++token) forward_token(params, token);
  });
}

template <class T>
void gated_rms_norm_backward_cpu(const GatedRmsNormParams<T>& params) {
  add_column_sums(params.tokens, params.channels, params.grad_weight,
                  [&](int64_t token, T* grad_weight) { backward_token(params, token, grad_weight); });
}

template void gated_rms_norm_forward_cpu(const GatedRmsNormParams<float>&);
template void gated_rms_norm_forward_cpu(const GatedRmsNormParams<double>&);
template void gated_rms_norm_backward_cpu(const GatedRmsNormParams<float>&);
template void gated_rms_norm_backward_cpu(const GatedRmsNormParams<double>&);

}  // namespace exactmamba::ops
