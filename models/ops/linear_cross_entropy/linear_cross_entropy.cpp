#include "models/ops/linear_cross_entropy/linear_cross_entropy.h"

#include <algorithm>
#include <numeric>

#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/sum.h>

#include "core/device.h"
#include "core/dtype.h"
#include "models/ops/checks.h"
#include "models/ops/linear_cross_entropy/linear_cross_entropy_cuda.h"
#include "models/ops/linear_cross_entropy/linear_cross_entropy_params.h"
#include "models/ops/products.h"

namespace exactmamba::ops {
namespace {

using core::require;

/// Where the gradients go; null in a forward pass.
struct Gradients {
  double scale, label_smoothing;
  at::Tensor& hidden;
  at::Tensor& weight;
};

void check_targets(const at::Tensor& targets, int64_t tokens, int64_t vocabulary) {
  require(targets.defined(), "linear_cross_entropy: targets is missing");
  require(targets.scalar_type() == at::kLong, "linear_cross_entropy: targets has dtype {}, but must be int64",
          core::dtype_text(targets.scalar_type()));
  require(targets.dim() == 1 && targets.size(0) == tokens && targets.is_contiguous(),
          "linear_cross_entropy: targets has {} entries in {} dimensions, but hidden has {} tokens",
          targets.numel(), targets.dim(), tokens);
  if (!targets.is_cpu()) return;
  const int64_t* values = targets.const_data_ptr<int64_t>();
  for (int64_t t = 0; t < tokens; ++t)
    require(values[t] == kIgnoredTarget || (values[t] >= 0 && values[t] < vocabulary),
            "linear_cross_entropy: targets[{}] is {}, but must be in [0, {}) or {}", t, values[t], vocabulary,
            kIgnoredTarget);
}

void check_inputs(const LinearCrossEntropyInputs& in, int64_t true_vocab, const Gradients* gradients) {
  const OperatorChecks checks("linear_cross_entropy", "hidden", in.hidden);
  checks.dimensions("hidden", in.hidden, 2, "(T, d)");
  checks.dimensions("weight", in.weight, 2, "(V, d)");
  checks.dense("hidden", in.hidden, in.hidden.sizes());
  checks.dense("weight", in.weight, {in.weight.size(0), in.hidden.size(1)});
  require(in.weight.size(0) >= 1, "linear_cross_entropy: weight has no rows");
  require(true_vocab <= in.weight.size(0),
          "linear_cross_entropy: true_vocab is {}, but weight has only {} rows", true_vocab,
          in.weight.size(0));
  check_targets(in.targets, in.hidden.size(0), in.weight.size(0));
  if (!gradients) return;
  require(gradients->label_smoothing >= 0 && gradients->label_smoothing < 1,
          "linear_cross_entropy: label_smoothing is {}, but must be in [0, 1)", gradients->label_smoothing);
  checks.dense_or_undefined("grad_hidden", gradients->hidden, in.hidden.sizes());
  checks.wide_or_undefined("grad_weight", gradients->weight, in.weight.sizes());
}

/// Tokens whose logits exist at a time. CPU: 256 of a large vocabulary (51 MB in fp32), more of a small one.
/// A GPU needs larger products to be busy: about 10,000 of a large vocabulary (1 GB in bfloat16), in equal
/// blocks.
int64_t block_size(int64_t tokens, int64_t vocabulary, bool cuda) {
  if (!cuda) return std::min(tokens, std::clamp<int64_t>((int64_t(1) << 22) / vocabulary, 256, 4096));
  const int64_t most = std::max<int64_t>((int64_t(1) << 29) / vocabulary, 1024);
  const int64_t blocks = (tokens + most - 1) / most;
  return blocks == 0 ? 0 : (tokens + blocks - 1) / blocks;
}

template <class T>
void run_rows_cpu(const LossRows& rows) {
  CrossEntropyRowsParams<T> params;
  params.rows = rows.logits.size(0);
  params.vocabulary = rows.logits.size(1);
  params.logits = data_or_null<T>(rows.logits);
  params.targets = rows.targets.const_data_ptr<int64_t>();
  params.losses = data_or_null<T>(rows.losses);
  params.predictions = data_or_null<int64_t>(rows.predictions);
  params.true_vocab = rows.true_vocab;
  params.write_gradient = rows.scale.has_value();
  params.scale = rows.scale.value_or(0);
  params.label_smoothing = rows.label_smoothing;
  cross_entropy_rows_cpu(params);
}

void run_rows(const LossRows& rows) {
  if (rows.logits.is_cuda()) return cross_entropy_rows_cuda(rows);
  dispatch_floating(rows.logits.scalar_type(), [&]<class T>() { run_rows_cpu<T>(rows); });
}

/// The gradient products of one block; `logits` holds the gradient of the logits.
void add_products(const LinearCrossEntropyInputs& in, int64_t first, const at::Tensor& logits,
                  const Gradients& gradients) {
  const int64_t rows = logits.size(0);
  if (gradients.hidden.defined()) {
    at::Tensor to = gradients.hidden.narrow(0, first, rows);
    at::mm_out(to, logits, in.weight);
  }
  if (gradients.weight.defined()) add_product(gradients.weight, logits.t(), in.hidden.narrow(0, first, rows));
}

/// On the CPU one token after the other, whatever the number of threads.
at::Tensor sum_of(const at::Tensor& losses) {
  if (losses.is_cuda()) return losses.sum(at::kDouble);
  double sum = 0;
  dispatch_floating(losses.scalar_type(), [&]<class T>() {
    const T* loss = losses.const_data_ptr<T>();
    sum = std::accumulate(loss, loss + losses.size(0), 0.0);
  });
  return at::scalar_tensor(sum, losses.options().dtype(at::kDouble));
}

LinearCrossEntropyOutputs run(const LinearCrossEntropyInputs& in, int64_t true_vocab,
                              const Gradients* gradients) {
  check_inputs(in, true_vocab, gradients);
  const int64_t tokens = in.hidden.size(0), vocabulary = in.weight.size(0),
                block = block_size(tokens, vocabulary, in.hidden.is_cuda());
  const at::Tensor targets = core::copy_to(in.hidden.device(), in.targets);
  LinearCrossEntropyOutputs outputs;
  outputs.per_token_loss = at::empty({tokens}, in.hidden.options().dtype(wide_dtype_of(in.hidden)));
  if (true_vocab > 0) outputs.predictions = at::empty({tokens}, targets.options());
  const at::Tensor buffer = at::empty({block, vocabulary}, in.hidden.options());
  for (int64_t first = 0; first < tokens; first += block) {
    const int64_t count = std::min(block, tokens - first);
    const auto part = [&](const at::Tensor& t) { return t.defined() ? t.narrow(0, first, count) : t; };
    LossRows rows{buffer.narrow(0, 0, count), part(targets), part(outputs.per_token_loss),
                  part(outputs.predictions),  true_vocab,    {}};
    if (gradients) rows.scale = gradients->scale, rows.label_smoothing = gradients->label_smoothing;
    at::mm_out(rows.logits, part(in.hidden), in.weight.t());
    run_rows(rows);
    if (gradients) add_products(in, first, rows.logits, *gradients);
  }
  outputs.loss_sum = sum_of(outputs.per_token_loss);
  return outputs;
}

}  // namespace

LinearCrossEntropyOutputs linear_cross_entropy_forward(const LinearCrossEntropyInputs& in,
                                                       int64_t true_vocab) {
  return run(in, true_vocab, nullptr);
}

LinearCrossEntropyOutputs linear_cross_entropy_forward_backward(const LinearCrossEntropyInputs& in,
                                                                double scale, at::Tensor& grad_hidden,
                                                                at::Tensor& grad_weight,
                                                                double label_smoothing) {
  const Gradients gradients{scale, label_smoothing, grad_hidden, grad_weight};
  return run(in, 0, &gradients);
}

}  // namespace exactmamba::ops
