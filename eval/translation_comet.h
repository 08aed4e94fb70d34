// COMET of translated test sets, a score for each segment, which a report reads again.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "eval/comet/comet_model.h"
#include "eval/translation_scores.h"

namespace exactmamba::eval {

/// What recipes score in; unbabel-comet's scores are equal to 2e-6.
inline constexpr at::ScalarType kRecipeCometDtype = at::kFloat;

/// `parts`: where parts are kept, as of lines_by_parts(). @throws InputError when `translations` are not as
/// many as the pairs; as CometModel::scores
std::vector<double> comet_scores(const CometModel& model, const TestSet& set,
                                 const std::vector<std::string>& translations,
                                 const std::filesystem::path& parts = {});

/// `folder`/NAME.comet.txt, a segment a line. @throws IoError
void save_comet(const std::filesystem::path& folder, const std::string& name,
                const std::vector<double>& scores);
/// Into set.comet, of set.name. @throws IoError, InputError when they are not as many as the translations
void load_comet(const std::filesystem::path& folder, TranslatedSet& set);

}  // namespace exactmamba::eval
