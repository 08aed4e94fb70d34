#include "models/ops/ssd/ssd.h"

#include <ATen/ops/empty.h>

#include "models/ops/checks.h"
#include "models/ops/sequences.h"
#include "models/ops/ssd/ssd_cuda.h"
#include "models/ops/ssd/ssd_fields.h"
#include "models/ops/ssd/ssd_params.h"

namespace exactmamba::ops {
namespace {

using core::require;

/// The checked sizes of one call.
struct Call {
  int64_t batch, length, heads, head_size, groups, states, sequence_count;
  std::vector<Sequence> sequences;  // empty on a GPU, where cu_seqlens is
  int64_t chunks = 0;

  std::vector<int64_t> state_shape(int64_t count) const { return {count, heads, head_size, states}; }
  std::vector<int64_t> sequence_state_shape() const { return state_shape(sequence_count); }
};

void check_tensors(const SsdInputs& in, const Call& call) {
  const OperatorChecks checks(kSsd, "x", in.x);
  checks.rows("x", in.x, in.x.sizes());
  checks.rows("dt", in.dt, {call.batch, call.length, call.heads});
  checks.wide("A", in.A, {call.heads});
  checks.rows("B", in.B, {call.batch, call.length, call.groups, call.states});
  checks.rows("C", in.C, in.B.sizes());
  checks.wide_or_undefined("D", in.D, {call.heads});
  checks.wide_or_undefined("dt_bias", in.dt_bias, {call.heads});
  checks.wide_or_undefined("initial_state", in.initial_state, call.sequence_state_shape());
}

Call checked_call(const SsdInputs& in) {
  const OperatorChecks checks(kSsd, "x", in.x);
  checks.dimensions("x", in.x, 4, "(B, L, H, P)");
  checks.dimensions("B", in.B, 4, "(B, L, G, N)");
  require(in.chunk_size >= 1, "ssd: chunk_size is {}, but must be at least 1", in.chunk_size);
  require(in.dt_min <= in.dt_max, "ssd: dt_min is {}, which is greater than dt_max = {}", in.dt_min,
          in.dt_max);
  Call call{in.x.size(0),
            in.x.size(1),
            in.x.size(2),
            in.x.size(3),
            in.B.size(2),
            in.B.size(3),
            sequence_count(in.cu_seqlens, in.x.size(0)),
            {}};
  require(call.groups >= 1 && call.heads % call.groups == 0,
          "ssd: {} heads do not divide into the {} groups of B", call.heads, call.groups);
  if (in.x.is_cpu()) call.sequences = sequences_of(in.cu_seqlens, call.batch, call.length);
  for (const Sequence& s : call.sequences)
    call.chunks += (s.end - s.begin + in.chunk_size - 1) / in.chunk_size;
  check_tensors(in, call);
  return call;
}

template <class T>
SsdParams<T> params_of(const SsdInputs& in, const Call& call) {
  SsdParams<T> params;
  params.tokens = call.batch * call.length;
  params.chunk_size = in.chunk_size;
  params.sequences = call.sequences.data();
  params.sequence_count = call.sequence_count;
  set_inputs(params, in);
  set(params.initial_state, in.initial_state);
  return params;
}

/// The forward pass into tensors that exist; `chunk_states` and `last_state` may be undefined.
at::Tensor run_forward(const SsdInputs& in, const Call& call, const at::Tensor& chunk_states,
                       const at::Tensor& last_state) {
  at::Tensor out = at::empty(in.x.sizes(), in.x.options());
  dispatch_floating(in.x.scalar_type(), [&]<class T>() {
    auto params = params_of<T>(in, call);
    set(params.out, out);
    set(params.chunk_states, chunk_states);
    set(params.last_state, last_state);
    ssd_forward_cpu(params);
  });
  return out;
}

void check_backward(const SsdInputs& in, const Call& call, const SsdSaved& saved, const at::Tensor& grad_out,
                    const at::Tensor& grad_last_state, const SsdGradients& gradients) {
  const OperatorChecks checks(kSsd, "x", in.x);
  if (in.x.is_cpu()) checks.wide("saved.chunk_states", saved.chunk_states, call.state_shape(call.chunks));
  checks.rows("grad_out", grad_out, in.x.sizes());
  checks.wide_or_undefined("grad_last_state", grad_last_state, call.sequence_state_shape());
  checks.rows_or_undefined("gradients.x", gradients.x, in.x.sizes());
  checks.rows_or_undefined("gradients.dt", gradients.dt, in.dt.sizes());
  checks.rows_or_undefined("gradients.B", gradients.B, in.B.sizes());
  checks.rows_or_undefined("gradients.C", gradients.C, in.B.sizes());
  checks.wide_or_undefined("gradients.A", gradients.A, {call.heads});
  checks.wide_or_undefined("gradients.D", gradients.D, {call.heads});
  checks.wide_or_undefined("gradients.dt_bias", gradients.dt_bias, {call.heads});
  checks.wide_or_undefined("gradients.initial_state", gradients.initial_state, call.sequence_state_shape());
}

}  // namespace

at::Tensor ssd_forward(const SsdInputs& in, SsdSaved* saved, at::Tensor* last_state) {
  const Call call = checked_call(in);
  if (in.x.is_cuda()) return ssd_forward_cuda(in, saved, last_state);
  if (saved) saved->chunk_states = at::empty(call.state_shape(call.chunks), in.x.options());
  if (last_state) *last_state = at::empty(call.sequence_state_shape(), in.x.options());
  return run_forward(in, call, saved ? saved->chunk_states : at::Tensor(),
                     last_state ? *last_state : at::Tensor());
}

at::Tensor ssd_gated_forward(const SsdInputs& in, const GatedRmsNormInputs& norm, SsdSaved* saved,
                             at::Tensor& rstd) {
  const Call call = checked_call(in);
  require(norm.scale_later, "ssd: a norm behind it is to leave its scale for later");
  const OperatorChecks checks(kSsd, "x", in.x);
  checks.rows("z", norm.z, {call.batch, call.length, call.heads * call.head_size});
  checks.wide("the norm's weight", norm.weight, {call.heads * call.head_size});
  if (!in.x.is_cuda() || norm.groups != call.groups) return {};
  return ssd_gated_forward_cuda(in, norm, saved, rstd);
}

void ssd_backward(const SsdInputs& in, const SsdSaved& saved, const at::Tensor& grad_out,
                  const at::Tensor& grad_last_state, SsdGradients& gradients) {
  const Call call = checked_call(in);
  if (in.x.is_cpu() && !saved.chunk_states.defined()) {
    SsdSaved again;
    ssd_forward(in, &again);
    return ssd_backward(in, again, grad_out, grad_last_state, gradients);
  }
  check_backward(in, call, saved, grad_out, grad_last_state, gradients);
  if (in.x.is_cuda()) return ssd_backward_cuda(in, saved, grad_out, grad_last_state, gradients);
  dispatch_floating(in.x.scalar_type(), [&]<class T>() {
    auto params = params_of<T>(in, call);
    set(params.saved_states, saved.chunk_states);
    set_gradients(params, grad_out, grad_last_state, gradients);
    ssd_backward_cpu(params);
  });
}

at::Tensor ssd_step(const SsdInputs& in, at::Tensor& state) {
  OperatorChecks(kSsd, "x", in.x).dimensions("x", in.x, 3, "(B, H, P)");
  require(state.defined(), "ssd: state is missing");
  SsdInputs token = in;
  for (at::Tensor* tensor : {&token.x, &token.dt, &token.B, &token.C})
    if (tensor->defined()) *tensor = tensor->unsqueeze(1);
  token.initial_state = state;
  const Call call = checked_call(token);
  if (in.x.is_cuda()) return ssd_forward_cuda(token, nullptr, &state).squeeze(1);
  return run_forward(token, call, {}, state).squeeze(1);
}

}  // namespace exactmamba::ops
