#include "models/ops/causal_conv1d/causal_conv1d.h"

#include <ATen/ops/empty.h>

#include "models/ops/causal_conv1d/causal_conv1d_cuda.h"
#include "models/ops/causal_conv1d/causal_conv1d_fields.h"
#include "models/ops/causal_conv1d/causal_conv1d_params.h"
#include "models/ops/checks.h"
#include "models/ops/products.h"
#include "models/ops/sequences.h"

namespace exactmamba::ops {
namespace {

/// @return the sequences on a CPU; empty on a GPU, where cu_seqlens is
std::vector<Sequence> checked_sequences(const CausalConv1dInputs& in) {
  const OperatorChecks checks(kCausalConv1d, "x", in.x);
  checks.dimensions("x", in.x, 3, "(B, L, D)");
  checks.dimensions("weight", in.weight, 2, "(D, W)");
  const int64_t channels = in.x.size(2), width = in.weight.size(1);
  core::require(width >= 1, "causal_conv1d: weight has {} taps, but needs at least 1", width);
  checks.rows("x", in.x, in.x.sizes());
  checks.wide("weight", in.weight, {channels, width});
  checks.wide_or_undefined("bias", in.bias, {channels});
  checks.wide_or_undefined("initial_states", in.initial_states,
                           {sequence_count(in.cu_seqlens, in.x.size(0)), channels, width - 1});
  if (in.x.is_cuda()) return {};
  return sequences_of(in.cu_seqlens, in.x.size(0), in.x.size(1));
}

template <class T>
CausalConv1dParams<T> params_of(const CausalConv1dInputs& in, const std::vector<Sequence>& sequences) {
  CausalConv1dParams<T> params;
  set_inputs(params, in);
  params.sequences = sequences.data();
  params.sequence_count = sequences.size();
  return params;
}

at::Tensor as_rows(const at::Tensor& x) { return x.flatten(0, 1); }

/// @return P
int64_t checked_columns(const at::Tensor& projection, const CausalConv1dInputs& in,
                        const OperatorChecks& checks) {
  checks.dimensions("projection.weight", projection, 2, "(P, D)");
  checks.dense("projection.weight", projection, {projection.size(0), in.x.size(2)});
  return projection.size(0);
}

void check(const CausalConv1dProjection& projection, const CausalConv1dInputs& in,
           const OperatorChecks& checks) {
  const int64_t columns = checked_columns(projection.weight, in, checks);
  checks.dense("projection.grad", projection.grad, {in.x.size(0), in.x.size(1), columns});
  checks.dense("projection.out", projection.out, in.x.sizes());
  checks.wide("projection.grad_weight", projection.grad_weight, projection.weight.sizes());
}

/// The gradients of a projection as products of their own.
void add_gradients(const CausalConv1dProjection& projection, const at::Tensor& grad_out) {
  const at::Tensor grad = as_rows(projection.grad);
  at::Tensor grad_weight = projection.grad_weight, sum = as_rows(grad_out);
  add_product(grad_weight, grad.t(), as_rows(projection.out));
  add_product(sum, grad, projection.weight);
}

}  // namespace

at::Tensor causal_conv1d_forward(const CausalConv1dInputs& in, at::Tensor* final_states) {
  const auto sequences = checked_sequences(in);
  if (in.x.is_cuda()) return causal_conv1d_forward_cuda(in, final_states);
  const int64_t channels = in.x.size(2), width = in.weight.size(1);
  at::Tensor out = at::empty(in.x.sizes(), in.x.options());
  if (final_states)
    *final_states = at::empty({int64_t(sequences.size()), channels, width - 1}, in.x.options());
  dispatch_floating(in.x.scalar_type(), [&]<class T>() {
    auto params = params_of<T>(in, sequences);
    set(params.out, out);
    if (final_states) set(params.final_states, *final_states);
    causal_conv1d_forward_cpu(params);
  });
  return out;
}

at::Tensor causal_conv1d_forward_projected(const CausalConv1dInputs& in, const at::Tensor& weight,
                                           at::Tensor& projected) {
  checked_sequences(in);
  const int64_t columns = checked_columns(weight, in, OperatorChecks(kCausalConv1d, "x", in.x));
  projected = at::empty({in.x.size(0), in.x.size(1), columns}, in.x.options());
  at::Tensor out;
  if (in.x.is_cuda() && causal_conv1d_forward_projected_cuda(in, weight, out, projected)) return out;
  out = causal_conv1d_forward(in);
  at::Tensor rows = as_rows(projected);
  multiply(rows, as_rows(out), weight.t());
  return out;
}

void causal_conv1d_backward(const CausalConv1dInputs& in, const at::Tensor& grad_out,
                            CausalConv1dGradients& gradients, const CausalConv1dProjection* projection) {
  const auto sequences = checked_sequences(in);
  const OperatorChecks checks(kCausalConv1d, "x", in.x);
  checks.rows("grad_out", grad_out, in.x.sizes());
  checks.rows_or_undefined("gradients.x", gradients.x, in.x.sizes());
  checks.wide_or_undefined("gradients.weight", gradients.weight, in.weight.sizes());
  checks.wide_or_undefined("gradients.bias", gradients.bias, {in.x.size(2)});
  if (projection) check(*projection, in, checks), checks.dense("grad_out", grad_out, in.x.sizes());
  const bool fused =
      projection && in.x.is_cuda() && backward_projects_cuda(in, grad_out, gradients, *projection);
  if (projection && !fused) add_gradients(*projection, grad_out);
  if (in.x.is_cuda())
    return causal_conv1d_backward_cuda(in, grad_out, gradients, fused ? projection : nullptr);
  dispatch_floating(in.x.scalar_type(), [&]<class T>() {
    auto params = params_of<T>(in, sequences);
    set_gradients(params, grad_out, gradients);
    causal_conv1d_backward_cpu(params);
  });
}

at::Tensor causal_conv1d_step(const at::Tensor& x, at::Tensor& state, const at::Tensor& weight,
                              const at::Tensor& bias, const models::ConvActivation& activation) {
  OperatorChecks(kCausalConv1d, "x", x).dimensions("x", x, 2, "(B, D)");
  CausalConv1dInputs in;
  in.x = x.unsqueeze(1);
  in.weight = weight;
  in.bias = bias;
  in.activation = activation;
  in.initial_states = state;
  const auto sequences = checked_sequences(in);
  core::require(state.defined(), "causal_conv1d: state is missing");
  if (x.is_cuda()) return causal_conv1d_forward_cuda(in, &state).squeeze(1);
  at::Tensor out = at::empty(in.x.sizes(), x.options());
  dispatch_floating(x.scalar_type(), [&]<class T>() {
    auto params = params_of<T>(in, sequences);
    set(params.out, out);
    set(params.final_states, state);
    causal_conv1d_forward_cpu(params);
  });
  return out.squeeze(1);
}

}  // namespace exactmamba::ops
