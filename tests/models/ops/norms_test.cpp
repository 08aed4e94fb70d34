#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros_like.h>

#include "models/ops/gated_rms_norm/gated_rms_norm.h"
#include "models/ops/rms_norm/rms_norm.h"
#include "tests/models/ops/golden_case.h"

namespace exactmamba::ops {
namespace {

double tolerance_of(const GoldenCase& golden) { return golden.is_double() ? kDoubleTolerance : 2e-6; }

TEST(RmsNorm, MatchesGoldenOutputsAndGradients) {
  for_each_case("rms_norm.safetensors", [](const GoldenCase& golden) {
    const at::Tensor weight = golden("weight");
    const auto outputs = rms_norm_forward({golden("x"), golden("residual"), weight});
    golden.expect("out", outputs.out, tolerance_of(golden));
    golden.expect("residual_out", outputs.residual_out, tolerance_of(golden));
    at::Tensor grad_weight = at::zeros_like(weight);
    const at::Tensor grad_x = rms_norm_backward(rms_norm_saved(outputs), weight, golden("grad_out.out"),
                                                golden("grad_out.residual_out"), grad_weight)
                                  .residual;
    golden.expect("grad.x", grad_x, tolerance_of(golden));
    golden.expect("grad.residual", grad_x, tolerance_of(golden));
    golden.expect("grad.weight", grad_weight, tolerance_of(golden));
  });
}

/// (T, D) → (1, T, D); (B, L, D) as it is.
at::Tensor batched(const at::Tensor& tensor) { return tensor.dim() == 2 ? tensor.unsqueeze(0) : tensor; }

TEST(GatedRmsNorm, MatchesGoldenOutputsAndGradients) {
  for_each_case("gated_rms_norm.safetensors", [](const GoldenCase& golden) {
    GatedRmsNormInputs in;
    in.x = batched(golden("x"));
    in.z = batched(golden("z"));
    in.weight = golden("weight");
    in.groups = std::stoll(golden.name().substr(golden.name().rfind('g') + 1));
    at::Tensor rstd;
    const at::Tensor out = gated_rms_norm_forward(in, &rstd);
    golden.expect("out", out.view_as(golden("out")), tolerance_of(golden));
    GatedRmsNormGradients gradients{at::empty_like(in.x), at::empty_like(in.z), at::zeros_like(in.weight)};
    gated_rms_norm_backward(in, rstd, batched(golden("grad_out.out")), gradients);
    golden.expect("grad.x", gradients.x.view_as(golden("x")), tolerance_of(golden));
    golden.expect("grad.z", gradients.z.view_as(golden("x")), tolerance_of(golden));
    golden.expect("grad.weight", gradients.weight, tolerance_of(golden));

    const at::Tensor grad_out = batched(golden("grad_out.out")).clone();
    GatedRmsNormGradients in_place{in.x.clone(), {}, {}, grad_out};
    gated_rms_norm_backward({in_place.x, in.z, in.weight, in.groups}, rstd, grad_out, in_place);
    EXPECT_TRUE(in_place.x.equal(gradients.x));
    EXPECT_TRUE(in_place.out.equal(out));
  });
}

/// A scale that is left for later gives, behind a linear map, what the norm that applies it gives.
TEST(GatedRmsNorm, ItsScaleCommutesWithALinearMap) {
  at::manual_seed(5);
  const int64_t length = 7, channels = 13, width = 5;
  const auto random = [](at::IntArrayRef shape) { return at::randn(shape, at::kDouble); };
  const GatedRmsNormInputs norm{random({2, length, channels}), random({2, length, channels}),
                                random({channels})};
  GatedRmsNormInputs later = norm;
  later.scale_later = true;
  const at::Tensor map = random({width, channels}), residual = random({2, length, width}),
                   weight = random({width}), grad_out = random({2, length, width});
  const auto run = [&](const GatedRmsNormInputs& in) {
    at::Tensor rstd, grad_weight = at::zeros_like(weight);
    const at::Tensor x = gated_rms_norm_forward(in, &rstd).matmul(map.t());
    const RmsNormOutputs outputs =
        rms_norm_forward({x, residual, weight, 1e-5, in.scale_later ? rstd.squeeze(-1) : at::Tensor()});
    const RmsNormGradient grad =
        rms_norm_backward(rms_norm_saved(outputs), weight, grad_out, grad_out, grad_weight);
    GatedRmsNormGradients g{at::empty_like(in.x), at::empty_like(in.z), at::zeros_like(in.weight),
                            at::empty_like(in.x)};
    gated_rms_norm_backward(in, rstd, grad.x.matmul(map), g);
    const at::Tensor made_again = in.scale_later ? g.out * rstd : g.out;
    return std::vector<at::Tensor>{
        outputs.out, outputs.residual_out, grad.residual, grad_weight, g.x, g.z, g.weight, made_again};
  };
  const auto expected = run(norm), found = run(later);
  for (size_t i = 0; i < expected.size(); ++i) {
    const double distance = (expected[i] - found[i]).abs().max().item<double>();
    // Sums of 13 terms and some 40 more roundings of 2^-53 each way.
    EXPECT_LE(distance, 2e-14 * expected[i].abs().max().item<double>()) << "result " << i;
  }
}

}  // namespace
}  // namespace exactmamba::ops
