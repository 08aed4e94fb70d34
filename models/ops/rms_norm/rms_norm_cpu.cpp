#include <cmath>

#include <ATen/Parallel.h>

#include "models/ops/partial_sums.h"
#include "models/ops/rms_norm/rms_norm_params.h"
#include "models/ops/vector_math.h"

namespace exactmamba::ops {
namespace {

constexpr int64_t kGrain = 16;  // rows of a thread at least

template <class T>
void forward_row(const RmsNormParams<T>& params, int64_t row) {
  const int64_t at = row * params.size;
  const T* summed = params.sum ? params.sum + at : params.x + at;
  const T scale = params.scale ? params.scale[row] : T(1);
  Pack<T> squares{};
  for_each_pack<T>(params.size, [&](int64_t c, int64_t n) {
    Pack<T> r = load(params.x + at + c, n) * scale;
    if (params.residual) r += load(params.residual + at + c, n);
    if (params.sum) store(params.sum + at + c, r, n);
    squares += r * r;
  });
  const T rstd =
      static_cast<T>(1.0 / std::sqrt(sum_of_lanes(squares) / static_cast<double>(params.size) + params.eps));
  params.rstd[row] = rstd;
  for_each_pack<T>(params.size, [&](int64_t c, int64_t n) {
    store(params.out + at + c, load(params.weight + c, n) * (load(summed + c, n) * rstd), n);
  });
}

/// With r̂ = r·rstd and ĝ = weight ⊙ grad_out: grad_residual = rstd (ĝ − r̂ mean(ĝ ⊙ r̂)).
template <class T>
void backward_row(const RmsNormParams<T>& params, int64_t row, T* grad_weight) {
  const int64_t at = row * params.size;
  const T rstd = params.saved_rstd[row];
  const auto normed_at = [&](int64_t c, int64_t n) {
    return Pack<T>(load(params.residual_out + at + c, n) * rstd);
  };
  Pack<T> products{};
  for_each_pack<T>(params.size, [&](int64_t c, int64_t n) {
    const Pack<T> normed = normed_at(c, n), g = load(params.grad_out + at + c, n);
    products += load(params.weight + c, n) * g * normed;
    store(grad_weight + c, load(grad_weight + c, n) + g * normed, n);
  });
  const T mean = sum_of_lanes(products) / static_cast<T>(params.size);
  for_each_pack<T>(params.size, [&](int64_t c, int64_t n) {
    const Pack<T> normed = normed_at(c, n), weight = load(params.weight + c, n);
    Pack<T> grad = rstd * (weight * load(params.grad_out + at + c, n) - normed * mean);
    if (params.grad_residual_out) grad += load(params.grad_residual_out + at + c, n);
    store(params.grad_residual + at + c, grad, n);
    if (params.scale) store(params.grad_x + at + c, grad * params.scale[row], n);
  });
}

}  // namespace

template <class T>
void rms_norm_forward_cpu(const RmsNormParams<T>& params) {
  at::parallel_for(0, params.rows, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) forward_row(params, row);
  });
}

template <class T>
void rms_norm_backward_cpu(const RmsNormParams<T>& params) {
  add_column_sums(params.rows, params.size, params.grad_weight,
                  [&](int64_t row, T* grad_weight) { backward_row(params, row, grad_weight); });
}

template void rms_norm_forward_cpu(const RmsNormParams<float>&);
template void rms_norm_forward_cpu(const RmsNormParams<double>&);
template void rms_norm_backward_cpu(const RmsNormParams<float>&);
template void rms_norm_backward_cpu(const RmsNormParams<double>&);

}  // namespace exactmamba::ops
