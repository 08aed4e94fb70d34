#include "eval/corpus_metric.h"

#include <algorithm>

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include "core/error.h"

namespace exactmamba::eval {
namespace {

constexpr const char* kVersion = "2.6.0";  // of sacreBLEU

}  // namespace

SegmentStatistics::SegmentStatistics(const CorpusMetric& metric, const std::vector<std::string>& hypotheses,
                                     const References& references)
    : width_(metric.width()), values_(hypotheses.size() * width_) {
  core::require(hypotheses.size() == references.size(),
                "{}: {} segments are translated, but {} have references", metric.name(), hypotheses.size(),
                references.size());
  core::require(!hypotheses.empty(), "{}: there are no segments", metric.name());
  for (size_t i = 0; i < references.size(); ++i)
    core::require(!references[i].empty(), "{}: segment {} has no reference", metric.name(), i + 1);
  constexpr int64_t kGrain = 16;
  at::parallel_for(0, static_cast<int64_t>(size()), kGrain, [&](int64_t begin, int64_t end) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
      const std::vector<double> numbers = metric.segment(hypotheses[i], references[i]);
      std::copy(numbers.begin(), numbers.end(), values_.data() + i * width_);
    }
  });
}

std::vector<double> SegmentStatistics::sums() const {
  std::vector<double> sums(width_, 0.0);
  for (size_t i = 0; i < values_.size(); ++i) sums[i % width_] += values_[i];
  return sums;
}

Signature signature_of(const CorpusMetric& metric, const References& references,
                       const Signature& resampling) {
  const size_t count = references.front().size();
  const bool same = std::all_of(references.begin(), references.end(),
                                [count](const auto& segment) { return segment.size() == count; });
  Signature signature = {{"nrefs", same ? std::to_string(count) : "var"}};
  signature.insert(signature.end(), resampling.begin(), resampling.end());
  const Signature settings = metric.settings();
  signature.insert(signature.end(), settings.begin(), settings.end());
  signature.emplace_back("version", kVersion);
  return signature;
}

std::string signature_text(const Signature& signature) {
  std::string text;
  for (const auto& [key, value] : signature) text += (text.empty() ? "" : "|") + key + ":" + value;
  return text;
}

std::string score_line(const CorpusMetric& metric, std::span<const double> sums, const std::string& signature,
                       int digits) {
  const std::string detail = metric.detail(sums);
  return fmt::format("{}|{} = {:.{}f}{}{}", metric.name(), signature, metric.score(sums), digits,
                     detail.empty() ? "" : " ", detail);
}

}  // namespace exactmamba::eval
