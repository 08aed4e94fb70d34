// Paired bootstrap resampling (Koehn, 2004), as sacreBLEU 2.6.0 has it; with its seed the resamples are the
// same ones, but sums and scores are fp64 here and fp32 there (its means and intervals differ by about 1e-5).
#pragma once

#include <cstdint>
#include <vector>

#include "eval/corpus_metric.h"

namespace exactmamba::eval {

struct BootstrapOptions {
  int64_t resamples = 1000;
  uint32_t seed = 12345;
};

/// (resamples, segments) indices: numpy's default_rng(seed).choice(segments, (resamples, segments)).
/// @throws InputError when there are no segments, or no resamples
std::vector<uint32_t> resample_indices(size_t segments, const BootstrapOptions& options);

/// The score of every resample.
std::vector<double> resample_scores(const CorpusMetric& metric, const SegmentStatistics& statistics,
                                    const std::vector<uint32_t>& indices);

struct BootstrapResult {
  double score = 0;  // of the corpus as it is
  double mean = 0,
         half_width = 0;  // of the resamples: their mean, half of the interval that holds 95 % of them
};
BootstrapResult bootstrap_result(double score, std::vector<double> resamples);

/// How likely a difference of scores as large as the one there is would be if it were due to chance.
double paired_p_value(const std::vector<double>& resamples, const std::vector<double>& others,
                      double difference);

/// For signature_of().
Signature resampling_signature(const BootstrapOptions& options);

}  // namespace exactmamba::eval
