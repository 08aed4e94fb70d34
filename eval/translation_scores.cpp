#include "eval/translation_scores.h"

#include <algorithm>

#include <fmt/format.h>

#include "eval/bleu.h"
#include "eval/bootstrap.h"
#include "eval/chrf.h"

namespace exactmamba::eval {

using core::Json;

namespace {

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

Json translation_measures(const TranslatedSet& set) {
  return {{"bleu." + set.name, score_of(Bleu(), set)}, {"chrf." + set.name, score_of(Chrf(), set)}};
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
