// Traces for tests: of random layers, with the output made step by step by the plain recurrence, and the
// closed form of T on them. Everything in double through LibTorch's own operators; nothing of decomp/ is
// used.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mv.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "decomp/approximation.h"
#include "models/layer_trace.h"

namespace exactmamba::testing {

using decomp::Approximation;
using decomp::BiasRule;
using models::Architecture;
using models::LayerTrace;

constexpr Approximation kApproximations[] = {Approximation::kActivation, Approximation::kIdentity,
                                             Approximation::kRelu, Approximation::kTaylor,
                                             Approximation::kRatio};

struct LayerSpec {
  Architecture architecture = Architecture::kMamba1;
  std::vector<int> bounds;  // cu_seqlens
  models::ConvActivation activation;
  int64_t d = 5, D = 12, N = 6, H = 4, G = 2, W = 4;
  bool conv_bias = true, out_bias = false;
  double longest_step = 0.5;  // Δ is uniform in (0, longest_step)

  int64_t length() const { return bounds.back(); }
  int64_t sequence_start(int64_t t) const { return *(std::upper_bound(bounds.begin(), bounds.end(), t) - 1); }
};

inline at::Tensor random(at::IntArrayRef shape) { return at::randn(shape, at::kDouble); }

inline at::Tensor phi(const at::Tensor& a, const models::ConvActivation& activation) {
  const at::Tensor own = activation.kind == models::ActivationKind::kIdentity ? a
                         : activation.kind == models::ActivationKind::kRelu   ? at::relu(a)
                                                                              : at::silu(a);
  return activation.alpha * own + (1 - activation.alpha) * at::silu(a);
}

/// φ(a)/a as the table of golden/decomposition/README.md has it.
inline at::Tensor phi_gate(const at::Tensor& a, const models::ConvActivation& activation) {
  const at::Tensor own = activation.kind == models::ActivationKind::kIdentity ? at::zeros_like(a) + 1
                         : activation.kind == models::ActivationKind::kRelu   ? a.gt(0).to(at::kDouble)
                                                                              : at::sigmoid(a);
  return activation.alpha * own + (1 - activation.alpha) * at::sigmoid(a);
}

inline at::Tensor per_channel(const LayerTrace& trace, const at::Tensor& per_head) {  // (…, H) → (…, D)
  return trace.architecture == Architecture::kMamba1 ? per_head
                                                     : per_head.repeat_interleave(trace.headdim(), -1);
}
inline at::Tensor channel_A(const LayerTrace& trace) {  // (D, N)
  return trace.architecture == Architecture::kMamba1
             ? trace.A
             : per_channel(trace, trace.A).unsqueeze(1).expand({trace.d_inner(), trace.B.size(2)});
}
inline at::Tensor channel_coefficients(const LayerTrace& trace, const at::Tensor& B, int64_t t) {  // (D, N)
  return B.select(0, t).repeat_interleave(trace.d_inner() / B.size(1), 0);
}
inline at::Tensor tap(const LayerTrace& trace, int64_t lag) {
  return trace.conv_weight.select(1, trace.conv_weight.size(1) - 1 - lag);
}

inline void run_convolution(const LayerSpec& spec, LayerTrace& trace) {
  trace.a = at::zeros_like(trace.x);
  for (int64_t t = 0; t < spec.length(); ++t) {
    at::Tensor a = trace.a.select(0, t);
    if (spec.conv_bias) a += trace.conv_bias;
    for (int64_t k = 0; k < spec.W && t - k >= spec.sequence_start(t); ++k)
      a += tap(trace, k) * trace.x.select(0, t - k);
  }
}

inline void run_recurrence(const LayerSpec& spec, LayerTrace& trace) {
  const at::Tensor u = phi(trace.a, trace.activation), A = channel_A(trace),
                   skip = per_channel(trace, trace.D);
  at::Tensor upsilon = at::zeros_like(u), state;
  for (int64_t t = 0; t < spec.length(); ++t) {
    if (t == spec.sequence_start(t)) state = at::zeros({spec.D, spec.N}, at::kDouble);
    const at::Tensor delta = per_channel(trace, trace.delta.select(0, t));
    state = (delta.unsqueeze(1) * A).exp() * state +
            (delta * u.select(0, t)).unsqueeze(1) * channel_coefficients(trace, trace.B, t);
    upsilon.select(0, t).copy_((state * channel_coefficients(trace, trace.C, t)).sum(1) +
                               skip * u.select(0, t));
  }
  at::Tensor gated = upsilon * at::silu(trace.z);
  if (spec.architecture == Architecture::kMamba2) {
    const at::Tensor grouped = gated.view({spec.length(), spec.G, spec.D / spec.G});
    trace.rho = (grouped.pow(2).mean(2) + 1e-5).rsqrt();
    gated = gated * trace.norm_weight * trace.rho.repeat_interleave(spec.D / spec.G, 1);
  }
  trace.y = at::matmul(gated, trace.out_weight.t());
  if (spec.out_bias) trace.y = trace.y + trace.out_bias;
}

inline LayerTrace random_trace(const LayerSpec& spec) {
  const bool mamba1 = spec.architecture == Architecture::kMamba1;
  const int64_t L = spec.length(), heads = mamba1 ? spec.D : spec.H, groups = mamba1 ? 1 : spec.G;
  at::manual_seed(7);
  LayerTrace trace;
  trace.architecture = spec.architecture;
  trace.activation = spec.activation;
  trace.cu_seqlens = at::tensor(spec.bounds, at::kInt);
  trace.r = random({L, spec.d});
  trace.x = random({L, spec.D});
  trace.z = random({L, spec.D});
  trace.delta = at::rand({L, heads}, at::kDouble) * spec.longest_step;
  trace.B = random({L, groups, spec.N});
  trace.C = random({L, groups, spec.N});
  trace.conv_weight = random({spec.D, spec.W});
  if (spec.conv_bias) trace.conv_bias = random({spec.D});
  trace.A = -(mamba1 ? random({spec.D, spec.N}) : random({spec.H})).exp();
  trace.D = random({heads});
  if (!mamba1) trace.norm_weight = random({spec.D});
  trace.out_weight = random({spec.d, spec.D});
  if (spec.out_bias) trace.out_bias = random({spec.d});
  run_convolution(spec, trace);
  run_recurrence(spec, trace);
  return trace;
}

inline LayerTrace to_dtype(LayerTrace trace, at::ScalarType dtype) {
  for (at::Tensor* tensor : {&trace.r, &trace.y, &trace.x, &trace.a, &trace.z, &trace.delta, &trace.B,
                             &trace.C, &trace.rho, &trace.conv_weight, &trace.conv_bias, &trace.A, &trace.D,
                             &trace.norm_weight, &trace.out_weight, &trace.out_bias})
    if (tensor->defined()) *tensor = tensor->to(dtype);
  return trace;
}

/// f of pieces at time t, by the table.
inline at::Tensor approximate(const LayerTrace& trace, Approximation approximation, const at::Tensor& pieces,
                              int64_t t) {
  switch (approximation) {
    case Approximation::kActivation:
      return phi(pieces, trace.activation);
    case Approximation::kIdentity:
      return pieces;
    case Approximation::kRelu:
      return at::relu(pieces);
    case Approximation::kTaylor:
      return trace.activation.slope_at_zero() * pieces;
    case Approximation::kRatio:
      break;
  }
  return pieces * phi_gate(trace.a.select(0, t), trace.activation);
}

/// M_{i,t}, D included: (D)
inline at::Tensor closed_form_mixing(const LayerTrace& trace, int64_t i, int64_t t) {
  const at::Tensor elapsed = per_channel(trace, trace.delta.slice(0, t + 1, i + 1).sum(0));
  const at::Tensor delta = per_channel(trace, trace.delta.select(0, t));
  const at::Tensor decay = (elapsed.unsqueeze(1) * channel_A(trace)).exp();
  const at::Tensor M =
      (channel_coefficients(trace, trace.C, i) * decay * channel_coefficients(trace, trace.B, t)).sum(1) *
      delta;
  return t == i ? M + per_channel(trace, trace.D) : M;
}

/// W_out (s_i ⊙ υ)
inline at::Tensor project(const LayerTrace& trace, int64_t i, const at::Tensor& upsilon) {
  at::Tensor gated = upsilon * at::silu(trace.z.select(0, i));
  if (trace.rho.defined())
    gated = gated * trace.norm_weight *
            trace.rho.select(0, i).repeat_interleave(trace.d_inner() / trace.rho.size(1));
  return at::mv(trace.out_weight, gated);
}

/// T_i(x_j) by the closed form; j = L: T_i(bias).
inline at::Tensor closed_form(const LayerSpec& spec, const LayerTrace& trace, Approximation approximation,
                              BiasRule bias, int64_t i, int64_t j) {
  const bool of_bias = j == spec.length();
  at::Tensor upsilon = at::zeros({spec.D}, at::kDouble);
  const int64_t first = of_bias ? spec.sequence_start(i) : j,
                last = of_bias ? i : std::min(i, j + spec.W - 1);
  for (int64_t t = first; t <= last; ++t) {
    at::Tensor piece = of_bias ? at::zeros({spec.D}, at::kDouble) : tap(trace, t - j) * trace.x.select(0, j);
    const bool with_bias = of_bias || (bias == BiasRule::kOwn && t == j);
    if (with_bias && spec.conv_bias) piece = piece + trace.conv_bias;
    upsilon += closed_form_mixing(trace, i, t) * approximate(trace, approximation, piece, t);
  }
  const bool with_out_bias = spec.out_bias && (bias == BiasRule::kOwn ? i == j : of_bias);
  return with_out_bias ? project(trace, i, upsilon) + trace.out_bias : project(trace, i, upsilon);
}

}  // namespace exactmamba::testing
