// Counter-based random numbers (Philox4x32-10, Salmon et al. 2011): a number depends only on (seed, stream name, step, sample)
// and its position, never on what was drawn before elsewhere, on threads or on the number of ranks.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include <ATen/core/Tensor.h>

namespace exactmamba::core {

class RandomStream {
 public:
  RandomStream(uint64_t seed, std::string_view name, uint64_t step = 0, uint64_t sample = 0);

  uint32_t next_u32();
  uint64_t next_u64();
  double uniform();                          // [0, 1), 53 bits
  double uniform(double low, double high);   // [low, high)
  int64_t uniform_int(int64_t low, int64_t high);  // [low, high], without bias
  double normal();                           // N(0, 1), Box–Muller
  void fill_uniform(at::Tensor& tensor, double low, double high);  // drawn in double, rounded to the tensor's dtype
  void fill_normal(at::Tensor& tensor, double mean, double standard_deviation);
  std::vector<int64_t> permutation(int64_t n);  // Fisher–Yates

 private:
  void refill();
  uint32_t key_[2], counter_[4], block_[4];
  int used_ = 4;
};

}  // namespace exactmamba::core
