#include "models/ops/linear_cross_entropy/linear_cross_entropy.h"

#include <ATen/ops/empty_like.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros_like.h>

#include "tests/models/ops/golden_case.h"
#include "tests/support/golden_model.h"

namespace exactmamba::ops {
namespace {

TEST(LinearCrossEntropy, MatchesGoldenOutputsAndGradients) {
  for_each_case("linear_cross_entropy.safetensors", [](const GoldenCase& golden) {
    const LinearCrossEntropyInputs in{golden("hidden"), golden("weight"), golden("targets")};
    const double tolerance = golden.is_double() ? kDoubleTolerance : 2e-6;
    const auto forward = linear_cross_entropy_forward(in);
    golden.expect("per_token_loss", forward.per_token_loss, tolerance);
    const auto targets = static_cast<double>(testing::target_count(in.targets));
    EXPECT_LE(std::abs(forward.loss_sum.item<double>() / targets / golden("loss").item<double>() - 1),
              tolerance);

    at::Tensor grad_hidden = at::empty_like(in.hidden), grad_weight = at::zeros_like(in.weight);
    const double scale = golden("grad_out.loss").item<double>() / targets;
    const auto both = linear_cross_entropy_forward_backward(in, scale, grad_hidden, grad_weight);
    EXPECT_TRUE(both.loss_sum.equal(forward.loss_sum));
    const double loose = golden.is_double() ? kDoubleTolerance : 2e-5;
    golden.expect("grad.hidden", grad_hidden, loose);
    golden.expect("grad.weight", grad_weight, loose);
  });
}

/// torch.nn.CrossEntropyLoss(label_smoothing=…), gradients by autograd.
TEST(LinearCrossEntropy, SmoothsLabelsAsTorchDoes) {
  for_each_case("label_smoothing.safetensors", [](const GoldenCase& golden) {
    const LinearCrossEntropyInputs in{golden("hidden"), golden("weight"), golden("targets")};
    const double tolerance = golden.is_double() ? kDoubleTolerance : 2e-5,
                 smoothing = golden("label_smoothing").to(at::kDouble).item<double>();
    at::Tensor grad_hidden = at::empty_like(in.hidden), grad_weight = at::zeros_like(in.weight);
    const auto both = linear_cross_entropy_forward_backward(in, golden("scale").item<double>(), grad_hidden,
                                                            grad_weight, smoothing);
    golden.expect("per_token_loss", both.per_token_loss, tolerance);
    golden.expect("grad.hidden", grad_hidden, tolerance);
    golden.expect("grad.weight", grad_weight, tolerance);
  });
}

}  // namespace
}  // namespace exactmamba::ops
