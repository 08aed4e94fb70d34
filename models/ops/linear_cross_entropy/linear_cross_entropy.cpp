#include "models/ops/linear_cross_entropy/linear_cross_entropy.h"

#include <algorithm>

#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>

#include "models/ops/checks.h"
#include "models/ops/linear_cross_entropy/linear_cross_entropy_params.h"

namespace exactmamba::ops {
namespace {

using core::require;

/// Where the gradients go; null in a forward pass.
struct Gradients {
  double scale;
  at::Tensor& hidden;
  at::Tensor& weight;
};

void check_targets(const at::Tensor& targets, int64_t tokens, int64_t vocabulary) {
  require(targets.defined(), "linear_cross_entropy: targets is missing");
  require(targets.scalar_type() == at::kLong,
          "linear_cross_entropy: targets has dtype {}, but must be Long (int64)",
          c10::toString(targets.scalar_type()));
  require(targets.dim() == 1 && targets.size(0) == tokens && targets.is_contiguous(),
          "linear_cross_entropy: targets has {} entries in {} dimensions, but hidden has {} tokens",
          targets.numel(), targets.dim(), tokens);
  const at::Tensor on_cpu = targets.cpu();
  const int64_t* values = on_cpu.const_data_ptr<int64_t>();
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
  checks.dense_or_undefined("grad_hidden", gradients->hidden, in.hidden.sizes());
  checks.dense_or_undefined("grad_weight", gradients->weight, in.weight.sizes());
}

/// Tokens whose logits exist at a time: 256 of a large vocabulary (51 MB in fp32), more of a small one.
int64_t block_size(int64_t vocabulary) {
  return std::clamp<int64_t>((int64_t(1) << 22) / vocabulary, 256, 4096);
}

template <class T>
void run_rows(const LinearCrossEntropyInputs& in, const LinearCrossEntropyOutputs& outputs, int64_t first,
              const at::Tensor& logits, int64_t true_vocab, const Gradients* gradients) {
  CrossEntropyRowsParams<T> params;
  params.rows = logits.size(0);
  params.vocabulary = logits.size(1);
  params.logits = data_or_null<T>(logits);
  params.targets = in.targets.const_data_ptr<int64_t>() + first;
  params.losses = data_or_null<T>(outputs.per_token_loss) + first;
  if (outputs.predictions.defined())
    params.predictions = outputs.predictions.mutable_data_ptr<int64_t>() + first;
  params.true_vocab = true_vocab;
  params.write_gradient = gradients != nullptr;
  if (gradients) params.scale = gradients->scale;
  logits.is_cuda() ? cross_entropy_rows_cuda(params) : cross_entropy_rows_cpu(params);
}

/// The gradient products of one block; `logits` holds the gradient of the logits.
void add_products(const LinearCrossEntropyInputs& in, int64_t first, const at::Tensor& logits,
                  const Gradients& gradients) {
  const int64_t rows = logits.size(0);
  if (gradients.hidden.defined()) {
    at::Tensor to = gradients.hidden.narrow(0, first, rows);
    at::mm_out(to, logits, in.weight);
  }
  if (gradients.weight.defined())
    at::addmm_out(gradients.weight, gradients.weight, logits.t(), in.hidden.narrow(0, first, rows));
}

void sum_losses(const at::Tensor& targets, LinearCrossEntropyOutputs& outputs) {
  const at::Tensor losses = outputs.per_token_loss.cpu(), on_cpu = targets.cpu();
  const int64_t* target = on_cpu.const_data_ptr<int64_t>();
  dispatch_floating(losses.scalar_type(), [&]<class T>() {
    const T* loss = losses.const_data_ptr<T>();
    for (int64_t t = 0; t < losses.size(0); ++t) {
      outputs.loss_sum += loss[t];
      outputs.target_count += target[t] != kIgnoredTarget;
    }
  });
}

LinearCrossEntropyOutputs run(const LinearCrossEntropyInputs& in, int64_t true_vocab,
                              const Gradients* gradients) {
  check_inputs(in, true_vocab, gradients);
  const int64_t tokens = in.hidden.size(0), vocabulary = in.weight.size(0),
                block = std::min(block_size(vocabulary), tokens);
  LinearCrossEntropyOutputs outputs;
  outputs.per_token_loss = at::empty({tokens}, in.hidden.options());
  if (true_vocab > 0) outputs.predictions = at::empty({tokens}, in.targets.options());
  const at::Tensor buffer = at::empty({block, vocabulary}, in.hidden.options());
  for (int64_t first = 0; first < tokens; first += block) {
    const int64_t rows = std::min(block, tokens - first);
    at::Tensor logits = buffer.narrow(0, 0, rows);
    at::mm_out(logits, in.hidden.narrow(0, first, rows), in.weight.t());
    dispatch_floating(in.hidden.scalar_type(),
                      [&]<class T>() { run_rows<T>(in, outputs, first, logits, true_vocab, gradients); });
    if (gradients) add_products(in, first, logits, *gradients);
  }
  sum_losses(in.targets, outputs);
  return outputs;
}

}  // namespace

LinearCrossEntropyOutputs linear_cross_entropy_forward(const LinearCrossEntropyInputs& in,
                                                       int64_t true_vocab) {
  return run(in, true_vocab, nullptr);
}

LinearCrossEntropyOutputs linear_cross_entropy_forward_backward(const LinearCrossEntropyInputs& in,
                                                                double scale, at::Tensor& grad_hidden,
                                                                at::Tensor& grad_weight) {
  const Gradients gradients{scale, grad_hidden, grad_weight};
  return run(in, 0, &gradients);
}

}  // namespace exactmamba::ops
