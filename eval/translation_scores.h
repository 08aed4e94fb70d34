// BLEU, chrF and COMET of translated test sets as a report shows them, with bootstrap intervals and the
// differences between its rows.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/json.h"
#include "data/parallel_text.h"
#include "eval/options.h"
#include "eval/translation.h"

namespace exactmamba::eval {

/// What data.valid is called among the test sets.
inline constexpr const char* kValidationSet = "validation";

struct TestSet {
  std::string name;  // fit for a file
  std::vector<data::SentencePair> pairs;
};

/// @throws InputError for two test sets of one name, and one that is called as data.valid is
void check_test_names(const std::vector<std::string>& files);

/// Named after their files: "a/tst2015.de-en.{de,en}.xml" is tst2015.de-en. @throws as data::read_pairs;
/// InputError for an empty set; as check_test_names
std::vector<TestSet> read_test_sets(const std::vector<std::string>& files, data::OnInvalidUtf8 on_invalid);
std::string fingerprint(const TestSet& set);

struct TranslatedSet {
  std::string name;
  std::vector<std::string> translations, references;  // [segment]
  std::vector<double> comet = {};                     // the same; empty: not scored by it
  std::string comet_model = "";                       // what tells it from other models
};

/// `parts`: where parts are kept, as of lines_by_parts(). @throws as eval::translate(); Interrupted when a
/// stop was asked for
TranslatedSet translated(const models::MambaLM& model, const data::TranslationTokenizer& tokenizer,
                         const TestSet& set, const TranslateOptions& options,
                         const std::filesystem::path& parts = {});

/// `folder`/NAME.txt and NAME.reference.txt, a segment a line, for exactmamba score and its like. @throws
/// IoError
void save_translations(const std::filesystem::path& folder, const TranslatedSet& set);
/// @throws IoError, InputError when the two files are not of the same length
TranslatedSet load_translations(const std::filesystem::path& folder, const std::string& name);

/// {"bleu.NAME": …, "chrf.NAME": …}, 0 to 100. @throws InputError for an empty set
core::Json translation_measures(const TranslatedSet& set);

/// {"comet.NAME": the mean × 100}. @throws InputError for an empty set;
/// NumericalError
core::Json comet_measures(const TranslatedSet& set);
/// "comet.NAME": null among a row's values for each test set that has a BLEU and no COMET: what no model
/// scored shows as "–".
void mark_missing_comet(core::Json& values);

/// Half of the 95 % interval of BLEU, and of COMET where there is one, for each of a report's rows; and for
/// the rows behind the first, where they translated the same references, "bleu_difference.NAME" from it, with
/// its interval, and "bleu_p.NAME", how likely such a difference is chance (paired bootstrap resampling,
/// eval/bootstrap.h), and "comet_…" likewise where the same model scored both. `translations`: [row]
void add_intervals(core::Json& rows, const std::vector<std::vector<TranslatedSet>>& translations);

/// Keys of the values that the rows of a run may have.
std::vector<std::string> translation_keys(const EvaluateOptions& options);

/// A column for a key of these; nothing for other keys.
core::Json translation_column(const std::string& key);

}  // namespace exactmamba::eval
