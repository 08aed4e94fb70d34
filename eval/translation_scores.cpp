#include "eval/translation_scores.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <optional>

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
#include "eval/line_files.h"

namespace exactmamba::eval {

using core::Json;

namespace {

constexpr const char *kTranslations = ".txt", *kReferences = ".reference.txt";  // endings of files
constexpr size_t kSourcesAtOnce = 256;                              // after so many, translations are kept
constexpr const char *kBleuKind = "bleu.", *kCometKind = "comet.";  // beginnings of keys

References references_of(const TranslatedSet& set) {
  References references;
  for (const std::string& line : set.references) references.push_back({line});
  return references;
}

double score_of(const CorpusMetric& metric, const TranslatedSet& set) {
  return metric.score(SegmentStatistics(metric, set.translations, references_of(set)).sums());
}

/// The published scale.
double comet_score(const std::vector<double>& segments) {
  core::require(!segments.empty(), "COMET: there are no segments");
  const double sum = std::accumulate(segments.begin(), segments.end(), 0.0);
  return 100 * sum / static_cast<double>(segments.size());
}

/// The corpus's score by a metric and that of its resamples, which are the same ones for every system.
struct Resampled {
  double score;
  std::vector<double> resamples;
};

Resampled resampled_bleu(const TranslatedSet& set) {
  const Bleu bleu;
  const SegmentStatistics statistics(bleu, set.translations, references_of(set));
  return {bleu.score(statistics.sums()),
          resample_scores(bleu, statistics, resample_indices(statistics.size(), {}))};
}

Resampled resampled_comet(const TranslatedSet& set) {
  const size_t segments = set.comet.size();
  const std::vector<uint32_t> indices = resample_indices(segments, {});
  Resampled result{comet_score(set.comet), {}};
  for (size_t begin = 0; begin < indices.size(); begin += segments) {
    std::vector<double> resample;
    for (size_t i = 0; i < segments; ++i) resample.push_back(set.comet[indices[begin + i]]);
    result.resamples.push_back(comet_score(resample));
  }
  return result;
}

/// By the metrics that `set` has, under the names of their keys.
std::map<std::string, Resampled> resampled(const TranslatedSet& set) {
  std::map<std::string, Resampled> result = {{"bleu", resampled_bleu(set)}};
  if (!set.comet.empty()) result.emplace("comet", resampled_comet(set));
  return result;
}

void add_difference(Json& row, const std::string& metric, const std::string& name, const Resampled& first,
                    const Resampled& here) {
  std::vector<double> differences(here.resamples.size());
  std::transform(here.resamples.begin(), here.resamples.end(), first.resamples.begin(), differences.begin(),
                 std::minus<>());
  const BootstrapResult result = bootstrap_result(here.score - first.score, differences);
  const std::string difference = metric + "_difference." + name;
  row["values"][difference] = result.score;
  row["half_widths"][difference] = result.half_width;
  row["values"][metric + "_p." + name] = paired_p_value(here.resamples, first.resamples, result.score);
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

std::string signature_of_one_reference(const CorpusMetric& metric) {
  return signature_text(signature_of(metric, {{""}}));
}

struct KnownColumn {
  std::string kind, title, better;
  int digits;
  std::string help;  // {}: the set
};

/// `name`: what its keys begin with; `metric`: what people call it.
std::vector<KnownColumn> resampled_columns(const std::string& name, const std::string& metric,
                                           const std::string& details) {
  return {
      {name, metric, "higher", 2, fmt::format("{} of {{}} ± half of its 95 % interval; {}", metric, details)},
      {name + "_difference", metric + " against the first row", "", 2,
       fmt::format("Difference to the {} of the table's first row ± half of its 95 % interval, by paired "
                   "bootstrap resampling (1,000 resamples, seed 12345)",
                   metric)},
      {name + "_p", name == "bleu" ? "p" : "p of " + metric, "", 4,
       fmt::format("How likely a difference to the first row's {} as large as this one would be if it "
                   "were due to chance, by the same resamples",
                   metric)}};
}

std::vector<KnownColumn> known_columns() {
  std::vector<KnownColumn> columns =
      resampled_columns("bleu", "BLEU", "sacreBLEU's " + signature_of_one_reference(Bleu()));
  for (KnownColumn& column :
       resampled_columns("comet", "COMET", "× 100, by the model of evaluate.comet_model; – without one"))
    columns.push_back(std::move(column));
  columns.push_back(
      {"chrf", "chrF", "higher", 2, "chrF of {}; sacreBLEU's " + signature_of_one_reference(Chrf())});
  return columns;
}

}  // namespace

void check_test_names(const std::vector<std::string>& files) {
  std::map<std::string, std::string> names = {
      {kValidationSet, "the name of data.valid's"}};  // with what has them
  for (const std::string& file : files) {
    const auto [known, is_new] = names.emplace(set_name(file), file);
    core::require(is_new, "{}: another test set is called {} as well, {}; rename its files", file,
                  known->first, known->second);
  }
}

std::vector<TestSet> read_test_sets(const std::vector<std::string>& files, data::OnInvalidUtf8 on_invalid) {
  check_test_names(files);
  std::vector<TestSet> sets;
  for (const std::string& file : files) {
    TestSet set{.name = set_name(file), .pairs = {}};
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
                         const TestSet& set, const TranslateOptions& options,
                         const std::filesystem::path& parts) {
  const size_t total = set.pairs.size();
  std::vector<size_t> order(total);  // the shortest first, so that those of a part are alike
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&set](size_t a, size_t b) {
    return set.pairs[a].source.size() < set.pairs[b].source.size();
  });
  std::optional<core::Progress> progress;
  const auto translate_part = [&](size_t begin, size_t end) {
    std::vector<std::string> sources;
    for (size_t k = begin; k < end; ++k) sources.push_back(set.pairs[order[k]].source);
    const auto before = static_cast<int64_t>(begin);
    if (!progress) progress.emplace("translate " + set.name, static_cast<int64_t>(total), "sentence", before);
    return translate(model, tokenizer, sources, options, [&progress, before](int64_t done) {
      progress->update(before + done, static_cast<double>(before + done));
      core::stop_if_asked("translating");
    });
  };
  const std::vector<std::string> lines = lines_by_parts(parts, total, kSourcesAtOnce, translate_part);
  TranslatedSet result{.name = set.name, .translations = {}, .references = {}};
  result.translations.resize(total);
  for (size_t k = 0; k < total; ++k) result.translations[order[k]] = lines[k];
  for (const data::SentencePair& pair : set.pairs) result.references.push_back(pair.target);
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
  return {{kBleuKind + set.name, score_of(Bleu(), set)}, {"chrf." + set.name, score_of(Chrf(), set)}};
}

Json comet_measures(const TranslatedSet& set) {
  const double score = comet_score(set.comet);
  core::require<core::NumericalError>(std::isfinite(score), "COMET of {}: a score is not finite", set.name);
  return {{kCometKind + set.name, score}};
}

void mark_missing_comet(Json& values) {
  std::vector<std::string> missing;
  for (const auto& [key, value] : values.items()) {
    if (!key.starts_with(kBleuKind)) continue;
    const std::string name = key.substr(std::string_view(kBleuKind).size());
    if (name != kValidationSet && !values.contains(kCometKind + name)) missing.push_back(kCometKind + name);
  }
  for (const std::string& key : missing) values[key] = nullptr;
}

void add_intervals(Json& rows, const std::vector<std::vector<TranslatedSet>>& translations) {
  struct First {
    const TranslatedSet* set;
    std::map<std::string, Resampled> scores;
  };
  std::vector<First> first;
  for (size_t k = 0; k < translations.size(); ++k) {
    for (const TranslatedSet& set : translations[k]) {
      const std::map<std::string, Resampled> scores = resampled(set);
      for (const auto& [metric, score] : scores)
        rows[k]["half_widths"][metric + "." + set.name] =
            bootstrap_result(score.score, score.resamples).half_width;
      if (k == 0) first.push_back({&set, scores});
      const auto same = std::find_if(first.begin(), first.end(), [&](const First& each) {
        return each.set->name == set.name && each.set->references == set.references;
      });
      if (k == 0 || same == first.end()) continue;
      for (const auto& [metric, score] : scores) {
        const auto other = same->scores.find(metric);
        if (other != same->scores.end() && (metric == "bleu" || same->set->comet_model == set.comet_model))
          add_difference(rows[k], metric, set.name, other->second, score);
      }
    }
  }
}

std::vector<std::string> translation_keys(const EvaluateOptions& options) {
  if (!options.bleu) return {};
  std::vector<std::string> keys;
  for (const KnownColumn& known : known_columns()) {
    for (const std::string& file : options.test)
      keys.push_back(fmt::format("{}.{}", known.kind, set_name(file)));
    if (!known.kind.starts_with("comet")) keys.push_back(fmt::format("{}.{}", known.kind, kValidationSet));
  }
  return keys;
}

Json translation_column(const std::string& key) {
  const size_t dot = key.find('.');
  for (const KnownColumn& known : known_columns()) {
    if (key.substr(0, dot) != known.kind || dot == std::string::npos) continue;
    const std::string set = key.substr(dot + 1);
    const char* set_text =
        set == kValidationSet ? "data.valid (its first evaluate.max_rows rows; 0: all)" : "the test set";
    return {{"key", key},
            {"title", fmt::format("{}, {}", known.title, set)},
            {"unit", ""},
            {"better", known.better},
            {"digits", known.digits},
            {"help", fmt::format(fmt::runtime(known.help), set_text) + "."}};
  }
  return {};
}

}  // namespace exactmamba::eval
