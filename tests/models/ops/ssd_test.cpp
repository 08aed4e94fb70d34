#include "models/ops/ssd/ssd.h"

#include <ATen/ops/empty_like.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>

#include "tests/models/ops/golden_case.h"

namespace exactmamba::ops {
namespace {

SsdInputs ssd_inputs_of(const GoldenCase& golden, int64_t chunk_size = 8) {
  SsdInputs in;
  in.x = golden("x");
  in.dt = golden("dt");
  in.A = golden("A");
  in.B = golden("B");
  in.C = golden("C");
  in.D = golden("D");
  in.dt_bias = golden("dt_bias");
  in.chunk_size = chunk_size;
  in.cu_seqlens = golden("cu_seqlens");
  in.initial_state = golden("initial_states");
  if (golden.name().find("limit") != std::string::npos) {
    in.dt_min = 0.05;
    in.dt_max = 0.4;
  }
  return in;
}

SsdGradients gradients_for(const SsdInputs& in) {
  return {zeros_if(in.x), zeros_if(in.dt), zeros_if(in.B),       zeros_if(in.C),
          zeros_if(in.A), zeros_if(in.D),  zeros_if(in.dt_bias), zeros_if(in.initial_state)};
}

void check_forward_and_backward(const GoldenCase& golden, int64_t chunk_size) {
  SCOPED_TRACE(chunk_size);
  const auto in = ssd_inputs_of(golden, chunk_size);
  const double tolerance = golden.is_double() ? kDoubleTolerance : 4e-6;
  SsdSaved saved;
  at::Tensor last_state;
  golden.expect("out", ssd_forward(in, &saved, &last_state), tolerance);
  golden.expect("final_states", last_state, tolerance);
  golden.expect("varlen_states", last_state, tolerance);

  auto gradients = gradients_for(in);
  ssd_backward(in, saved, golden("grad_out.out"), golden("grad_out.final_states"), gradients);
  const double loose = golden.is_double() ? kDoubleTolerance : 1e-5;
  golden.expect("grad.x", gradients.x, loose);
  golden.expect("grad.dt", gradients.dt, loose);
  golden.expect("grad.A", gradients.A, loose);
  golden.expect("grad.B", gradients.B, loose);
  golden.expect("grad.C", gradients.C, loose);
  golden.expect("grad.D", gradients.D, loose);
  golden.expect("grad.dt_bias", gradients.dt_bias, loose);
  golden.expect("grad.initial_states", gradients.initial_state, loose);

  auto again = gradients_for(in);
  ssd_backward(in, {}, golden("grad_out.out"), golden("grad_out.final_states"), again);
  EXPECT_TRUE(at::equal(again.C, gradients.C) && at::equal(again.A, gradients.A));
}

TEST(Ssd, MatchesGoldenOutputsAndGradientsForEveryChunkSize) {
  for_each_case("ssd.safetensors", [](const GoldenCase& golden) {
    for (const int64_t chunk_size : {1, 7, 8, 64, 256}) check_forward_and_backward(golden, chunk_size);
  });
}

TEST(Ssd, StepByStepMatchesGolden) {
  for_each_case("ssd.safetensors", [](const GoldenCase& golden) {
    if (golden.has("cu_seqlens")) return;
    const auto in = ssd_inputs_of(golden);
    at::Tensor out = at::empty_like(in.x);
    at::Tensor state =
        in.initial_state.defined()
            ? in.initial_state.clone()
            : at::zeros({in.x.size(0), in.x.size(2), in.x.size(3), in.B.size(3)}, in.x.options());
    for (int64_t t = 0; t < in.x.size(1); ++t) {
      SsdInputs token = in;
      for (at::Tensor* tensor : {&token.x, &token.dt, &token.B, &token.C}) *tensor = tensor->select(1, t);
      out.select(1, t).copy_(ssd_step(token, state));
    }
    const double tolerance = golden.is_double() ? kDoubleTolerance : 4e-6;
    golden.expect("out", out, tolerance);
    golden.expect("final_states", state, tolerance);
  });
}

}  // namespace
}  // namespace exactmamba::ops
