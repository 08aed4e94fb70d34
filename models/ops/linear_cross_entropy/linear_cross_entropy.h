// Head and loss in one: logits = hidden · weightᵀ exist only for a block of tokens at a time.
// loss_t = logsumexp(logits_t) − logits_t[target_t]; targets of −100 are ignored (loss 0, no gradient). On a
// CPU all is float or all is double; on a GPU hidden, weight and logits are float, bfloat16 or half, losses
// and the weight's gradient float. The products are the BLAS's: on the CPU equal numbers of threads give
// equal bits, while another number of threads may round differently (the other operators' results do not
// depend on it).
#pragma once

#include <ATen/core/Tensor.h>

namespace exactmamba::ops {

struct LinearCrossEntropyInputs {
  at::Tensor hidden;   // (T, d)
  at::Tensor weight;   // (V, d)
  at::Tensor targets;  // (T) int64, on the CPU or hidden's device, where they are trusted
};
/// On hidden's device.
struct LinearCrossEntropyOutputs {
  at::Tensor per_token_loss;  // (T) in hidden's dtype; float on a GPU
  at::Tensor loss_sum;        // () double, summed in double
  at::Tensor predictions;     // (T) int64: argmax over the first `true_vocab` rows; only when asked for
};

/// `true_vocab` > 0 asks for predictions. @throws InputError when a target is outside [0, V) and not −100.
LinearCrossEntropyOutputs linear_cross_entropy_forward(const LinearCrossEntropyInputs& in,
                                                       int64_t true_vocab = 0);

/// The same, with the gradients of scale · loss_sum in the same pass, so that no logits are computed twice:
/// `grad_hidden` (T, d) is written, `grad_weight` (V, d) is ADDED to; either may be undefined.
/// `label_smoothing` ε in [0, 1), as torch.nn.CrossEntropyLoss has it (Szegedy et al. 2016): the target is
/// 1 − ε at its row and ε/V at every one of the V rows, pad rows of the vocabulary included, so that
///   loss_t = logsumexp(logits_t) − (1 − ε) logits_t[target_t] − ε mean(logits_t).
LinearCrossEntropyOutputs linear_cross_entropy_forward_backward(const LinearCrossEntropyInputs& in,
                                                                double scale, at::Tensor& grad_hidden,
                                                                at::Tensor& grad_weight,
                                                                double label_smoothing = 0);

}  // namespace exactmamba::ops
