#include "models/ops/causal_conv1d/causal_conv1d.h"

#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "tests/models/ops/golden_case.h"

namespace exactmamba::ops {
namespace {

models::ConvActivation activation_of(const std::string& name) {
  for (const char* activation : {"identity", "relu"})
    if (name.find(activation) != std::string::npos)
      return {models::activation_from_name(activation, "test"), 1.0};
  return {};
}

CausalConv1dInputs inputs_of(const GoldenCase& golden) {
  CausalConv1dInputs in;
  in.x = golden.tokens_first("x");
  in.weight = golden("weight");
  in.bias = golden("bias");
  in.activation = activation_of(golden.name());
  in.cu_seqlens = golden("cu_seqlens");
  in.initial_states = golden("initial_states");
  return in;
}

TEST(CausalConv1d, MatchesGoldenOutputsAndGradients) {
  for_each_case("causal_conv1d.safetensors", [](const GoldenCase& golden) {
    const auto in = inputs_of(golden);
    at::Tensor final_states;
    golden.expect_tokens_first("out", causal_conv1d_forward(in, &final_states),
                               golden.is_double() ? kDoubleTolerance : 2e-6);
    golden.expect("final_states", final_states, 0.0);
    CausalConv1dGradients gradients{at::empty_like(in.x), at::zeros_like(in.weight), {}};
    if (in.bias.defined()) gradients.bias = at::zeros_like(in.bias);
    causal_conv1d_backward(in, golden.tokens_first("grad_out.out"), gradients);
    const double tolerance = golden.is_double() ? kDoubleTolerance : 4e-6;
    golden.expect_tokens_first("grad.x", gradients.x, tolerance);
    golden.expect("grad.weight", gradients.weight, tolerance);
    golden.expect("grad.bias", gradients.bias, tolerance);
  });
}

TEST(CausalConv1d, StepByStepMatchesGolden) {
  for_each_case("causal_conv1d.safetensors", [](const GoldenCase& golden) {
    if (golden.has("cu_seqlens")) return;
    const auto in = inputs_of(golden);
    at::Tensor out = at::empty_like(in.x);
    at::Tensor state = in.initial_states.defined()
                           ? in.initial_states.clone()
                           : at::zeros({in.x.size(0), in.x.size(2), in.weight.size(1) - 1}, in.x.options());
    for (int64_t t = 0; t < in.x.size(1); ++t)
      out.select(1, t).copy_(causal_conv1d_step(in.x.select(1, t), state, in.weight, in.bias, in.activation));
    golden.expect_tokens_first("out", out, golden.is_double() ? kDoubleTolerance : 2e-6);
    golden.expect("final_states", state, 0.0);
  });
}

}  // namespace
}  // namespace exactmamba::ops
