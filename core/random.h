// Counter-based random numbers (Philox4x32-10, Salmon et al. 2011): a number depends only on (seed, stream
// name, step, sample) and its position, never on what was drawn before elsewhere, on threads or on the number
// of ranks.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include <ATen/core/Tensor.h>

namespace exactmamba::core {

using PhiloxBlock = std::array<uint32_t, 4>;
/// The bijection itself: ten rounds.
PhiloxBlock philox4x32(PhiloxBlock counter, std::array<uint32_t, 2> key);

class RandomStream {
 public:
  /// `step` and `sample` below 2^48. A stream holds 2^32 blocks of four 32-bit words. @throws InputError
  /// beyond that
  RandomStream(uint64_t seed, std::string_view name, uint64_t step = 0, uint64_t sample = 0);

  uint32_t next_u32();
  uint64_t next_u64();
  double uniform();                                // [0, 1), 53 bits
  double uniform(double low, double high);         // [low, high)
  int64_t uniform_int(int64_t low, int64_t high);  // [low, high], without bias
  /// Both are drawn in double, rounded to the tensor's dtype, and use every thread.
  void fill_uniform(at::Tensor& tensor, double low, double high);
  void fill_normal(at::Tensor& tensor, double mean, double standard_deviation);
  std::vector<int64_t> permutation(int64_t n);  // Fisher–Yates

  // For draws in any order, by any thread or by a GPU: the words next_u32() gives, four a block.
  PhiloxBlock block(uint64_t offset) const;  // `offset` blocks after the current one
  const std::array<uint32_t, 2>& key() const { return key_; }

 private:
  void advance(uint64_t blocks);
  void refill();
  template <class Draw>
  void fill(at::Tensor& tensor, const Draw& draw);
  template <class T, class Draw>
  void fill_values(T* values, int64_t n, const Draw& draw);

  std::array<uint32_t, 2> key_;
  PhiloxBlock counter_, block_;  // counter: block, sample, step, the high 16 bits of step and sample
  int used_ = 4;                 // words of block_
};

}  // namespace exactmamba::core
