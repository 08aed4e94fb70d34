#include "models/mixer.h"

#include <utility>

#include <ATen/ops/empty_like.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/zeros.h>

#include "models/linear.h"
#include "models/mamba1_mixer.h"
#include "models/mamba2_mixer.h"

namespace exactmamba::models {
namespace {

/// conv1d.weight is (C, 1, W) in files, the operator wants (C, W).
at::Tensor without_group_axis(const at::Tensor& conv_weight) { return conv_weight.squeeze(1); }

}  // namespace

int64_t MixerSaved::drop(Keep at_most) {
  const int64_t before = bytes();
  const auto beyond = [&](Keep level, std::initializer_list<at::Tensor*> tensors) {
    if (at_most > level)
      for (at::Tensor* tensor : tensors) tensor->reset();
  };
  const bool mamba2 = rstd.defined();
  beyond(mamba2 ? Keep::kAll : Keep::kMost, {mamba2 && inner.is_cuda() ? &scanned : &inner});
  beyond(Keep::kDelta, {&delta});
  beyond(Keep::kConvolved, {&convolved});
  if (mamba2) beyond(Keep::kConvolved, {&chunk_states});
  beyond(Keep::kCostly, {&chunk_states, &scanned, &inner, &dt_B_C});
  beyond(Keep::kProjected, {&projected});
  return before - bytes();
}

int64_t MixerSaved::bytes() const {
  int64_t sum = 0;
  for (const at::Tensor* tensor :
       {&input, &projected, &convolved, &chunk_states, &inner, &dt_B_C, &delta, &scanned, &rstd})
    if (tensor->defined()) sum += static_cast<int64_t>(tensor->nbytes());
  return place.defined() && projected.defined() ? sum - static_cast<int64_t>(projected.nbytes()) : sum;
}

Mixer::Mixer(const ModelConfig& config, ParameterScope parameters, int64_t conv_begin)
    : config_(config),
      parameters_(std::move(parameters)),
      weights_{parameters_.compute("in_proj.weight"),
               parameters_.compute("in_proj.bias"),
               without_group_axis(parameters_.value("conv1d.weight")),
               parameters_.value("conv1d.bias"),
               parameters_.compute("out_proj.weight"),
               parameters_.compute("out_proj.bias")},
      conv_begin_(conv_begin),
      activation_(config.activation) {}

Mixer::Projections Mixer::gradients() const {
  return {parameters_.gradient("in_proj.weight"),
          parameters_.gradient("in_proj.bias"),
          without_group_axis(parameters_.gradient("conv1d.weight")),
          parameters_.gradient("conv1d.bias"),
          parameters_.gradient("out_proj.weight"),
          parameters_.gradient("out_proj.bias")};
}

at::Tensor Mixer::conv_channels(const at::Tensor& projected) const {
  return projected.narrow(-1, conv_begin_, weights_.conv.size(0));
}

at::Tensor Mixer::convolve(MixerSaved& kept, LayerState* state) const {
  ops::CausalConv1dInputs in{
      conv_channels(kept.projected), weights_.conv, weights_.conv_bias, activation_, kept.cu_seqlens, {}};
  if (state == nullptr) {
    const at::Tensor projection = convolved_projection();
    return projection.defined() && !kept.dt_B_C.defined()
               ? ops::causal_conv1d_forward_projected(in, projection, kept.dt_B_C)
               : ops::causal_conv1d_forward(in);
  }
  in.initial_states = state->conv;
  at::Tensor final_states;
  at::Tensor convolved = ops::causal_conv1d_forward(in, &final_states);
  state->conv = final_states;
  return convolved;
}

MixerOutput Mixer::forward(const at::Tensor& input, const at::Tensor& cu_seqlens, MixerSaved* saved,
                           LayerState* state) const {
  MixerSaved kept;
  kept.keep = saved != nullptr ? saved->keep : Keep::kMixerInput;  // of which nothing is read again
  if (saved != nullptr) kept.place = saved->place;
  kept.cu_seqlens = cu_seqlens;
  kept.input = input;
  kept.projected = linear(input, weights_.in, weights_.in_bias, kept.place);
  kept.convolved = convolve(kept, state);
  kept.inner = scan(kept, saved != nullptr && kept.keep <= Keep::kCostly, state);
  MixerOutput output{linear(kept.inner, weights_.out, weights_.out_bias), {}};
  if (kept.scale_later) output.scale = kept.rstd.squeeze(-1);
  if (saved != nullptr) {
    kept.drop(kept.keep);
    *saved = std::move(kept);
  }
  return output;
}

void Mixer::convolve_backward(const ConvolvedGradient& grad_convolved, const MixerSaved& saved,
                              const Projections& gradients, const at::Tensor& grad_projected) const {
  const ops::CausalConv1dInputs in{
      conv_channels(saved.projected), weights_.conv, weights_.conv_bias, activation_, saved.cu_seqlens, {}};
  ops::CausalConv1dGradients wanted{conv_channels(grad_projected), gradients.conv, gradients.conv_bias};
  const auto& [grad, projection] = grad_convolved;
  ops::causal_conv1d_backward(in, grad, wanted, projection.grad.defined() ? &projection : nullptr);
}

void Mixer::use_inner(const at::Tensor& grad_output, MixerSaved& saved) {
  const Projections gradient = gradients();
  add_linear_gradients(grad_output, std::exchange(saved.inner, {}), gradient.out, gradient.out_bias);
}

at::Tensor Mixer::backward(const at::Tensor& grad_output, MixerSaved& saved) {
  if (!saved.projected.defined()) saved.projected = linear(saved.input, weights_.in, weights_.in_bias);
  if (!saved.convolved.defined()) saved.convolved = convolve(saved, nullptr);
  scan_again(saved);
  const Projections gradient = gradients();
  const at::Tensor grad_projected = at::empty_like(saved.projected);
  convolve_backward(scan_backward(grad_output, saved, grad_projected), saved, gradient, grad_projected);
  add_linear_gradients(grad_projected, saved.input, gradient.in, gradient.in_bias);
  return linear_input_gradient(grad_projected, weights_.in);
}

at::Tensor Mixer::step(const at::Tensor& input, LayerState& state) const {
  const at::Tensor projected = linear(input, weights_.in, weights_.in_bias);
  const at::Tensor convolved = ops::causal_conv1d_step(conv_channels(projected), state.conv, weights_.conv,
                                                       weights_.conv_bias, activation_);
  return linear(scan_step(projected, convolved, state.ssm), weights_.out, weights_.out_bias);
}

void Mixer::trace(const MixerSaved& saved, LayerTrace& trace) const {
  const int64_t D = config_.d_inner();
  trace.architecture = config_.architecture;
  trace.activation = activation_;
  trace.conv_weight = weights_.conv.narrow(0, 0, D);
  if (weights_.conv_bias.defined()) trace.conv_bias = weights_.conv_bias.narrow(0, 0, D);
  trace.out_weight = weights_.out;
  trace.out_bias = weights_.out_bias;
  const at::Tensor x = saved.projected.narrow(-1, conv_begin_, D);
  const ConvActivation none{ActivationKind::kIdentity, 1.0};
  trace.x = only_row(x);
  trace.a = only_row(
      ops::causal_conv1d_forward({x, trace.conv_weight, trace.conv_bias, none, saved.cu_seqlens, {}}));
  trace_scan(saved, trace);
}

at::Tensor Mixer::zero_conv_state(int64_t batch) const {
  return at::zeros({batch, weights_.conv.size(0), config_.d_conv - 1}, weights_.conv.options());
}

at::Tensor Mixer::A() const { return parameters_.value("A_log").exp().neg_(); }

std::unique_ptr<Mixer> make_mixer(const ModelConfig& config, const ParameterScope& parameters) {
  if (config.architecture == Architecture::kMamba1) return std::make_unique<Mamba1Mixer>(config, parameters);
  return std::make_unique<Mamba2Mixer>(config, parameters);
}

at::Tensor only_row(const at::Tensor& x) { return x.squeeze(0).contiguous(); }

}  // namespace exactmamba::models
