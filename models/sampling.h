// Sampling of tokens: logits divided by a temperature, then cut to the top_k likeliest tokens, then to the
// smallest set of these whose probability reaches top_p (Holtzman et al. 2020).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <ATen/core/Tensor.h>

namespace exactmamba::models {

struct Sampling {
  double temperature = 1;
  int64_t top_k = 0;  // 0: all
  double top_p = 1;   // 1: all
  uint64_t seed = 0;
  uint64_t first_sample =
      0;  // number of the first prompt: what is drawn depends on seed, number and position
};

/// @throws InputError for a temperature that is not positive, top_k < 0, or top_p outside (0, 1]
void check(const Sampling& sampling);

/// The token at `u` ∈ [0, 1) of the distribution's cumulative sum, in double: tokens in the order of their
/// ids, or where some are cut, the likeliest first and of equals the lowest id. `logits` are finite.
int64_t sample_token(std::span<const double> logits, const Sampling& sampling, double u);

/// Draws for rows that go on together, so that each is drawn as it would be alone.
class Sampler {
 public:
  /// @throws as check()
  Sampler(const Sampling& sampling, size_t rows);
  /// Logits (rows, V) on any device → the next token (rows) of each on the CPU; −1 where one is not finite.
  at::Tensor draw(const at::Tensor& logits);
  /// Goes on with these rows only.
  void keep(const std::vector<int64_t>& rows);

 private:
  Sampling sampling_;
  std::vector<uint64_t> samples_;  // [row] its number
  uint64_t position_ = 0;
};

}  // namespace exactmamba::models
