#include "models/ops/selective_scan/selective_scan.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/zeros_like.h>

#include "models/ops/checks.h"
#include "models/ops/selective_scan/selective_scan_cuda.h"
#include "models/ops/selective_scan/selective_scan_fields.h"
#include "models/ops/selective_scan/selective_scan_params.h"
#include "models/ops/sequences.h"

namespace exactmamba::ops {
namespace {

using core::require;

/// The checked sizes of one call.
struct Call {
  int64_t batch, length, channels, states, groups, sequence_count;
  std::vector<Sequence> sequences;  // empty on a GPU, where cu_seqlens is

  int64_t chunk_count() const {
    int64_t chunks = 0;
    for (const Sequence& s : sequences) chunks += (s.end - s.begin + kScanChunk - 1) / kScanChunk;
    return chunks;
  }
};

/// A where A_log was given.
SelectiveScanInputs with_A(SelectiveScanInputs in) {
  if (in.A_log.defined()) in.A = in.A_log.exp().neg_(), in.A_log.reset();
  return in;
}

Call checked_call(const SelectiveScanInputs& in) {
  const OperatorChecks checks(kSelectiveScan, "u", in.u);
  const at::Tensor& A = given_A(in);
  checks.dimensions("u", in.u, 3, "(B, L, D)");
  const char* const name = in.A_log.defined() ? "A_log" : "A";
  require(!in.A.defined() || !in.A_log.defined(), "selective_scan: A and A_log are given, but one is enough");
  checks.dimensions(name, A, 2, "(D, N)");
  require(in.B.defined(), "selective_scan: B is missing");
  require(in.B.dim() == 3 || in.B.dim() == 4,
          "selective_scan: B has {} dimensions, but (B, L, N) or (B, L, G, N) is expected", in.B.dim());
  Call call{in.u.size(0),
            in.u.size(1),
            in.u.size(2),
            A.size(1),
            in.B.dim() == 4 ? in.B.size(2) : 1,
            sequence_count(in.cu_seqlens, in.u.size(0)),
            {}};
  require(call.groups >= 1 && call.channels % call.groups == 0,
          "selective_scan: {} channels do not divide into the {} groups of B", call.channels, call.groups);
  std::vector<int64_t> of_B{call.batch, call.length, call.states};
  if (in.B.dim() == 4) of_B.insert(of_B.begin() + 2, call.groups);
  checks.rows("u", in.u, in.u.sizes());
  checks.rows("delta", in.delta, in.u.sizes());
  checks.wide(name, A, {call.channels, call.states});
  checks.rows("B", in.B, of_B);
  checks.rows("C", in.C, of_B);
  checks.wide_or_undefined("D", in.D, {call.channels});
  checks.rows_or_undefined("z", in.z, in.u.sizes());
  checks.wide_or_undefined("delta_bias", in.delta_bias, {call.channels});
  if (in.u.is_cpu()) call.sequences = sequences_of(in.cu_seqlens, call.batch, call.length);
  checks.wide_or_undefined("initial_state", in.initial_state,
                           {call.sequence_count, call.channels, call.states});
  return call;
}

template <class T>
SelectiveScanParams<T> params_of(const SelectiveScanInputs& in, const Call& call) {
  SelectiveScanParams<T> params;
  params.tokens = call.batch * call.length;
  params.sequences = call.sequences.data();
  params.sequence_count = call.sequence_count;
  set_inputs(params, in);
  return params;
}

/// The forward pass into tensors that exist; `chunk_states` and `last_state` may be undefined.
at::Tensor run_forward(const SelectiveScanInputs& in, const Call& call, const at::Tensor& chunk_states,
                       const at::Tensor& last_state) {
  at::Tensor out = at::empty(in.u.sizes(), in.u.options());
  dispatch_floating(in.u.scalar_type(), [&]<class T>() {
    auto params = params_of<T>(in, call);
    set(params.out, out);
    set(params.chunk_states, chunk_states);
    set(params.last_state, last_state);
    selective_scan_forward_cpu(params);
  });
  return out;
}

void check_backward(const SelectiveScanInputs& in, const Call& call, const SelectiveScanSaved& saved,
                    const at::Tensor& grad_out, const at::Tensor& grad_last_state,
                    const SelectiveScanGradients& gradients) {
  const OperatorChecks checks(kSelectiveScan, "u", in.u);
  if (in.u.is_cpu())
    checks.wide("saved.chunk_states", saved.chunk_states, {call.chunk_count(), call.states, call.channels});
  checks.rows("grad_out", grad_out, in.u.sizes());
  checks.wide_or_undefined("grad_last_state", grad_last_state,
                           {call.sequence_count, call.channels, call.states});
  checks.rows_or_undefined("gradients.u", gradients.u, in.u.sizes());
  checks.rows_or_undefined("gradients.delta", gradients.delta, in.u.sizes());
  checks.rows_or_undefined("gradients.B", gradients.B, in.B.sizes());
  checks.rows_or_undefined("gradients.C", gradients.C, in.B.sizes());
  checks.rows_or_undefined("gradients.z", gradients.z, in.u.sizes());
  checks.wide_or_undefined("gradients.A", gradients.A, given_A(in).sizes());
  checks.wide_or_undefined("gradients.D", gradients.D, {call.channels});
  checks.wide_or_undefined("gradients.delta_bias", gradients.delta_bias, {call.channels});
  checks.rows_or_undefined("gradients.out", gradients.out, in.u.sizes());
  require(!gradients.z.defined() || in.z.defined(),
          "selective_scan: gradients.z is asked for, but there is no z");
}

}  // namespace

at::Tensor selective_scan_forward(const SelectiveScanInputs& in, SelectiveScanSaved* saved,
                                  at::Tensor* last_state) {
  const Call call = checked_call(in);
  if (in.u.is_cuda()) return selective_scan_forward_cuda(in, saved, last_state);
  if (saved)
    saved->chunk_states = at::empty({call.chunk_count(), call.states, call.channels}, in.u.options());
  if (last_state) *last_state = at::empty({call.sequence_count, call.channels, call.states}, in.u.options());
  return run_forward(with_A(in), call, saved ? saved->chunk_states : at::Tensor(),
                     last_state ? *last_state : at::Tensor());
}

void selective_scan_backward(const SelectiveScanInputs& in, const SelectiveScanSaved& saved,
                             const at::Tensor& grad_out, const at::Tensor& grad_last_state,
                             SelectiveScanGradients& gradients) {
  const Call call = checked_call(in);
  check_backward(in, call, saved, grad_out, grad_last_state, gradients);
  if (in.u.is_cuda()) return selective_scan_backward_cuda(in, saved, grad_out, grad_last_state, gradients);
  const SelectiveScanInputs given = with_A(in);
  const bool of_log = in.A_log.defined() && gradients.A.defined();
  SelectiveScanGradients wanted = gradients;
  if (of_log) wanted.A = at::zeros_like(gradients.A);
  dispatch_floating(in.u.scalar_type(), [&]<class T>() {
    auto params = params_of<T>(given, call);
    set_gradients(params, saved, grad_out, grad_last_state, wanted);
    selective_scan_backward_cpu(params);
  });
  if (of_log) gradients.A.addcmul_(wanted.A, given.A);  // dA/dA_log = A
}

at::Tensor selective_scan_step(const SelectiveScanInputs& in, at::Tensor& state) {
  OperatorChecks(kSelectiveScan, "u", in.u).dimensions("u", in.u, 2, "(B, D)");
  require(state.defined(), "selective_scan: state is missing");
  SelectiveScanInputs token = in;
  for (at::Tensor* tensor : {&token.u, &token.delta, &token.z, &token.B, &token.C})
    if (tensor->defined()) *tensor = tensor->unsqueeze(1);
  token.initial_state = state;
  const Call call = checked_call(token);
  if (in.u.is_cuda()) return selective_scan_forward_cuda(token, nullptr, &state).squeeze(1);
  return run_forward(with_A(token), call, {}, state).squeeze(1);
}

}  // namespace exactmamba::ops
