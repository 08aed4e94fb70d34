// Greedy generation on a GPU: one token of every sequence is a handful of fused kernels a layer
// (ops/token_step), and all of them one CUDA graph, in which the chosen tokens are embedded again without the
// host. States are those of State; what a product rounds to the compute dtype, and nothing else, is rounded.
#pragma once

#include <memory>

#include "models/mamba_lm.h"

namespace exactmamba::models {

class TokenGraph {
 public:
  /// The most tokens between two looks at them.
  static constexpr int64_t kMostSteps = 64;

  /// Whether the model is on a GPU and the kernels know its sizes and its dtype (of Mamba-2 not float16,
  /// whose gated value may overflow before it is normed); MambaLM::step knows all.
  static bool supports(const MambaLM& model);

  /// For `batch` sequences; the scan's states are kept in `state_dtype`, kFloat or kBFloat16. The graph is
  /// made beside the caller, who has prompts to launch meanwhile. The model must not change as long as it is
  /// there.
  TokenGraph(const MambaLM& model, int64_t batch, at::ScalarType state_dtype);
  ~TokenGraph();

  /// Continues from a copy of `state` with `tokens` (B). Comes before the following.
  void begin(const State& state, const at::Tensor& tokens);

  /// The next `steps` tokens (steps, B) on the CPU, steps ≤ kMostSteps; −1 where a logit was not finite.
  at::Tensor run(int64_t steps);
  State state() const;

 private:
  class Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace exactmamba::models
