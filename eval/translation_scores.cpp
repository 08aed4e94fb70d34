#include "eval/translation_scores.h"

#include <algorithm>

#include <fmt/format.h>

#include "core/environment.h"
#include "core/error.h"
#include "core/files.h"
#include "core/hash.h"
#include "core/log.h"
#include "core/stop_signal.h"
#include "eval/bleu.h"
#include "eval/bootstrap.h"
#include "eval/chrf.h"

namespace exactmamba::eval {

using core::Json;

namespace {

constexpr const char *kTranslations = ".txt", *kReferences = ".reference.txt";  // endings of files
constexpr const char* kBleuKey = "bleu.";

References references_of(const TranslatedSet& set) {
  References references;
  for (const std::string& line : set.references) references.push_back({line});
  return references;
}

double score_of(const CorpusMetric& metric, const TranslatedSet& set) {
  return metric.score(SegmentStatistics(metric, set.translations, references_of(set)).sums());
}

/// The corpus's BLEU and that of its resamples, which are the same ones for every system.
struct ResampledBleu {
  double score;
  std::vector<double> resamples;
};

ResampledBleu resampled(const TranslatedSet& set) {
  const Bleu bleu;
  const SegmentStatistics statistics(bleu, set.translations, references_of(set));
  return {bleu.score(statistics.sums()),
          resample_scores(bleu, statistics, resample_indices(statistics.size(), {}))};
}

void add_difference(Json& row, const std::string& name, const ResampledBleu& first,
                    const ResampledBleu& here) {
  std::vector<double> differences(here.resamples.size());
  std::transform(here.resamples.begin(), here.resamples.end(), first.resamples.begin(), differences.begin(),
                 std::minus<>());
  const BootstrapResult result = bootstrap_result(here.score - first.score, differences);
  row["values"]["bleu_difference." + name] = result.score;
  row["half_widths"]["bleu_difference." + name] = result.half_width;
  row["values"]["bleu_p." + name] = paired_p_value(here.resamples, first.resamples, result.score);
}

/// The file's name up to the braces, or without its ending.
std::string set_name(const std::string& file) {
  std::string name = std::filesystem::path(file).filename().string();
  const size_t brace = name.find('{');
  if (brace == std::string::npos) return data::uncompressed_name(name).stem().string();
  name.resize(brace);
  if (name.ends_with(".tsv")) name.resize(name.size() - 4);
  while (name.ends_with('.')) name.pop_back();
  return name.empty() ? "test" : name;
}

std::string lines_text(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

std::vector<std::string> read_lines(const std::filesystem::path& file) {
  std::vector<std::string> lines;
  data::LineReader reader(file, data::OnInvalidUtf8::kFail, data::kLongestLine, data::ByteOrderMark::kKeep);
  for (std::string line; reader.next(line);) lines.push_back(line);
  return lines;
}

std::string signature_of_one_reference(const CorpusMetric& metric) {
  return signature_text(signature_of(metric, {{""}}));
}

struct KnownColumn {
  const char *kind, *title, *better;
  int digits;
  std::string help;
};

std::vector<KnownColumn> known_columns() {
  return {
      {"bleu", "BLEU", "higher", 2,
       "BLEU of the test set ± half of its 95 % interval; sacreBLEU's " + signature_of_one_reference(Bleu())},
      {"bleu_difference", "BLEU against the first row", "", 2,
       "Difference to the BLEU of the table's first row ± half of its 95 % interval, by paired bootstrap "
       "resampling (1,000 resamples, seed 12345)"},
      {"bleu_p", "p", "", 4,
       "How likely a difference to the first row's BLEU as large as this one would be if it were due to "
       "chance, by the same resamples"},
      {"chrf", "chrF", "higher", 2,
       "chrF of the test set; sacreBLEU's " + signature_of_one_reference(Chrf())}};
}

}  // namespace

std::vector<TestSet> read_test_sets(const std::vector<std::string>& files, data::OnInvalidUtf8 on_invalid) {
  std::vector<TestSet> sets;
  for (const std::string& file : files) {
    TestSet set{.name = set_name(file), .pairs = {}};
    const auto known =
        std::find_if(sets.begin(), sets.end(), [&](const TestSet& s) { return s.name == set.name; });
    core::require(known == sets.end() && set.name != kValidationSet,
                  "{}: another test set is called {} as well; rename its files", file, set.name);
    data::read_pairs(core::expand_environment(file).string(), on_invalid,
                     [&](const data::SentencePair& pair, const std::string&) { set.pairs.push_back(pair); });
    core::require(!set.pairs.empty(), "{}: there is no pair in it", file);
    sets.push_back(std::move(set));
  }
  return sets;
}

std::string fingerprint(const TestSet& set) {
  std::string text = set.name + "\n";
  for (const data::SentencePair& pair : set.pairs) text += pair.source + "\n" + pair.target + "\n";
  return core::hash_hex(text);
}

TranslatedSet translated(const models::MambaLM& model, const data::TranslationTokenizer& tokenizer,
                         const TestSet& set, const TranslateOptions& options) {
  TranslatedSet result{.name = set.name, .translations = {}, .references = {}};
  std::vector<std::string> sources;
  for (const data::SentencePair& pair : set.pairs) {
    sources.push_back(pair.source);
    result.references.push_back(pair.target);
  }
  core::Progress progress("translate " + set.name, static_cast<int64_t>(sources.size()), "sentence");
  result.translations = translate(model, tokenizer, sources, options, [&progress](int64_t done) {
    progress.update(done, static_cast<double>(done));
    core::stop_if_asked("translating");
  });
  return result;
}

void save_translations(const std::filesystem::path& folder, const TranslatedSet& set) {
  core::write_file(folder / (set.name + kTranslations), lines_text(set.translations));
  core::write_file(folder / (set.name + kReferences), lines_text(set.references));
}

TranslatedSet load_translations(const std::filesystem::path& folder, const std::string& name) {
  TranslatedSet set{name, read_lines(folder / (name + kTranslations)),
                    read_lines(folder / (name + kReferences))};
  core::require(set.translations.size() == set.references.size(),
                "{}: the translation of {} has {} lines, but its references have {}", folder.string(), name,
                set.translations.size(), set.references.size());
  return set;
}

Json translation_measures(const TranslatedSet& set) {
  return {{kBleuKey + set.name, score_of(Bleu(), set)}, {"chrf." + set.name, score_of(Chrf(), set)}};
}

void add_bleu_intervals(Json& rows, const std::vector<std::vector<TranslatedSet>>& translations) {
  struct First {
    const TranslatedSet* set;
    ResampledBleu bleu;
  };
  std::vector<First> first;
  for (size_t k = 0; k < translations.size(); ++k) {
    for (const TranslatedSet& set : translations[k]) {
      const ResampledBleu bleu = resampled(set);
      rows[k]["half_widths"]["bleu." + set.name] = bootstrap_result(bleu.score, bleu.resamples).half_width;
      if (k == 0) first.push_back({&set, bleu});
      const auto same = std::find_if(first.begin(), first.end(), [&](const First& each) {
        return each.set->name == set.name && each.set->references == set.references;
      });
      if (k > 0 && same != first.end()) add_difference(rows[k], set.name, same->bleu, bleu);
    }
  }
}

std::vector<std::string> translation_keys(const EvaluateOptions& options) {
  if (!options.bleu) return {};
  std::vector<std::string> sets, keys;
  for (const std::string& file : options.test) sets.push_back(set_name(file));
  sets.emplace_back(kValidationSet);
  for (const KnownColumn& known : known_columns())
    for (const std::string& set : sets) keys.push_back(fmt::format("{}.{}", known.kind, set));
  return keys;
}

Json translation_column(const std::string& key) {
  const size_t dot = key.find('.');
  for (const KnownColumn& known : known_columns()) {
    if (key.substr(0, dot) != known.kind || dot == std::string::npos) continue;
    return {{"key", key},
            {"title", fmt::format("{}, {}", known.title, key.substr(dot + 1))},
            {"unit", ""},
            {"better", known.better},
            {"digits", known.digits},
            {"help", known.help + "."}};
  }
  return {};
}

}  // namespace exactmamba::eval
