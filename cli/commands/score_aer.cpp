#include <algorithm>

#include <fmt/format.h>

#include "cli/commands.h"
#include "cli/output.h"
#include "core/error.h"
#include "core/files.h"
#include "core/utf8.h"
#include "eval/alignment/aer.h"
#include "eval/alignment/files.h"
#include "eval/alignment/symmetrise.h"
#include "eval/alignment/words.h"

namespace exactmamba::cli {
namespace {

using core::Json;

/// Of one or of both directions.
struct Alignment {
  std::string name;
  std::vector<eval::Links> links;  // [pair]
};

eval::AlignmentNotation gold_notation(const ScoreAerArguments& arguments) {
  return {eval::alignment_format(arguments.gold_format, "--gold-format"), arguments.gold_base == "1" ? 1 : 0,
          arguments.gold_target_first, "--gold-base"};
}

eval::AlignmentNotation notation_of(const ScoreAerArguments& arguments, bool target_first) {
  return {eval::alignment_format(arguments.format, "--format"), arguments.base == "1" ? 1 : 0, target_first,
          "--base"};
}

eval::AlignmentNotation notation_of(const ScoreAerArguments& arguments) {
  return notation_of(arguments, arguments.target_first);
}

void check(const ScoreAerArguments& arguments) {
  const size_t files = arguments.alignments.size(), rules = arguments.symmetrise.size();
  core::require<core::UsageError>(arguments.reverse.empty() || files == 1,
                                  "--reverse is the other direction of one alignment, but {} are given",
                                  files);
  const bool one = arguments.reverse.empty() ? files == 1 : rules == 1;
  core::require<core::UsageError>(arguments.output.empty() || one,
                                  "--output writes one alignment: give one file{}",
                                  arguments.reverse.empty() ? "" : ", and one rule to --symmetrise");
}

Alignment symmetrised(const Alignment& forward, const Alignment& reverse, const std::string& rule) {
  const auto symmetrisation =
      core::enum_from_name<eval::Symmetrisation>(eval::kSymmetrisationNames, rule, "--symmetrise");
  Alignment result{rule, {}};
  for (size_t n = 0; n < forward.links.size(); ++n)
    result.links.push_back(eval::symmetrise(forward.links[n], reverse.links[n], symmetrisation));
  return result;
}

/// The files, then what becomes of two directions.
std::vector<Alignment> alignments_of(const ScoreAerArguments& arguments,
                                     const eval::AlignmentBounds& bounds) {
  std::vector<Alignment> result;
  for (const std::string& file : arguments.alignments)
    result.push_back({file, eval::read_links(file, notation_of(arguments), bounds)});
  if (arguments.reverse.empty()) return result;
  const auto notation = notation_of(arguments, arguments.reverse_target_first);
  result.push_back({arguments.reverse, eval::read_links(arguments.reverse, notation, bounds)});
  const Alignment forward = result[0], reverse = result[1];
  const std::vector<std::string> rules =
      arguments.symmetrise.empty() ? core::choices_of(eval::kSymmetrisationNames) : arguments.symmetrise;
  for (const std::string& rule : rules) result.push_back(symmetrised(forward, reverse, rule));
  return result;
}

struct NamedScore {
  std::string name;
  eval::AlignmentScore score;
};

std::string share(const std::optional<double>& value) { return value ? fmt::format("{:.4f}", *value) : "–"; }

/// A line each, names above each other.
std::string scores_text(const std::vector<NamedScore>& scores) {
  size_t width = 0;
  for (const NamedScore& each : scores) width = std::max(width, core::count_characters(each.name));
  std::string text;
  for (const auto& [name, score] : scores)
    text += fmt::format("{}{}  AER {}  precision {}  recall {}  links {}\n", name,
                        std::string(width - core::count_characters(name), ' '), share(score.aer()),
                        share(score.precision()), share(score.recall()), score.links);
  return text;
}

Json scores_json(const std::vector<NamedScore>& scores) {
  Json list = Json::array();
  for (const auto& [name, score] : scores) {
    Json json = {{"name", name}};
    json.update(eval::alignment_score_json(score));
    list.push_back(std::move(json));
  }
  return list;
}

}  // namespace

void score_aer(const ScoreAerArguments& arguments) {
  check(arguments);
  eval::AlignmentBounds bounds;
  if (!arguments.sentences.empty()) {
    bounds.lengths = eval::read_sentence_lengths(arguments.sentences);
    bounds.pairs = bounds.lengths.size();
    bounds.of = arguments.sentences;
  }
  const std::vector<eval::GoldLinks> gold = eval::read_gold(arguments.gold, gold_notation(arguments), bounds);
  bounds.pairs = gold.size();
  if (bounds.lengths.empty()) bounds.of = arguments.gold;
  const std::vector<Alignment> alignments = alignments_of(arguments, bounds);
  std::vector<NamedScore> scores, sanity;
  for (const Alignment& each : alignments)
    scores.push_back({each.name, eval::alignment_score(each.links, gold)});
  if (!bounds.lengths.empty())
    for (const eval::SanityRow& row : eval::sanity_rows(bounds.lengths, gold))
      sanity.push_back({fmt::format("{} ({})", row.name, row.help), row.score});
  if (!arguments.output.empty())
    core::write_file(arguments.output, eval::alignment_text(alignments.back().links, notation_of(arguments)));
  if (arguments.common.json)
    return write_json_result({{"alignments", scores_json(scores)}, {"sanity", scores_json(sanity)}});
  write_result(scores_text(scores) + (sanity.empty() ? "" : "\nWithout a model:\n" + scores_text(sanity)));
}

}  // namespace exactmamba::cli
