#include "models/sampling.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include "core/error.h"
#include "core/random.h"

namespace exactmamba::models {
namespace {

constexpr const char* kStream = "generation.sample";

/// Ids in the order in which sample_token() goes through them, cut to top_k.
std::vector<int64_t> candidates(std::span<const double> logits, const Sampling& sampling) {
  std::vector<int64_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), int64_t{0});
  const auto size = static_cast<int64_t>(ids.size());
  const int64_t kept = sampling.top_k > 0 ? std::min(sampling.top_k, size) : size;
  if (kept == size && sampling.top_p == 1) return ids;
  std::partial_sort(ids.begin(), ids.begin() + kept, ids.end(), [&](int64_t a, int64_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  });
  ids.resize(kept);
  return ids;
}

}  // namespace

void check(const Sampling& sampling) {
  core::require(sampling.temperature > 0 && std::isfinite(sampling.temperature),
                "generation: the temperature is {}, but must be above 0; the likeliest tokens come without "
                "sampling",
                sampling.temperature);
  core::require(sampling.top_k >= 0, "generation: top_k is {}, but must not be negative", sampling.top_k);
  core::require(sampling.top_p > 0 && sampling.top_p <= 1,
                "generation: top_p is {}, but must be above 0 and at most 1", sampling.top_p);
}

int64_t sample_token(std::span<const double> logits, const Sampling& sampling, double u) {
  const std::vector<int64_t> ids = candidates(logits, sampling);
  const double highest = *std::max_element(logits.begin(), logits.end());
  std::vector<double> sums;  // of the weights, [candidate]
  sums.reserve(ids.size());
  for (const int64_t id : ids)
    sums.push_back((sums.empty() ? 0 : sums.back()) +
                   std::exp((logits[id] - highest) / sampling.temperature));
  const auto nucleus = std::lower_bound(sums.begin(), sums.end(), sampling.top_p * sums.back());
  const auto drawn = std::upper_bound(sums.begin(), nucleus, u * *nucleus);
  return ids[drawn - sums.begin()];
}

Sampler::Sampler(const Sampling& sampling, size_t rows) : sampling_(sampling), samples_(rows) {
  check(sampling_);
  std::iota(samples_.begin(), samples_.end(), sampling_.first_sample);
}

at::Tensor Sampler::draw(const at::Tensor& logits) {
  const at::Tensor values = logits.to(at::kCPU, at::kDouble).contiguous();
  const int64_t rows = values.size(0), vocab = values.size(1);
  at::Tensor tokens = at::empty({rows}, at::kLong);
  int64_t* token = tokens.mutable_data_ptr<int64_t>();
  const double* value = values.const_data_ptr<double>();
  at::parallel_for(0, rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const std::span<const double> own(value + row * vocab, static_cast<size_t>(vocab));
      const bool finite = std::all_of(own.begin(), own.end(), [](double x) { return std::isfinite(x); });
      const double u = core::RandomStream(sampling_.seed, kStream, position_, samples_[row]).uniform();
      token[row] = finite ? sample_token(own, sampling_, u) : -1;
    }
  });
  ++position_;
  return tokens;
}

void Sampler::keep(const std::vector<int64_t>& rows) {
  std::vector<uint64_t> kept;
  for (const int64_t row : rows) kept.push_back(samples_[row]);
  samples_ = std::move(kept);
}

}  // namespace exactmamba::models
