// Generation by one-token steps with an explicit state: the most likely token of the true vocabulary again
// and again (greedy), or one that is drawn. On a GPU greedy steps are one CUDA graph (token_graph.h) and
// tokens arrive in groups. Beams: beam_search.h.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "models/mamba_lm.h"
#include "models/sampling.h"

namespace exactmamba::models {

struct GenerationOptions {
  int64_t max_new_tokens = 100;
  int64_t stop_token = -1;  // ends a sequence and is part of the result; -1: none
  /// On a GPU: half the memory for the scan's states, which is what large batches of Mamba-2 mostly read and
  /// write; they lose digits at every token.
  bool bfloat16_states = false;
  std::optional<Sampling> sampling = {};  // none: greedy
};

/// Told of every token as it is made: the prompt's index and the token.
using TokenCallback = std::function<void(size_t prompt, int64_t token)>;

/// What follows each prompt; prompts of any lengths run together. Pad rows of the vocabulary are never
/// emitted; of equal logits the lowest id wins. @throws InputError for an empty prompt or an unknown token
/// and as check(Sampling), NumericalError when a logit is not finite.
std::vector<std::vector<int64_t>> generate(const MambaLM& model,
                                           const std::vector<std::vector<int64_t>>& prompts,
                                           const GenerationOptions& options,
                                           const TokenCallback& on_token = nullptr);

}  // namespace exactmamba::models
