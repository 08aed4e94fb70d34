// Translations of sentences by a model that was trained on rows `source <SEP> target <EOS>`.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "data/translation_tokenizer.h"
#include "models/mamba_lm.h"

namespace exactmamba::eval {

struct TranslateOptions {
  int64_t beam = 5;             // 1: greedy, on a GPU by its graph of fused steps
  int64_t n_best = 1;           // translations of each source, at most `beam`
  double length_penalty = 1;    // models::BeamOptions
  double max_ratio = 2.5;       // of a translation's tokens, its end counted, to its source's; rounded up
  int64_t batch_tokens = 2048;  // sources translated together times tokens of the longest; one at least
};

/// @throws InputError for values that cannot be
void check(const TranslateOptions& options);

struct Translation {
  std::string text;  // one line
  double score;      // models::Hypothesis
};

/// Told how many sources are done, after each batch of sources of similar length. It may throw, to stop.
using TranslateProgress = std::function<void(int64_t done)>;

/// The best translation of each source, in the same order; of an empty one "". A source's translation does
/// not depend on the others, but for the rounding of its products, whose sums may be taken in another order
/// in another batch. The model may be on a GPU. @throws InputError when tokenizer and model do not
/// belong together, NumericalError
std::vector<std::string> translate(const models::MambaLM& model, const data::TranslationTokenizer& tokenizer,
                                   const std::vector<std::string>& sources, const TranslateOptions& options,
                                   const TranslateProgress& progress = nullptr);

/// The n_best translations of each source with their scores, the best first; of an empty one "" alone.
/// By beam search also where `beam` is 1.
std::vector<std::vector<Translation>> n_best_translations(const models::MambaLM& model,
                                                          const data::TranslationTokenizer& tokenizer,
                                                          const std::vector<std::string>& sources,
                                                          const TranslateOptions& options,
                                                          const TranslateProgress& progress = nullptr);

}  // namespace exactmamba::eval
