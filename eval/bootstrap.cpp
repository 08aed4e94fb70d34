#include "eval/bootstrap.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>
#include <utility>

#include <ATen/Parallel.h>

#include "core/error.h"

namespace exactmamba::eval {
namespace {

__extension__ using Wide = unsigned __int128;

/// numpy's hash of SeedSequence, whose constant changes with each use.
class SeedHash {
 public:
  SeedHash(uint32_t constant, uint32_t factor) : constant_(constant), factor_(factor) {}
  uint32_t operator()(uint32_t value) {
    value ^= constant_;
    constant_ *= factor_;
    value *= constant_;
    return value ^ (value >> 16);
  }

 private:
  uint32_t constant_, factor_;
};

std::array<uint32_t, 4> seed_pool(uint32_t seed) {
  SeedHash hash(0x43B0D7E5, 0x931E8875);
  std::array<uint32_t, 4> pool{};
  for (size_t i = 0; i < pool.size(); ++i) pool[i] = hash(i == 0 ? seed : 0);
  for (size_t from = 0; from < pool.size(); ++from) {
    for (size_t to = 0; to < pool.size(); ++to) {
      if (from == to) continue;
      const uint32_t mixed = pool[to] * 0xCA01F9DD - hash(pool[from]) * 0x4973F715;
      pool[to] = mixed ^ (mixed >> 16);
    }
  }
  return pool;
}

/// numpy's default_rng(seed): SeedSequence, PCG64 (XSL-RR 128/64, O'Neill 2014) in halves of 32 bits, the low
/// one first, and bounded integers by Lemire's method (2019).
class NumpyGenerator {
 public:
  explicit NumpyGenerator(uint32_t seed) {
    const std::array<uint32_t, 4> pool = seed_pool(seed);
    SeedHash hash(0x8B51F9DD, 0x58F38DED);
    std::array<uint64_t, 4> words{};
    for (size_t i = 0; i < 8; ++i)
      words[i / 2] |= static_cast<uint64_t>(hash(pool[i % pool.size()])) << (i % 2 * 32);
    increment_ = (((Wide{words[2]} << 64) | words[3]) << 1) | 1;
    step();
    state_ += (Wide{words[0]} << 64) | words[1];
    step();
  }

  uint32_t below(uint32_t bound) {
    uint64_t product = uint64_t{next()} * bound;
    if (static_cast<uint32_t>(product) < bound) {
      const uint32_t threshold = (0 - bound) % bound;
      while (static_cast<uint32_t>(product) < threshold) product = uint64_t{next()} * bound;
    }
    return static_cast<uint32_t>(product >> 32);
  }

 private:
  void step() {
    constexpr Wide kFactor = (Wide{0x2360ED051FC65DA4} << 64) | 0x4385DF649FCCF645;
    state_ = state_ * kFactor + increment_;
  }

  uint32_t next() {
    if (high_) return *std::exchange(high_, std::nullopt);
    step();
    const auto folded = static_cast<uint64_t>(state_ >> 64) ^ static_cast<uint64_t>(state_);
    const uint64_t turned = std::rotr(folded, static_cast<int>(state_ >> 122));
    high_ = static_cast<uint32_t>(turned >> 32);
    return static_cast<uint32_t>(turned);
  }

  Wide state_ = 0, increment_ = 0;
  std::optional<uint32_t> high_;
};

double mean_of(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

}  // namespace

std::vector<uint32_t> resample_indices(size_t segments, const BootstrapOptions& options) {
  core::require(segments > 0 && segments <= std::numeric_limits<uint32_t>::max(),
                "bootstrap: {} segments cannot be resampled", segments);
  core::require(options.resamples > 0, "bootstrap: {} resamples; take 1 or more", options.resamples);
  NumpyGenerator generator(options.seed);
  std::vector<uint32_t> indices(static_cast<size_t>(options.resamples) * segments);
  for (uint32_t& index : indices) index = generator.below(static_cast<uint32_t>(segments));
  return indices;
}

std::vector<double> resample_scores(const CorpusMetric& metric, const SegmentStatistics& statistics,
                                    const std::vector<uint32_t>& indices) {
  const size_t segments = statistics.size();
  std::vector<double> scores(indices.size() / segments);
  constexpr int64_t kGrain = 16;
  at::parallel_for(0, static_cast<int64_t>(scores.size()), kGrain, [&](int64_t begin, int64_t end) {
    for (auto k = static_cast<size_t>(begin); k < static_cast<size_t>(end); ++k) {
      std::vector<double> sums(statistics.width(), 0.0);
      for (size_t i = 0; i < segments; ++i) {
        const auto numbers = statistics[indices[k * segments + i]];
        for (size_t c = 0; c < sums.size(); ++c) sums[c] += numbers[c];
      }
      scores[k] = metric.score(sums);
    }
  });
  return scores;
}

BootstrapResult bootstrap_result(double score, std::vector<double> resamples) {
  std::sort(resamples.begin(), resamples.end());
  const size_t cut = resamples.size() / 40;  // 2.5 % at each end
  return {.score = score,
          .mean = mean_of(resamples),
          .half_width = (resamples[resamples.size() - cut - 1] - resamples[cut]) / 2};
}

double paired_p_value(const std::vector<double>& resamples, const std::vector<double>& others,
                      double difference) {
  std::vector<double> distances(resamples.size());
  for (size_t k = 0; k < distances.size(); ++k) distances[k] = std::abs(resamples[k] - others[k]);
  const double mean = mean_of(distances);
  const auto larger = std::count_if(distances.begin(), distances.end(),
                                    [&](double d) { return d - mean > std::abs(difference); });
  return static_cast<double>(larger + 1) / static_cast<double>(distances.size() + 1);
}

Signature resampling_signature(const BootstrapOptions& options) {
  return {{"bs", std::to_string(options.resamples)}, {"seed", std::to_string(options.seed)}};
}

}  // namespace exactmamba::eval
