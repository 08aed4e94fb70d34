// The operators at the size of one layer of a 130M model on 1×512 tokens, in fp32, beside plain LibTorch or a
// memory copy. Shared machines disturb means: run with --benchmark_repetitions=9 and read the smallest times
// ("min").
#include <string>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/conv1d.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/randn_like.h>
#include <ATen/ops/rms_norm.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/softplus.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <benchmark/benchmark.h>
#include <c10/core/InferenceMode.h>

#include "models/ops/causal_conv1d/causal_conv1d.h"
#include "models/ops/gated_rms_norm/gated_rms_norm.h"
#include "models/ops/linear_cross_entropy/linear_cross_entropy.h"
#include "models/ops/rms_norm/rms_norm.h"
#include "models/ops/selective_scan/selective_scan.h"
#include "models/ops/ssd/ssd.h"

namespace exactmamba::ops {
namespace {

constexpr int64_t kLength = 512, kModel = 768, kInner = 1536, kVocabulary = 50280;

CausalConv1dInputs conv_inputs() {
  CausalConv1dInputs in;
  in.x = at::randn({1, kLength, 2 * kInner}).narrow(2, 0, kInner);
  in.weight = at::randn({kInner, 4});
  in.bias = at::randn({kInner});
  return in;
}

SelectiveScanInputs scan_inputs() {
  SelectiveScanInputs in;
  in.u = at::randn({1, kLength, kInner});
  in.delta = at::randn({1, kLength, kInner}) - 3;
  in.A = -at::rand({kInner, 16}) * 16;
  in.B = at::randn({1, kLength, 80}).narrow(2, 48, 16);
  in.C = at::randn({1, kLength, 80}).narrow(2, 64, 16);
  in.D = at::randn({kInner});
  in.z = at::randn({1, kLength, 2 * kInner}).narrow(2, kInner, kInner);
  in.delta_bias = at::randn({kInner});
  return in;
}

SsdInputs ssd_inputs(int64_t chunk_size) {
  SsdInputs in;
  const at::Tensor conv = at::randn({1, kLength, kInner + 256});
  in.x = conv.narrow(2, 0, kInner).unflatten(2, {24, 64});
  in.dt = at::randn({1, kLength, 24}) - 3;
  in.A = -at::rand({24}) * 16;
  in.B = conv.narrow(2, kInner, 128).unflatten(2, {1, 128});
  in.C = conv.narrow(2, kInner + 128, 128).unflatten(2, {1, 128});
  in.D = at::randn({24});
  in.dt_bias = at::randn({24});
  in.chunk_size = chunk_size;
  return in;
}

void copy_of_one_activation(benchmark::State& state) {
  const at::Tensor from = at::randn({1, kLength, kInner});
  at::Tensor to = at::empty_like(from);
  for (auto _ : state) to.copy_(from);
}
BENCHMARK(copy_of_one_activation)->Unit(benchmark::kMillisecond);

void conv_forward(benchmark::State& state) {
  const auto in = conv_inputs();
  for (auto _ : state) benchmark::DoNotOptimize(causal_conv1d_forward(in));
}
BENCHMARK(conv_forward)->Unit(benchmark::kMillisecond);

void conv_forward_libtorch(benchmark::State& state) {
  const auto in = conv_inputs();
  for (auto _ : state) {
    const at::Tensor a = at::conv1d(in.x.transpose(1, 2), in.weight.unsqueeze(1), in.bias, 1, 3, 1, kInner);
    benchmark::DoNotOptimize(at::silu(a.narrow(2, 0, kLength)).transpose(1, 2).contiguous());
  }
}
BENCHMARK(conv_forward_libtorch)->Unit(benchmark::kMillisecond);

void conv_backward(benchmark::State& state) {
  const auto in = conv_inputs();
  const at::Tensor grad = at::randn(in.x.sizes());
  CausalConv1dGradients gradients{at::empty_like(grad), at::zeros_like(in.weight), at::zeros_like(in.bias)};
  for (auto _ : state) causal_conv1d_backward(in, grad, gradients);
}
BENCHMARK(conv_backward)->Unit(benchmark::kMillisecond);

void scan_forward(benchmark::State& state) {
  const auto in = scan_inputs();
  SelectiveScanSaved saved;
  for (auto _ : state) benchmark::DoNotOptimize(selective_scan_forward(in, &saved));
}
BENCHMARK(scan_forward)->Unit(benchmark::kMillisecond);

void scan_forward_libtorch(benchmark::State& state) {
  const auto in = scan_inputs();
  for (auto _ : state) {
    const at::Tensor delta = at::softplus(in.delta + in.delta_bias);
    at::Tensor s = at::zeros({kInner, 16});
    std::vector<at::Tensor> y;
    for (int64_t t = 0; t < kLength; ++t) {
      const at::Tensor d = delta[0][t].unsqueeze(1);
      s = (d * in.A).exp() * s + d * in.u[0][t].unsqueeze(1) * in.B[0][t];
      y.push_back(s.mv(in.C[0][t]));
    }
    benchmark::DoNotOptimize((at::stack(y) + in.D * in.u) * at::silu(in.z));
  }
}
BENCHMARK(scan_forward_libtorch)->Unit(benchmark::kMillisecond);

void scan_backward(benchmark::State& state) {
  const auto in = scan_inputs();
  SelectiveScanSaved saved;
  selective_scan_forward(in, &saved);
  const at::Tensor grad = at::randn(in.u.sizes());
  SelectiveScanGradients gradients{
      at::empty_like(in.u),        at::empty_like(in.delta),      at::zeros({1, kLength, 16}),
      at::zeros({1, kLength, 16}), at::empty_like(in.u),          at::zeros_like(in.A),
      at::zeros_like(in.D),        at::zeros_like(in.delta_bias), {}};
  for (auto _ : state) selective_scan_backward(in, saved, grad, {}, gradients);
}
BENCHMARK(scan_backward)->Unit(benchmark::kMillisecond);

void ssd_forward(benchmark::State& state) {
  const auto in = ssd_inputs(state.range(0));
  SsdSaved saved;
  for (auto _ : state) benchmark::DoNotOptimize(ops::ssd_forward(in, &saved));
}
BENCHMARK(ssd_forward)->Unit(benchmark::kMillisecond)->Arg(64)->Arg(128)->Arg(256);

/// The whole L×L form: (C Bᵀ ⊙ decay ⊙ Δ) x per head.
void ssd_forward_libtorch(benchmark::State& state) {
  const auto in = ssd_inputs(64);
  for (auto _ : state) {
    const at::Tensor delta = at::softplus(in.dt[0] + in.dt_bias).t();   // (H, L)
    const at::Tensor exponent = (delta * in.A.unsqueeze(1)).cumsum(1);  // (H, L)
    const at::Tensor decay = (exponent.unsqueeze(2) - exponent.unsqueeze(1)).tril().exp().tril();
    const at::Tensor products = in.C[0].squeeze(1).mm(in.B[0].squeeze(1).t());
    const at::Tensor mixing = decay * products * delta.unsqueeze(1);
    benchmark::DoNotOptimize(mixing.bmm(in.x[0].transpose(0, 1)).transpose(0, 1) +
                             in.D.unsqueeze(1) * in.x[0]);
  }
}
BENCHMARK(ssd_forward_libtorch)->Unit(benchmark::kMillisecond);

void ssd_backward(benchmark::State& state) {
  const auto in = ssd_inputs(state.range(0));
  SsdSaved saved;
  const at::Tensor grad = at::randn_like(ops::ssd_forward(in, &saved));
  const at::Tensor of_B = at::zeros({1, kLength, 1, 128});
  SsdGradients gradients{
      at::empty_like(grad), at::empty_like(in.dt),      of_B, of_B.clone(), at::zeros_like(in.A),
      at::zeros_like(in.D), at::zeros_like(in.dt_bias), {}};
  for (auto _ : state) ops::ssd_backward(in, saved, grad, {}, gradients);
}
BENCHMARK(ssd_backward)->Unit(benchmark::kMillisecond)->Arg(64)->Arg(128)->Arg(256);

void rms_norm_forward(benchmark::State& state) {
  const at::Tensor x = at::randn({1, kLength, kModel}), weight = at::randn({kModel});
  for (auto _ : state) benchmark::DoNotOptimize(ops::rms_norm_forward({x, x, weight}));
}
BENCHMARK(rms_norm_forward)->Unit(benchmark::kMillisecond);

void rms_norm_forward_libtorch(benchmark::State& state) {
  const at::Tensor x = at::randn({1, kLength, kModel}), weight = at::randn({kModel});
  for (auto _ : state) benchmark::DoNotOptimize(at::rms_norm(x + x, {kModel}, weight, 1e-5));
}
BENCHMARK(rms_norm_forward_libtorch)->Unit(benchmark::kMillisecond);

void rms_norm_backward(benchmark::State& state) {
  const at::Tensor x = at::randn({1, kLength, kModel}), weight = at::randn({kModel});
  const auto outputs = ops::rms_norm_forward({x, x, weight});
  at::Tensor grad_weight = at::zeros_like(weight);
  for (auto _ : state)
    benchmark::DoNotOptimize(
        ops::rms_norm_backward(ops::rms_norm_saved(outputs), weight, x, x, grad_weight).residual);
}
BENCHMARK(rms_norm_backward)->Unit(benchmark::kMillisecond);

void gated_rms_norm_forward(benchmark::State& state) {
  const GatedRmsNormInputs in{at::randn({1, kLength, kInner}), at::randn({1, kLength, kInner}),
                              at::randn({kInner})};
  for (auto _ : state) benchmark::DoNotOptimize(ops::gated_rms_norm_forward(in));
}
BENCHMARK(gated_rms_norm_forward)->Unit(benchmark::kMillisecond);

void gated_rms_norm_forward_libtorch(benchmark::State& state) {
  const GatedRmsNormInputs in{at::randn({1, kLength, kInner}), at::randn({1, kLength, kInner}),
                              at::randn({kInner})};
  for (auto _ : state)
    benchmark::DoNotOptimize(at::rms_norm(in.x * at::silu(in.z), {kInner}, in.weight, 1e-5));
}
BENCHMARK(gated_rms_norm_forward_libtorch)->Unit(benchmark::kMillisecond);

void gated_rms_norm_backward(benchmark::State& state) {
  const GatedRmsNormInputs in{at::randn({1, kLength, kInner}), at::randn({1, kLength, kInner}),
                              at::randn({kInner})};
  at::Tensor rstd;
  const at::Tensor grad = ops::gated_rms_norm_forward(in, &rstd);
  GatedRmsNormGradients gradients{at::empty_like(in.x), at::empty_like(in.z), at::zeros_like(in.weight)};
  for (auto _ : state) ops::gated_rms_norm_backward(in, rstd, grad, gradients);
}
BENCHMARK(gated_rms_norm_backward)->Unit(benchmark::kMillisecond);

LinearCrossEntropyInputs head_inputs() {
  return {at::randn({kLength, kModel}), at::randn({kVocabulary, kModel}) * 0.02,
          at::randint(kVocabulary, {kLength}, at::kLong)};
}

void head_forward_backward(benchmark::State& state) {
  const auto in = head_inputs();
  at::Tensor grad_hidden = at::empty_like(in.hidden), grad_weight = at::zeros_like(in.weight);
  for (auto _ : state) linear_cross_entropy_forward_backward(in, 1.0 / kLength, grad_hidden, grad_weight);
}
BENCHMARK(head_forward_backward)->Unit(benchmark::kMillisecond);

/// The three matrix products of the head alone, in the same blocks.
void head_products_alone(benchmark::State& state) {
  const auto in = head_inputs();
  constexpr int64_t kBlock = 256;
  at::Tensor logits = at::zeros({kBlock, kVocabulary}), grad_hidden = at::zeros({kBlock, kModel});
  at::Tensor grad_weight = at::zeros_like(in.weight);
  for (auto _ : state)
    for (int64_t first = 0; first < kLength; first += kBlock) {
      const at::Tensor hidden = in.hidden.narrow(0, first, kBlock);
      at::mm_out(logits, hidden, in.weight.t());
      at::mm_out(grad_hidden, logits, in.weight);
      at::addmm_out(grad_weight, grad_weight, logits.t(), hidden);
    }
}
BENCHMARK(head_products_alone)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace exactmamba::ops

int main(int argc, char** argv) {
  const c10::InferenceMode no_graph;
  benchmark::Initialize(&argc, argv);
  benchmark::AddCustomContext("threads", std::to_string(at::get_num_threads()));
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
