// Word alignments that a translation model's interaction maps make, its target given (teacher-forced): rows
// `source <SEP> target <EOS>`, as it was trained on.
#pragma once

#include <compare>
#include <map>
#include <string>
#include <vector>

#include "data/parallel_text.h"
#include "data/tokenizer.h"
#include "decomp/decompose.h"
#include "decomp/options.h"
#include "eval/alignment/word_map.h"
#include "models/mamba_lm.h"

namespace exactmamba::eval {

struct AlignmentRow {
  std::vector<int64_t> ids;  // source, <SEP>, target, <EOS>
  WordedRow words;
};
/// Separator and end are left out of the sentences, where they stand in them. @throws as Tokenizer::encode
AlignmentRow alignment_row(const data::Tokenizer& tokenizer, int64_t separator, int64_t end,
                           const data::SentencePair& pair);

/// The layer of the mean over all layers' maps of a method, each as it is.
inline constexpr int64_t kLayerMean = -2;

/// Which map links come from. `layer` may be decomp::kWholeModel (rollouts: that of the last layer) or
/// kLayerMean.
struct MapKey {
  std::string method, approximation;
  int64_t layer;
  friend auto operator<=>(const MapKey&, const MapKey&) = default;
};
using MapLinks = std::map<MapKey, Links>;
/// What links come from, by word_map(): (target words, source words + special tokens).
using WordMaps = std::map<MapKey, at::Tensor>;

/// Whether there is a map of the whole model (a rollout holds the layers below, and the logit maps of all
/// layers have a sum), and whether a mean over layers.
bool has_whole_model(const std::string& method);
bool has_layer_mean(const std::string& method);

/// Of every map of `options`. Logits are those of the target's tokens. @throws as decomp::decompose_row
WordMaps model_word_maps(const models::MambaLM& model, const AlignmentRow& row, int64_t index,
                         const decomp::DecomposeOptions& options, AlignmentRows rows);
MapLinks model_links(const models::MambaLM& model, const AlignmentRow& row, int64_t index,
                     const decomp::DecomposeOptions& options, AlignmentRows rows);

}  // namespace exactmamba::eval
