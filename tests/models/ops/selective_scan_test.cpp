#include "models/ops/selective_scan/selective_scan.h"

#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>

#include "tests/models/ops/golden_case.h"

namespace exactmamba::ops {
namespace {

SelectiveScanInputs scan_inputs_of(const GoldenCase& golden) {
  SelectiveScanInputs in;
  in.u = golden.tokens_first("u");
  in.delta = golden.tokens_first("delta");
  in.A = golden("A");
  in.B = golden.tokens_first("B");
  in.C = golden.tokens_first("C");
  in.D = golden("D");
  in.z = golden.tokens_first("z");
  in.delta_bias = golden("delta_bias");
  in.delta_softplus = golden.name().find("plain") == std::string::npos;
  in.cu_seqlens = golden("cu_seqlens");
  return in;
}

SelectiveScanGradients gradients_for(const SelectiveScanInputs& in) {
  return {zeros_if(in.u), zeros_if(in.delta),      zeros_if(in.B),
          zeros_if(in.C), zeros_if(in.z),          zeros_if(in.A),
          zeros_if(in.D), zeros_if(in.delta_bias), {}};
}

TEST(SelectiveScan, MatchesGoldenOutputsAndGradients) {
  for_each_case("selective_scan.safetensors", [](const GoldenCase& golden) {
    const auto in = scan_inputs_of(golden);
    const double tolerance = golden.is_double() ? kDoubleTolerance : 4e-6;
    SelectiveScanSaved saved;
    at::Tensor last_state;
    const at::Tensor out = selective_scan_forward(in, &saved, &last_state);
    golden.expect_tokens_first("out", out, tolerance);
    golden.expect("last_state", last_state, tolerance);
    golden.expect("last_states", last_state, tolerance);

    auto gradients = gradients_for(in);
    gradients.out = at::empty_like(out);
    selective_scan_backward(in, saved, golden.tokens_first("grad_out.out"), golden("grad_out.last_state"),
                            gradients);
    EXPECT_TRUE(gradients.out.equal(out)) << "backward gives another output";
    const double loose = golden.is_double() ? kDoubleTolerance : 1e-5;
    golden.expect_tokens_first("grad.u", gradients.u, loose);
    golden.expect_tokens_first("grad.delta", gradients.delta, loose);
    golden.expect_tokens_first("grad.B", gradients.B, loose);
    golden.expect_tokens_first("grad.C", gradients.C, loose);
    golden.expect_tokens_first("grad.z", gradients.z, loose);
    golden.expect("grad.A", gradients.A, loose);
    golden.expect("grad.D", gradients.D, loose);
    golden.expect("grad.delta_bias", gradients.delta_bias, loose);
  });
}

TEST(SelectiveScan, StepByStepMatchesGolden) {
  for_each_case("selective_scan.safetensors", [](const GoldenCase& golden) {
    if (golden.has("cu_seqlens")) return;
    const auto in = scan_inputs_of(golden);
    at::Tensor out = at::empty_like(in.u),
               state = at::zeros({in.u.size(0), in.u.size(2), in.A.size(1)}, in.u.options());
    for (int64_t t = 0; t < in.u.size(1); ++t) {
      SelectiveScanInputs token = in;
      for (at::Tensor* tensor : {&token.u, &token.delta, &token.B, &token.C, &token.z})
        if (tensor->defined()) *tensor = tensor->select(1, t);
      out.select(1, t).copy_(selective_scan_step(token, state));
    }
    const double tolerance = golden.is_double() ? kDoubleTolerance : 4e-6;
    golden.expect_tokens_first("out", out, tolerance);
    golden.expect("last_state", state, tolerance);
  });
}

}  // namespace
}  // namespace exactmamba::ops
