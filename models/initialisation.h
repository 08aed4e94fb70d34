// Starting weights: standard (as state-spaces/mamba does it) and mimetic (Trockman et al. 2024; design/maths
// §1).
#pragma once

#include <vector>

#include "models/mamba_lm.h"

namespace exactmamba::models {

/// Counter-based: depends on seed, parameter name and element only.
void initialise(MambaLM& model, uint64_t seed);

/// The model with rows for new tokens appended to the embedding and, where it is not tied, the head: each the
/// mean of the old rows, so that a new token begins no likelier than the others are (Hewitt 2021; as
/// transformers resizes embeddings, but for its tiny noise). @throws InputError for fewer rows than it has
MambaLM with_vocab_rows(const MambaLM& model, int64_t vocab_rows);

struct MimeticOptions {
  bool state = true;            // A_log ← −8 A_log
  bool step_size = true;        // W_Δ ← 0, b_Δ ← 0.5413
  bool convolution = true;      // last tap 1, others 0, bias 0
  bool correlate_BC = true;     // B rows ← (B rows + C rows)/2
  bool faithful_fork = false;   // Mamba-2: slice with nheads where d_state is meant, as the fork does
  std::vector<int64_t> layers;  // empty: all
};
/// On top of an initialised model. @throws InputError for a layer that does not exist
void apply_mimetic(MambaLM& model, const MimeticOptions& options);

}  // namespace exactmamba::models
