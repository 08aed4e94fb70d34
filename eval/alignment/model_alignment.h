// The alignments of a translation model on an AlignmentTask: links by every map and layer, and what they are
// worth.
#pragma once

#include <filesystem>
#include <vector>

#include "core/json.h"
#include "eval/alignment/alignment_task.h"
#include "eval/alignment/model_links.h"

namespace exactmamba::eval {

enum class Direction { kForward, kReverse };  // kReverse: of a model from target to source

struct AlignmentModel {
  const models::MambaLM& model;
  const data::Tokenizer& tokenizer;
  int64_t separator, end;
};

/// [pair], source–target of the task in either direction. `parts`: where parts are kept, as of
/// lines_by_parts(). @throws Interrupted between pairs; as model_links
std::vector<MapLinks> align(const AlignmentModel& model, const AlignmentTask& task, Direction direction,
                            const decomp::DecomposeOptions& options, AlignmentRows rows,
                            const std::filesystem::path& parts = {});

/// What the maps of one model are worth:
///   {"METHOD · APPROXIMATION": {"layers": [score], "layer_mean": score, "whole_model": score, "best": score,
///                               "best_layer": number, "development_aer": [per layer]}}
/// Scores (alignment_score_json) are of the test part. Each is there if there is such a map; the last three
/// with a development part only, whose AER chooses the layer.
core::Json map_scores(const AlignmentTask& task, const std::vector<MapLinks>& links);

/// Both directions' alignments of one map, the best layer of each or the whole model, as one:
///   {"METHOD · APPROXIMATION, best layers": {RULE: score}}
core::Json symmetrised_scores(const AlignmentTask& task, const std::vector<MapLinks>& forward,
                              const std::vector<MapLinks>& reverse, const std::vector<std::string>& rules);

/// For the report's page (report.h): the word maps of the test part's first pairs, of each method's best
/// layer, the method of the lowest AER of the development part first; without one, of the mean over layers or
/// of the whole model. `links`: as align() made them by the same model and options.
core::Json heat_maps(const AlignmentModel& model, const AlignmentTask& task,
                     const std::vector<MapLinks>& links, const decomp::DecomposeOptions& options,
                     AlignmentRows rows);

/// {name: score}
core::Json sanity_scores(const AlignmentTask& task);

/// The pairs of `sentences`, in its order, as pharaoh files from 0: METHOD.APPROXIMATION.layer3.pharaoh, and
/// layer_mean, whole_model; those of dev_sentences in development/. Returns what load_links() needs to know,
/// for a stage's result: [{"method", "approximation", "layer"}]. @throws IoError
core::Json save_links(const std::filesystem::path& folder, const AlignmentTask& task,
                      const std::vector<MapLinks>& links);
/// @throws IoError, InputError when they do not fit the sentences
std::vector<MapLinks> load_links(const std::filesystem::path& folder, const AlignmentTask& task,
                                 const core::Json& maps);

/// The tables of a person: `alignment` is {"about": text, "sanity", "maps"} and, of a reverse model,
/// "reverse_maps" and "symmetrised", as above.
std::string alignment_markdown(const core::Json& alignment);

}  // namespace exactmamba::eval
