#include <numeric>

#include <fmt/format.h>

#include "cli/commands.h"
#include "cli/line_files.h"
#include "cli/output.h"
#include "core/device.h"
#include "core/dtype.h"
#include "core/json.h"
#include "eval/comet/comet_model.h"

namespace exactmamba::cli {
namespace {

using core::Json;

std::vector<eval::CometSegment> read_segments(const ScoreCometArguments& arguments) {
  refuse_two_from_stdin({arguments.source, arguments.hypotheses, arguments.reference});
  LineFile sources = read_lines(arguments.source), hypotheses = read_lines(arguments.hypotheses),
           references = read_lines(arguments.reference);
  require_as_many(hypotheses, sources);
  require_as_many(hypotheses, references);
  std::vector<eval::CometSegment> segments;
  for (size_t i = 0; i < hypotheses.lines.size(); ++i)
    segments.push_back({.source = std::move(sources.lines[i]),
                        .hypothesis = std::move(hypotheses.lines[i]),
                        .reference = std::move(references.lines[i])});
  return segments;
}

void write_sentences(const std::vector<double>& scores, bool json, int digits) {
  std::string lines;
  for (const double score : scores)
    lines += (json ? core::json_text(Json{{"name", "COMET"}, {"score", score}})
                   : fmt::format("{:.{}f}", score, digits)) +
             "\n";
  write_result(lines);
}

}  // namespace

void score_comet(const ScoreCometArguments& arguments) {
  const std::vector<eval::CometSegment> segments = read_segments(arguments);
  const eval::CometModel model(arguments.model, core::device_from_name(arguments.device),
                               core::dtype_from_name(arguments.dtype, "--dtype"));
  const std::vector<double> scores = eval::comet_scores(model, segments, "COMET");
  if (arguments.sentence_level) return write_sentences(scores, arguments.common.json, arguments.digits);
  const double mean = std::accumulate(scores.begin(), scores.end(), 0.0) / static_cast<double>(scores.size());
  const std::string name = eval::comet_model_name(arguments.model);
  if (arguments.common.json)
    return write_json_result({{"name", "COMET"},
                              {"score", mean},
                              {"model", name},
                              {"dtype", arguments.dtype},
                              {"segments", scores.size()}});
  write_result(fmt::format("COMET|model:{}|dtype:{}|segments:{} = {:.{}f}\n", name, arguments.dtype,
                           scores.size(), mean, arguments.digits));
}

}  // namespace exactmamba::cli
