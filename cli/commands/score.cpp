#include <fmt/format.h>

#include "cli/commands.h"
#include "cli/line_files.h"
#include "cli/output.h"
#include "core/error.h"
#include "core/json.h"
#include "eval/bleu.h"
#include "eval/bootstrap.h"
#include "eval/chrf.h"
#include "eval/ter.h"

namespace exactmamba::cli {
namespace {

using core::Json;

eval::References read_references(const std::vector<std::string>& files, const LineFile& hypotheses) {
  eval::References references(hypotheses.lines.size());
  for (const std::string& file : files) {
    LineFile reference = read_lines(file);
    require_as_many(hypotheses, reference);
    for (size_t i = 0; i < references.size(); ++i) references[i].push_back(std::move(reference.lines[i]));
  }
  return references;
}

Json score_json(const eval::CorpusMetric& metric, std::span<const double> sums,
                const eval::Signature& signature, int digits) {
  Json json = {{"name", metric.name()},
               {"score", std::stod(fmt::format("{:.{}f}", metric.score(sums), digits))},
               {"signature", eval::signature_text(signature)}};
  const std::string detail = metric.detail(sums);
  if (!detail.empty()) json["verbose_score"] = detail;
  for (const auto& [key, value] : signature) json[key] = value;
  return json;
}

void write_scores(const ScoreArguments& arguments, const eval::CorpusMetric& metric,
                  const eval::SegmentStatistics& statistics, const eval::References& references) {
  const eval::Signature signature = eval::signature_of(metric, references);
  const auto text_of = [&](std::span<const double> sums) {
    return score_line(metric, sums, eval::signature_text(signature), arguments.digits) + "\n";
  };
  const auto json_of = [&](std::span<const double> sums) {
    return score_json(metric, sums, signature, arguments.digits);
  };
  const bool json = arguments.common.json;
  if (!arguments.sentence_level) {
    const std::vector<double> sums = statistics.sums();
    return json ? write_json_result(json_of(sums)) : write_result(text_of(sums));
  }
  std::string lines;
  for (size_t i = 0; i < statistics.size(); ++i)
    lines += json ? core::json_text(json_of(statistics[i])) + "\n" : text_of(statistics[i]);
  write_result(lines);
}

/// Both systems' scores and resamples of them; the second one's p-value.
struct Comparison {
  eval::BootstrapResult first, second;
  double p_value;
};

Comparison compare(const eval::CorpusMetric& metric, const eval::SegmentStatistics& first,
                   const eval::SegmentStatistics& second, const eval::BootstrapOptions& options) {
  const std::vector<uint32_t> indices = eval::resample_indices(first.size(), options);
  const std::vector<double> one = resample_scores(metric, first, indices),
                            other = resample_scores(metric, second, indices);
  Comparison result{.first = eval::bootstrap_result(metric.score(first.sums()), one),
                    .second = eval::bootstrap_result(metric.score(second.sums()), other),
                    .p_value = 0};
  result.p_value = eval::paired_p_value(other, one, result.second.score - result.first.score);
  return result;
}

void write_comparison(const ScoreArguments& arguments, const eval::CorpusMetric& metric,
                      const LineFile& hypotheses, const eval::SegmentStatistics& statistics,
                      const eval::References& references) {
  const LineFile others = read_lines(arguments.compare);
  require_as_many(hypotheses, others);
  const eval::BootstrapOptions options = {.resamples = arguments.resamples, .seed = arguments.seed};
  const Comparison result =
      compare(metric, statistics, eval::SegmentStatistics(metric, others.lines, references), options);
  const std::string signature =
      eval::signature_text(eval::signature_of(metric, references, eval::resampling_signature(options)));
  const auto text_of = [&](const LineFile& file, const eval::BootstrapResult& system) {
    return fmt::format("{} = {:.{}f} ({:.{}f} ± {:.{}f})", file.name, system.score, arguments.digits,
                       system.mean, arguments.digits, system.half_width, arguments.digits);
  };
  const auto json_of = [&](const LineFile& file, const eval::BootstrapResult& system, const Json& p_value) {
    return Json{
        {"system", file.name},
        {metric.name(),
         {{"score", system.score}, {"p_value", p_value}, {"mean", system.mean}, {"ci", system.half_width}}},
        {"signature", signature}};
  };
  if (arguments.common.json)
    return write_json_result(Json::array(
        {json_of(hypotheses, result.first, nullptr), json_of(others, result.second, result.p_value)}));
  write_result(fmt::format("{}|{}\n{}\n{}, p = {:.4f}\n", metric.name(), signature,
                           text_of(hypotheses, result.first), text_of(others, result.second),
                           result.p_value));
}

void score(const ScoreArguments& arguments, const eval::CorpusMetric& metric) {
  std::vector<std::string> files = arguments.references;
  files.insert(files.end(), {arguments.hypotheses, arguments.compare});
  refuse_two_from_stdin(files);
  const LineFile hypotheses = read_lines(arguments.hypotheses);
  const eval::References references = read_references(arguments.references, hypotheses);
  const eval::SegmentStatistics statistics(metric, hypotheses.lines, references);
  if (arguments.compare.empty()) return write_scores(arguments, metric, statistics, references);
  write_comparison(arguments, metric, hypotheses, statistics, references);
}

}  // namespace

void score_bleu(const ScoreBleuArguments& arguments) {
  eval::BleuOptions options;
  options.tokenizer =
      core::enum_from_name<eval::BleuTokenizer>(eval::kBleuTokenizerNames, arguments.tokenizer, "--tokenize");
  options.smoothing =
      core::enum_from_name<eval::Smoothing>(eval::kSmoothingNames, arguments.smoothing, "--smooth-method");
  options.smooth_value = arguments.smooth_value;
  options.lowercase = arguments.lowercase;
  options.effective_order = arguments.score.sentence_level;
  score(arguments.score, eval::Bleu(options));
}

void score_chrf(const ScoreChrfArguments& arguments) {
  score(arguments.score, eval::Chrf({.char_order = arguments.char_order,
                                     .word_order = arguments.word_order,
                                     .beta = arguments.beta,
                                     .lowercase = arguments.lowercase,
                                     .whitespace = arguments.whitespace,
                                     .eps_smoothing = arguments.eps_smoothing}));
}

void score_ter(const ScoreTerArguments& arguments) {
  score(arguments.score, eval::Ter({.normalized = arguments.normalized,
                                    .no_punct = arguments.no_punct,
                                    .asian_support = arguments.asian_support,
                                    .case_sensitive = arguments.case_sensitive}));
}

}  // namespace exactmamba::cli
