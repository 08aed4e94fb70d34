// BLEU and chrF of translated test sets as a report shows them, with bootstrap intervals and the differences
// between its rows.
#pragma once

#include <string>
#include <vector>

#include "core/json.h"

namespace exactmamba::eval {

struct TranslatedSet {
  std::string name;
  std::vector<std::string> translations, references;  // [segment]
};

/// {"bleu.NAME": …, "chrf.NAME": …}, 0 to 100. @throws InputError for an empty set
core::Json translation_measures(const TranslatedSet& set);

/// Half of BLEU's 95 % interval for each of a report's rows; and for the rows behind the first, where they
/// translated the same references, "bleu_difference.NAME" from it, with its interval, and "bleu_p.NAME", how
/// likely such a difference is chance (paired bootstrap resampling, eval/bootstrap.h). `translations`: [row]
void add_bleu_intervals(core::Json& rows, const std::vector<std::vector<TranslatedSet>>& translations);

/// A column for a key of these; nothing for other keys.
core::Json translation_column(const std::string& key);

}  // namespace exactmamba::eval
