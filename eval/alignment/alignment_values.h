// What a report shows of a model's alignments.
#pragma once

#include <string>
#include <vector>

#include "core/json.h"
#include "eval/options.h"

namespace exactmamba::eval {

/// Of a model's alignments, as alignment_markdown() takes them, in the result of the evaluate stage.
inline constexpr const char* kAlignmentKey = "alignment";

/// Into a report's row: values "aer.MAP.best", "aer.MAP.best_layer", "aer.MAP.layer_mean",
/// "aer.MAP.whole_model", layer by layer the AER of every map beside that of no model, and the heat maps of
/// at most `map_pairs` pairs. `alignment`: as alignment_markdown() takes it, with "heat_maps" (heat_maps()).
void add_alignment(core::Json& row, const core::Json& alignment, int64_t map_pairs);

/// Keys of the values that the rows of a run may have.
std::vector<std::string> alignment_keys(const AlignmentOptions& options,
                                        const std::vector<std::string>& approximations);

/// A column for a key of these values; nothing for other keys.
core::Json alignment_column(const std::string& key);

/// "random 0.947, diagonal 0.799, …": the scale that an AER is read on.
std::string sanity_text(const core::Json& alignment);

}  // namespace exactmamba::eval
