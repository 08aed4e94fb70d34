#include "eval/translation_comet.h"

#include <utility>

#include <fmt/format.h>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "data/line_reader.h"
#include "eval/line_files.h"

namespace exactmamba::eval {
namespace {

std::filesystem::path file_of(const std::filesystem::path& folder, const std::string& name) {
  return folder / (name + ".comet.txt");
}

constexpr size_t kSegmentsAtOnce = 512;  // after so many, scores are kept

std::vector<std::string> lines_of(const std::vector<double>& scores) {
  std::vector<std::string> lines;
  for (const double score : scores) lines.push_back(fmt::format("{}", score));
  return lines;
}

double score_of(const std::string& line, const std::string& where) {
  return core::json_number(core::parse_json(line, where), where);
}

}  // namespace

std::vector<double> comet_scores(const CometModel& model, const TestSet& set,
                                 const std::vector<std::string>& translations,
                                 const std::filesystem::path& parts) {
  const size_t total = translations.size();
  core::require(total == set.pairs.size(), "{}: {} translations of {} sentences", set.name, total,
                set.pairs.size());
  const auto score_part = [&](size_t begin, size_t end) {
    std::vector<CometSegment> segments;
    for (size_t i = begin; i < end; ++i)
      segments.push_back({set.pairs[i].source, translations[i], set.pairs[i].target});
    const std::string of_part =
        total > kSegmentsAtOnce ? fmt::format(", {} to {} of {}", begin + 1, end, total) : "";
    return lines_of(comet_scores(model, segments, "COMET of " + set.name + of_part));
  };
  std::vector<double> scores;
  for (const std::string& line : lines_by_parts(parts, total, kSegmentsAtOnce, score_part))
    scores.push_back(score_of(line, parts.string()));
  return scores;
}

void save_comet(const std::filesystem::path& folder, const std::string& name,
                const std::vector<double>& scores) {
  core::write_file(file_of(folder, name), lines_text(lines_of(scores)));
}

void load_comet(const std::filesystem::path& folder, TranslatedSet& set) {
  const std::filesystem::path file = file_of(folder, set.name);
  std::vector<double> scores;
  data::LineReader reader(file);
  for (std::string line; reader.next(line);) scores.push_back(score_of(line, reader.where()));
  core::require(scores.size() == set.translations.size(), "{}: {} scores of {} translations", file.string(),
                scores.size(), set.translations.size());
  set.comet = std::move(scores);
}

}  // namespace exactmamba::eval
