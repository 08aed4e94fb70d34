// Derivatives against central differences in double at odd sizes, equal bits for every number of threads, and
// strided inputs.
#include <cmath>
#include <functional>
#include <limits>
#include <utility>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/randn_like.h>
#include <ATen/ops/zeros_like.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "models/ops/causal_conv1d/causal_conv1d.h"
#include "models/ops/gated_rms_norm/gated_rms_norm.h"
#include "models/ops/linear_cross_entropy/linear_cross_entropy.h"
#include "models/ops/rms_norm/rms_norm.h"
#include "models/ops/selective_scan/selective_scan.h"
#include "models/ops/ssd/ssd.h"
#include "tests/support/tensors.h"

namespace exactmamba::ops {
namespace {

using Tensors = std::vector<at::Tensor>;

/// An operator as a function of its differentiable inputs: outputs, and gradients for given output gradients.
struct Operator {
  Tensors inputs;
  std::function<at::Tensor(const Tensors&)> forward;
  std::function<Tensors(const Tensors&, const at::Tensor&)> backward;
};

at::Tensor random(at::IntArrayRef shape, at::ScalarType dtype) {
  return at::randn(shape, at::kDouble).to(dtype);
}

Operator convolution(int64_t length, int64_t channels, at::ScalarType dtype) {
  const auto in = [](const Tensors& t) {
    CausalConv1dInputs inputs;
    inputs.x = t[0];
    inputs.weight = t[1];
    inputs.bias = t[2];
    inputs.activation = {models::ActivationKind::kIdentity, 0.4};
    return inputs;
  };
  return {{random({2, length, channels}, dtype), random({channels, 4}, dtype), random({channels}, dtype)},
          [=](const Tensors& t) { return causal_conv1d_forward(in(t)); },
          [=](const Tensors& t, const at::Tensor& grad) {
            CausalConv1dGradients g{at::empty_like(t[0]), at::zeros_like(t[1]), at::zeros_like(t[2])};
            causal_conv1d_backward(in(t), grad, g);
            return Tensors{g.x, g.weight, g.bias};
          }};
}

/// Only what a projection of five columns makes of the convolution is the output.
Operator projected_convolution(int64_t length, int64_t channels, at::ScalarType dtype) {
  const auto in = [](const Tensors& t) { return CausalConv1dInputs{t[0], t[1], {}, {}, {}, {}}; };
  return {{random({2, length, channels}, dtype), random({channels, 4}, dtype), random({5, channels}, dtype)},
          [=](const Tensors& t) {
            at::Tensor projected;
            causal_conv1d_forward_projected(in(t), t[2], projected);
            return projected;
          },
          [=](const Tensors& t, const at::Tensor& grad) {
            CausalConv1dGradients g{at::empty_like(t[0]), at::zeros_like(t[1]), {}};
            const CausalConv1dProjection projection{grad, t[2], causal_conv1d_forward(in(t)),
                                                    at::zeros_like(t[2])};
            causal_conv1d_backward(in(t), at::zeros_like(t[0]), g, &projection);
            return Tensors{g.x, g.weight, projection.grad_weight};
          }};
}

Operator scan(int64_t length, int64_t channels, at::ScalarType dtype) {
  const auto in = [](const Tensors& t) {
    SelectiveScanInputs inputs;
    inputs.u = t[0], inputs.delta = t[1], inputs.A = t[2], inputs.B = t[3], inputs.C = t[4];
    inputs.D = t[5], inputs.z = t[6], inputs.delta_bias = t[7];
    return inputs;
  };
  const int64_t states = 5;
  return {{random({2, length, channels}, dtype), random({2, length, channels}, dtype),
           -random({channels, states}, dtype).abs(), random({2, length, states}, dtype),
           random({2, length, states}, dtype), random({channels}, dtype),
           random({2, length, channels}, dtype), random({channels}, dtype)},
          [=](const Tensors& t) { return selective_scan_forward(in(t)); },
          [=](const Tensors& t, const at::Tensor& grad) {
            SelectiveScanSaved saved;
            selective_scan_forward(in(t), &saved);
            Tensors g;
            for (const auto& input : t) g.push_back(at::zeros_like(input));
            SelectiveScanGradients gradients{g[0], g[1], g[3], g[4], g[6], g[2], g[5], g[7], {}};
            selective_scan_backward(in(t), saved, grad, {}, gradients);
            return g;
          }};
}

template <int64_t kHeads, int64_t kGroups>
Operator duality(int64_t length, int64_t head_size, at::ScalarType dtype) {
  const auto in = [](const Tensors& t) {
    SsdInputs inputs;
    inputs.x = t[0], inputs.dt = t[1], inputs.A = t[2], inputs.B = t[3], inputs.C = t[4];
    inputs.D = t[5], inputs.dt_bias = t[6], inputs.initial_state = t[7];
    inputs.chunk_size = 16;
    return inputs;
  };
  const int64_t states = 3;
  return {{random({2, length, kHeads, head_size}, dtype), random({2, length, kHeads}, dtype),
           -random({kHeads}, dtype).abs(), random({2, length, kGroups, states}, dtype),
           random({2, length, kGroups, states}, dtype), random({kHeads}, dtype), random({kHeads}, dtype),
           random({2, kHeads, head_size, states}, dtype)},
          [=](const Tensors& t) { return ssd_forward(in(t)); },
          [=](const Tensors& t, const at::Tensor& grad) {
            SsdSaved saved;
            ssd_forward(in(t), &saved);
            Tensors g;
            for (const auto& input : t) g.push_back(at::zeros_like(input));
            SsdGradients gradients{g[0], g[1], g[3], g[4], g[2], g[5], g[6], g[7]};
            ssd_backward(in(t), saved, grad, {}, gradients);
            return g;
          }};
}

Operator norm(int64_t rows, int64_t size, at::ScalarType dtype) {
  return {{random({rows, size}, dtype), random({size}, dtype)},
          [](const Tensors& t) {
            return rms_norm_forward({t[0], {}, t[1]}).out;
          },
          [](const Tensors& t, const at::Tensor& grad) {
            const auto outputs = rms_norm_forward({t[0], {}, t[1]});
            at::Tensor grad_weight = at::zeros_like(t[1]);
            const at::Tensor grad_x =
                rms_norm_backward(rms_norm_saved(outputs), t[1], grad, {}, grad_weight).residual;
            return Tensors{grad_x, grad_weight};
          }};
}

Operator gated_norm(int64_t length, int64_t channels, at::ScalarType dtype) {
  return {
      {random({2, length, channels}, dtype), random({2, length, channels}, dtype), random({channels}, dtype)},
      [](const Tensors& t) {
        return gated_rms_norm_forward({t[0], t[1], t[2]});
      },
      [](const Tensors& t, const at::Tensor& grad) {
        at::Tensor rstd;
        gated_rms_norm_forward({t[0], t[1], t[2]}, &rstd);
        GatedRmsNormGradients g{at::empty_like(t[0]), at::empty_like(t[1]), at::zeros_like(t[2])};
        gated_rms_norm_backward({t[0], t[1], t[2]}, rstd, grad, g);
        return Tensors{g.x, g.z, g.weight};
      }};
}

/// The gated norm whose scale is left to the rms_norm behind it, as out.
Operator scaled_later(int64_t length, int64_t channels, at::ScalarType dtype) {
  const at::Tensor residual = random({2, length, channels}, dtype), last = random({channels}, dtype);
  const auto gated = [](const Tensors& t) { return GatedRmsNormInputs{t[0], t[1], t[2], 1, 1e-5, true}; };
  const auto outputs = [=](const Tensors& t, at::Tensor& rstd) {
    const at::Tensor x = gated_rms_norm_forward(gated(t), &rstd);
    return rms_norm_forward({x, residual, last, 1e-5, rstd.squeeze(-1)});
  };
  return {
      {random({2, length, channels}, dtype), random({2, length, channels}, dtype), random({channels}, dtype)},
      [=](const Tensors& t) {
        at::Tensor rstd;
        return outputs(t, rstd).out;
      },
      [=](const Tensors& t, const at::Tensor& grad) {
        at::Tensor rstd, ignored;
        const RmsNormOutputs behind = outputs(t, rstd);
        const RmsNormGradient grad_behind =
            rms_norm_backward(rms_norm_saved(behind), last, grad, {}, ignored);
        GatedRmsNormGradients g{at::empty_like(t[0]), at::empty_like(t[1]), at::zeros_like(t[2])};
        gated_rms_norm_backward(gated(t), rstd, grad_behind.x, g);
        return Tensors{g.x, g.z, g.weight};
      }};
}

/// One token among several is ignored.
Operator head(int64_t tokens, int64_t size, at::ScalarType dtype) {
  const int64_t vocabulary = size + 3;
  const at::Tensor targets = at::randint(vocabulary, {tokens}, at::kLong);
  if (tokens > 1) targets[tokens / 2] = -100;
  return {{random({tokens, size}, dtype), random({vocabulary, size}, dtype)},
          [=](const Tensors& t) {
            return linear_cross_entropy_forward({t[0], t[1], targets}).per_token_loss.sum();
          },
          [=](const Tensors& t, const at::Tensor& grad) {
            at::Tensor grad_hidden = at::empty_like(t[0]), grad_weight = at::zeros_like(t[1]);
            linear_cross_entropy_forward_backward({t[0], t[1], targets}, grad.item<double>(), grad_hidden,
                                                  grad_weight);
            return Tensors{grad_hidden, grad_weight};
          }};
}

struct Named {
  const char* name;
  Operator (*make)(int64_t, int64_t, at::ScalarType);
  bool takes_strided_rows;
};
/// ssd: with many heads to a group, B's and C's gradients are sums over several blocks of heads.
constexpr Named kOperators[] = {{"causal_conv1d", convolution, true},
                                {"causal_conv1d with a projection", projected_convolution, false},
                                {"selective_scan", scan, true},
                                {"ssd, 6 heads in 2 groups", duality<6, 2>, true},
                                {"ssd, 10 heads in 1 group", duality<10, 1>, true},
                                {"ssd, 18 heads in 2 groups", duality<18, 2>, true},
                                {"rms_norm", norm, false},
                                {"gated_rms_norm", gated_norm, true},
                                {"gated_rms_norm, scaled later", scaled_later, false}};
constexpr std::pair<int64_t, int64_t> kOddSizes[] = {{1, 1}, {2, 7}, {7, 129}, {129, 2}};

/// ⟨grad, forward⟩ with input `i` moved by `step` along `direction`.
double moved(const Operator& op, const at::Tensor& grad, size_t i, const at::Tensor& direction, double step) {
  Tensors inputs = op.inputs;
  inputs[i] = inputs[i] + step * direction;
  return (op.forward(inputs) * grad).sum().item<double>();
}

/// The directional derivative of ⟨grad, forward⟩ along a random direction of each input alone, by central
/// differences of fourth order: a norm's row that happens to lie near 0 bends too much for the second.
void check_directions(const Operator& op) {
  const at::Tensor grad = at::randn_like(op.forward(op.inputs));
  const Tensors gradients = op.backward(op.inputs, grad);
  const double step = 1e-5;
  for (size_t i = 0; i < op.inputs.size(); ++i) {
    const at::Tensor direction = at::randn_like(op.inputs[i]);
    const auto difference = [&](double by) {
      return moved(op, grad, i, direction, by) - moved(op, grad, i, direction, -by);
    };
    const double numeric = (8 * difference(step) - difference(2 * step)) / (12 * step);
    const double ours = (gradients[i] * direction).sum().item<double>();
    EXPECT_NEAR(ours, numeric, 1e-6 * (1 + std::abs(numeric))) << "input " << i;
  }
}

TEST(Operators, GradientsAgreeWithCentralDifferencesAtOddSizes) {
  for (const auto& [name, make, takes_strided_rows] : kOperators)
    for (const auto& [length, size] : kOddSizes) {
      SCOPED_TRACE(fmt::format("{} length {} size {}", name, length, size));
      check_directions(make(length, size, at::kDouble));
    }
}

Tensors outputs_and_gradients(const Operator& op, const at::Tensor& grad) {
  Tensors all = op.backward(op.inputs, grad);
  all.push_back(op.forward(op.inputs));
  return all;
}

TEST(Operators, ResultsDoNotDependOnTheNumberOfThreads) {
  const int before = at::get_num_threads();
  for (const auto& [name, make, takes_strided_rows] : kOperators) {
    SCOPED_TRACE(name);
    const Operator op = make(129, 151, at::kFloat);
    const at::Tensor grad = at::randn_like(op.forward(op.inputs));
    at::set_num_threads(1);
    const Tensors one = outputs_and_gradients(op, grad);
    for (const int threads : {2, 3}) {
      at::set_num_threads(threads);
      const Tensors more = outputs_and_gradients(op, grad);
      for (size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(at::equal(one[i], more[i])) << "tensor " << i;
    }
  }
  at::set_num_threads(before);
}

TEST(LinearCrossEntropy, GradientsAgreeWithCentralDifferencesAtOddSizes) {
  for (const auto& [tokens, size] : kOddSizes) {
    SCOPED_TRACE(fmt::format("{} tokens of size {}", tokens, size));
    check_directions(head(tokens, size, at::kDouble));
  }
}

Tensors losses_and_gradients(const LinearCrossEntropyInputs& in, int threads) {
  const int before = at::get_num_threads();
  at::set_num_threads(threads);
  at::Tensor grad_hidden = at::empty_like(in.hidden), grad_weight = at::zeros_like(in.weight);
  const auto outputs = linear_cross_entropy_forward_backward(in, 0.5, grad_hidden, grad_weight);
  at::set_num_threads(before);
  return {outputs.per_token_loss, grad_hidden, grad_weight};
}

/// A vocabulary so large that the products run on several threads, and blocks of tokens of unequal size.
LinearCrossEntropyInputs large_head(int64_t tokens, at::ScalarType dtype) {
  constexpr int64_t kSize = 96, kVocabulary = 20011;
  return {random({tokens, kSize}, dtype), random({kVocabulary, kSize}, dtype),
          at::randint(kVocabulary, {tokens}, at::kLong)};
}

TEST(LinearCrossEntropy, EqualNumbersOfThreadsGiveEqualBits) {
  for (const int64_t tokens : {1, 7, 300})
    for (const int threads : {1, 2, 3}) {
      SCOPED_TRACE(fmt::format("{} tokens, {} threads", tokens, threads));
      const auto in = large_head(tokens, at::kFloat);
      const Tensors first = losses_and_gradients(in, threads), second = losses_and_gradients(in, threads);
      for (size_t i = 0; i < first.size(); ++i) EXPECT_TRUE(at::equal(first[i], second[i])) << "tensor " << i;
    }
}

TEST(LinearCrossEntropy, TheNumberOfThreadsChangesRoundingOnly) {
  for (const int64_t tokens : {1, 7, 300}) {
    const auto in = large_head(tokens, at::kDouble);
    const Tensors one = losses_and_gradients(in, 1);
    for (const int threads : {2, 3}) {
      SCOPED_TRACE(fmt::format("{} tokens, {} threads", tokens, threads));
      const Tensors more = losses_and_gradients(in, threads);
      for (size_t i = 0; i < one.size(); ++i)
        EXPECT_LE(testing::relative_difference(more[i], one[i]), 1e-12) << "tensor " << i;
    }
  }
}

TEST(LinearCrossEntropy, PredictsOverTheTrueVocabularyOnly) {
  const LinearCrossEntropyInputs in{random({5, 8}, at::kDouble), random({11, 8}, at::kDouble),
                                    at::randint(9, {5}, at::kLong)};
  const auto outputs = linear_cross_entropy_forward(in, 9);
  const at::Tensor logits = in.hidden.matmul(in.weight.t()).narrow(1, 0, 9);
  EXPECT_TRUE(at::equal(outputs.predictions, logits.argmax(1)));
}

/// The same numbers inside a wider tensor of NaNs: tokens and rows of the batch at other strides.
at::Tensor sliced(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.flatten(2);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const at::Tensor wide = at::constant_pad_nd(flat, {3, 2, 1, 1}, nan);
  return wide.narrow(1, 1, flat.size(1)).narrow(2, 3, flat.size(2)).unflatten(2, tensor.sizes().slice(2));
}

/// Inputs (B, L, …) that may be strided: the other inputs of these operators have fewer dimensions or are
/// states.
void slice_rows(Operator& op, const at::Tensor& out) {
  for (auto& input : op.inputs)
    if (input.dim() >= 3 && input.size(1) == out.size(1)) input = sliced(input);
}

TEST(Operators, StridedRowsGiveTheSameResults) {
  for (const auto& [name, make, takes_strided_rows] : kOperators) {
    if (!takes_strided_rows) continue;
    SCOPED_TRACE(name);
    Operator op = make(37, 20, at::kDouble);
    const at::Tensor dense = op.forward(op.inputs), grad = at::randn_like(dense);
    const Tensors gradients = op.backward(op.inputs, grad);
    slice_rows(op, dense);
    EXPECT_LE(testing::relative_difference(op.forward(op.inputs), dense), 1e-14);
    const Tensors strided = op.backward(op.inputs, sliced(grad));
    for (size_t i = 0; i < strided.size(); ++i)
      EXPECT_LE(testing::relative_difference(strided[i], gradients[i]), 1e-13) << "gradient " << i;
  }
}

}  // namespace
}  // namespace exactmamba::ops
