// Beam search, as transformers does it (early_stopping = False): of all continuations of the live hypotheses
// of a prompt the 2·beam likeliest are looked at. Those among the first `beam` that end (by the stop token or
// their length) join the ended ones, of which the best `beam` stay; the first `beam` that go on live. A
// search is over when `beam` have ended and no live one would be better if it ended as it stands.
#pragma once

#include <cstdint>
#include <vector>

#include "models/mamba_lm.h"

namespace exactmamba::models {

struct BeamOptions {
  int64_t beam = 5;
  int64_t n_best = 1;         // hypotheses of each prompt, at most `beam`
  double length_penalty = 1;  // α: a score is Σ log p / |tokens|^α, the stop token counted
  int64_t stop_token = -1;    // −1: none
};

struct Hypothesis {
  std::vector<int64_t> tokens;  // the stop token is part of them, if it was reached
  double score;
};

/// @throws InputError unless 1 ≤ n_best ≤ beam and length_penalty is finite
void check(const BeamOptions& options);

/// The n_best hypotheses of each prompt, the best first; fewer when the vocabulary does not have so many.
/// Prompts of any lengths run together, prompt i up to `max_new_tokens[i]` ≥ 1 tokens. Probabilities are of
/// the true vocabulary. @throws InputError for an empty prompt or an unknown token, NumericalError when
/// logits are not finite
std::vector<std::vector<Hypothesis>> beam_search(const MambaLM& model,
                                                 const std::vector<std::vector<int64_t>>& prompts,
                                                 const std::vector<int64_t>& max_new_tokens,
                                                 const BeamOptions& options);

}  // namespace exactmamba::models
