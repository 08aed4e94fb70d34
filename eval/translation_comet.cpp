#include "eval/translation_comet.h"

#include <utility>

#include <fmt/format.h>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "data/line_reader.h"

namespace exactmamba::eval {
namespace {

std::filesystem::path file_of(const std::filesystem::path& folder, const std::string& name) {
  return folder / (name + ".comet.txt");
}

}  // namespace

std::vector<double> comet_scores(const CometModel& model, const TestSet& set,
                                 const std::vector<std::string>& translations) {
  core::require(translations.size() == set.pairs.size(), "{}: {} translations of {} sentences", set.name,
                translations.size(), set.pairs.size());
  std::vector<CometSegment> segments;
  for (size_t i = 0; i < translations.size(); ++i)
    segments.push_back({set.pairs[i].source, translations[i], set.pairs[i].target});
  return comet_scores(model, segments, "COMET of " + set.name);
}

void save_comet(const std::filesystem::path& folder, const std::string& name,
                const std::vector<double>& scores) {
  std::string lines;
  for (const double score : scores) lines += fmt::format("{}\n", score);
  core::write_file(file_of(folder, name), lines);
}

void load_comet(const std::filesystem::path& folder, TranslatedSet& set) {
  const std::filesystem::path file = file_of(folder, set.name);
  std::vector<double> scores;
  data::LineReader reader(file);
  for (std::string line; reader.next(line);)
    scores.push_back(core::json_number(core::parse_json(line, reader.where()), reader.where()));
  core::require(scores.size() == set.translations.size(), "{}: {} scores of {} translations", file.string(),
                scores.size(), set.translations.size());
  set.comet = std::move(scores);
}

}  // namespace exactmamba::eval
