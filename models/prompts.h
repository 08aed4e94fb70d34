// Prompts of different lengths that go on together, a row of a State each.
#pragma once

#include <cstdint>
#include <vector>

#include "models/mamba_lm.h"

namespace exactmamba::models {

/// What every prompt makes of an empty state, which `state` receives. @return logits (prompts, V) of their
/// last tokens, rows of padding left out. @throws InputError for an empty prompt or an unknown token
at::Tensor prefill_prompts(const MambaLM& model, const std::vector<std::vector<int64_t>>& prompts,
                           State& state);

/// Logits (B, V) behind one more token of each row, rows of padding left out.
at::Tensor step_rows(const MambaLM& model, const at::Tensor& tokens, State& state);

/// Row i becomes a copy of what row `rows[i]` was.
void select_rows(State& state, const std::vector<int64_t>& rows);

/// @throws NumericalError unless `finite`
void require_finite_logits(bool finite, const MambaLM& model);

}  // namespace exactmamba::models
