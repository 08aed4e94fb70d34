// Every operator forward and backward, bfloat16, 16 rows of 2048 tokens, as one layer of the 130M models has
// them; packed: eight sequences of 256 tokens in each row.
#include <ATen/ops/arange.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/randn_like.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <fmt/format.h>

#include "bench/gpu_models.h"
#include "bench/gpu_report.h"
#include "models/ops/causal_conv1d/causal_conv1d.h"
#include "models/ops/dropout/dropout.h"
#include "models/ops/embedding_gradient/embedding_gradient.h"
#include "models/ops/gated_rms_norm/gated_rms_norm.h"
#include "models/ops/linear_cross_entropy/linear_cross_entropy.h"
#include "models/ops/rms_norm/rms_norm.h"
#include "models/ops/selective_scan/selective_scan.h"
#include "models/ops/ssd/ssd.h"

namespace exactmamba::bench {
namespace {

constexpr int64_t kRows = 16, kLength = 2048, kTokens = kRows * kLength, kModel = 768, kInner = 1536;

at::TensorOptions of(at::ScalarType dtype) { return at::TensorOptions().device(at::kCUDA).dtype(dtype); }
at::Tensor activation(int64_t channels) { return at::randn({kRows, kLength, channels}, of(at::kBFloat16)); }
at::Tensor parameter(at::IntArrayRef shape) { return at::randn(shape, of(at::kFloat)); }
at::Tensor negative(at::IntArrayRef shape) { return at::rand(shape, of(at::kFloat)).mul_(-16); }
at::Tensor packed_rows() { return at::arange(0, kTokens + 1, 256, of(at::kInt)); }

/// What goes through memory once: activations of `channels` elements in two bytes.
double traffic(double channels) { return 2.0 * kTokens * channels; }

void add(Report& report, const std::string& name, double bytes, double operations,
         const std::function<void()>& launch) {
  if (!report.wants(name)) return;
  Measurement m{name, time_kernels(launch)};
  m.bytes = bytes;
  m.operations = operations;
  report.add(m);
}

void convolution(Report& report) {
  ops::CausalConv1dInputs in;
  in.x = activation(2 * kInner).narrow(2, 0, kInner);
  in.weight = parameter({kInner, 4});
  in.bias = parameter({kInner});
  const at::Tensor grad = activation(kInner);
  ops::CausalConv1dGradients gradients{at::empty_like(grad), at::zeros_like(in.weight),
                                       at::zeros_like(in.bias)};
  add(report, "causal_conv1d forward", traffic(2 * kInner), 0, [&] { ops::causal_conv1d_forward(in); });
  add(report, "causal_conv1d backward", traffic(3 * kInner), 0,
      [&] { ops::causal_conv1d_backward(in, grad, gradients); });
  constexpr int64_t kColumns = 80;
  const ops::CausalConv1dProjection x_proj{activation(kColumns),
                                           at::randn({kColumns, kInner}, of(at::kBFloat16)),
                                           activation(kInner), parameter({kColumns, kInner})};
  at::Tensor projected;
  add(report, "causal_conv1d forward with x_proj", traffic(2 * kInner + kColumns),
      2.0 * kTokens * kColumns * kInner,
      [&] { ops::causal_conv1d_forward_projected(in, x_proj.weight, projected); });
  add(report, "causal_conv1d backward with x_proj", traffic(3 * kInner + kColumns),
      4.0 * kTokens * kColumns * kInner, [&] { ops::causal_conv1d_backward(in, grad, gradients, &x_proj); });
}

void scan(Report& report, bool packed) {
  const std::string packing = packed ? ", packed" : "";
  ops::SelectiveScanInputs in;
  in.u = activation(kInner);
  in.delta = activation(kInner).sub_(3);
  in.A = negative({kInner, 16});
  const at::Tensor dt_B_C = activation(80);
  in.B = dt_B_C.narrow(2, 48, 16);
  in.C = dt_B_C.narrow(2, 64, 16);
  in.D = parameter({kInner});
  in.z = activation(2 * kInner).narrow(2, kInner, kInner);
  in.delta_bias = parameter({kInner});
  if (packed) in.cu_seqlens = packed_rows();
  add(report, "selective_scan forward" + packing, traffic(4 * kInner + 32), 0,
      [&] { ops::selective_scan_forward(in); });
  ops::SelectiveScanSaved saved;
  const at::Tensor grad = at::randn_like(ops::selective_scan_forward(in, &saved));
  ops::SelectiveScanGradients gradients;
  gradients.u = at::empty_like(in.u);
  gradients.delta = at::empty_like(in.u);
  gradients.z = at::empty_like(in.u);
  const at::Tensor grad_B_C = at::empty_like(dt_B_C);
  gradients.B = grad_B_C.narrow(2, 48, 16);
  gradients.C = grad_B_C.narrow(2, 64, 16);
  gradients.A = at::zeros_like(in.A);
  gradients.D = at::zeros_like(in.D);
  gradients.delta_bias = at::zeros_like(in.delta_bias);
  add(report, "selective_scan backward" + packing, traffic(7 * kInner + 64), 0,
      [&] { ops::selective_scan_backward(in, saved, grad, {}, gradients); });
}

void ssd(Report& report, bool packed, int64_t heads = 24) {
  constexpr int64_t kStates = 128;
  const int64_t inner = 64 * heads;
  // Per token and head, chunks of 128: C·Bᵀ once for all heads, the products with x, the state in and out.
  const double operations = 2.0 * kTokens * (128 * kStates + heads * 64 * (128 + 2 * kStates));
  const std::string packing =
      (packed ? ", packed" : "") + (heads == 24 ? "" : fmt::format(", {} heads", heads));
  const at::Tensor convolved = activation(inner + 2 * kStates);
  ops::SsdInputs in;
  in.x = convolved.narrow(2, 0, inner).unflatten(2, {heads, 64});
  in.dt = activation(heads).sub_(3);
  in.A = negative({heads});
  in.B = convolved.narrow(2, inner, kStates).unflatten(2, {1, kStates});
  in.C = convolved.narrow(2, inner + kStates, kStates).unflatten(2, {1, kStates});
  in.D = parameter({heads});
  in.dt_bias = parameter({heads});
  if (packed) in.cu_seqlens = packed_rows();
  ops::SsdSaved saved;
  add(report, "ssd forward" + packing, traffic(2 * inner + 2 * kStates + heads), operations,
      [&] { ops::ssd_forward(in, &saved); });
  add(report, "ssd forward without states" + packing, traffic(2 * inner + 2 * kStates + heads), operations,
      [&] { ops::ssd_forward(in); });
  at::Tensor rstd;
  const ops::GatedRmsNormInputs norm{{}, activation(inner), parameter({inner}), 1, 1e-5, true};
  if (ops::ssd_gated_forward(in, norm, nullptr, rstd).defined())
    add(report, "ssd forward with its gate" + packing, traffic(3 * inner + 2 * kStates + heads), operations,
        [&] { ops::ssd_gated_forward(in, norm, &saved, rstd); });
  const at::Tensor grad = at::randn_like(ops::ssd_forward(in, &saved)),
                   grad_convolved = at::empty_like(convolved);
  ops::SsdGradients gradients;
  gradients.x = grad_convolved.narrow(2, 0, inner).unflatten(2, {heads, 64});
  gradients.dt = at::empty_like(in.dt);
  gradients.B = grad_convolved.narrow(2, inner, kStates).unflatten(2, {1, kStates});
  gradients.C = grad_convolved.narrow(2, inner + kStates, kStates).unflatten(2, {1, kStates});
  gradients.A = at::zeros_like(in.A);
  gradients.D = at::zeros_like(in.D);
  gradients.dt_bias = at::zeros_like(in.dt_bias);
  add(report, "ssd backward" + packing, traffic(3 * inner + 4 * kStates + 2 * heads), 2 * operations,
      [&] { ops::ssd_backward(in, saved, grad, {}, gradients); });
}

void norms(Report& report) {
  const at::Tensor x = activation(kModel), residual = parameter({kRows, kLength, kModel}),
                   weight = parameter({kModel});
  const ops::RmsNormInputs in{x, residual, weight};
  const ops::RmsNormOutputs out = ops::rms_norm_forward(in);
  at::Tensor grad_weight = at::zeros_like(weight);
  add(report, "rms_norm + residual forward", traffic(6 * kModel), 0, [&] { ops::rms_norm_forward(in); });
  add(report, "rms_norm + residual backward", traffic(7 * kModel), 0,
      [&] { ops::rms_norm_backward(ops::rms_norm_saved(out), weight, x, residual, grad_weight); });

  const at::Tensor dropped = at::empty_like(x);
  add(report, "dropout", traffic(2 * kModel), 0, [&] { ops::dropout(x, {0.3, 1, 2, 3}, dropped); });

  const ops::GatedRmsNormInputs gated{activation(kInner), activation(kInner), parameter({kInner})};
  at::Tensor rstd;
  const at::Tensor grad = at::randn_like(ops::gated_rms_norm_forward(gated, &rstd));
  ops::GatedRmsNormGradients gradients{at::empty_like(grad), at::empty_like(grad),
                                       at::zeros_like(gated.weight)};
  add(report, "gated_rms_norm forward", traffic(3 * kInner), 0, [&] { ops::gated_rms_norm_forward(gated); });
  add(report, "gated_rms_norm backward", traffic(5 * kInner), 0,
      [&] { ops::gated_rms_norm_backward(gated, rstd, grad, gradients); });
}

void head_and_embedding(Report& report) {
  const at::Tensor targets = at::randint(0, kVocabulary, {kTokens}, of(at::kLong));
  const ops::LinearCrossEntropyInputs in{at::randn({kTokens, kModel}, of(at::kBFloat16)),
                                         at::randn({kVocabulary, kModel}, of(at::kBFloat16)), targets};
  at::Tensor grad_hidden = at::empty_like(in.hidden),
             grad_weight = at::zeros({kVocabulary, kModel}, of(at::kFloat));
  for (const double smoothing : {0.0, 0.1})
    add(report, fmt::format("linear_cross_entropy with gradients{}", smoothing > 0 ? ", smoothed" : ""), 0,
        6.0 * kTokens * kVocabulary * kModel, [&, smoothing] {
          ops::linear_cross_entropy_forward_backward(in, 1.0 / kTokens, grad_hidden, grad_weight, smoothing);
        });
  const at::Tensor grad_rows = parameter({kTokens, kModel});
  add(report, "embedding gradient", 4.0 * 3 * kTokens * kModel, 0,
      [&] { ops::add_embedding_gradient(targets, grad_rows, grad_weight); });
}

}  // namespace

void measure_operators(Report& report) {
  convolution(report);
  for (const bool packed : {false, true}) scan(report, packed);
  for (const bool packed : {false, true}) ssd(report, packed);
  for (const bool packed : {false, true}) ssd(report, packed, 32);
  norms(report);
  head_and_embedding(report);
}

}  // namespace exactmamba::bench
