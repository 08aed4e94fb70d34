#include "core/random.h"

#include <cmath>
#include <numbers>
#include <numeric>
#include <utility>

#include <ATen/Parallel.h>
#include <ATen/ops/empty_like.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/error.h"

namespace exactmamba::core {
namespace {

constexpr uint64_t kLargestIndex =
    (uint64_t{1} << 48) - 1;  // 48 bits each for step and sample, 32 for the block
constexpr int64_t kBlocksPerTask = 1 << 14;

uint64_t join(uint32_t high, uint32_t low) { return static_cast<uint64_t>(high) << 32 | low; }
double unit_interval(uint64_t bits) { return static_cast<double>(bits >> 11) * 0x1.0p-53; }

struct Pair {
  double first, second;
};
Pair uniform_pair(const PhiloxBlock& b) {
  return {unit_interval(join(b[1], b[0])), unit_interval(join(b[3], b[2]))};
}

/// Box–Muller; 1 − u lies in (0, 1].
Pair normal_pair(Pair u) {
  const double radius = std::sqrt(-2.0 * std::log(1.0 - u.first));
  const double angle = 2.0 * std::numbers::pi * u.second;
  return {radius * std::cos(angle), radius * std::sin(angle)};
}

}  // namespace

PhiloxBlock philox4x32(PhiloxBlock counter, std::array<uint32_t, 2> key) {
  constexpr uint64_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
  constexpr uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = kMultiplier0 * counter[0];
    const uint64_t p1 = kMultiplier1 * counter[2];
    counter = {static_cast<uint32_t>(p1 >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(p1),
               static_cast<uint32_t>(p0 >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(p0)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return counter;
}

RandomStream::RandomStream(uint64_t seed, std::string_view name, uint64_t step, uint64_t sample) {
  require(step <= kLargestIndex && sample <= kLargestIndex,
          "random stream '{}': step {} and sample {} must be below 2^48", name, step, sample);
  const uint64_t key = XXH3_64bits_withSeed(name.data(), name.size(), seed);
  key_ = {static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32)};
  counter_ = {0, static_cast<uint32_t>(sample), static_cast<uint32_t>(step),
              static_cast<uint32_t>((step >> 32) << 16 | sample >> 32)};
}

PhiloxBlock RandomStream::block(uint64_t offset) const {
  PhiloxBlock counter = counter_;
  counter[0] += static_cast<uint32_t>(offset);
  return philox4x32(counter, key_);
}

void RandomStream::advance(uint64_t blocks) {
  require(blocks <= UINT32_MAX - counter_[0],
          "a random stream holds 2^32 blocks of 128 bits; use another step or sample");
  counter_[0] += static_cast<uint32_t>(blocks);
}

void RandomStream::refill() {
  block_ = block(0);
  advance(1);
  used_ = 0;
}

uint32_t RandomStream::next_u32() {
  if (used_ == 4) refill();
  return block_[static_cast<size_t>(used_++)];
}

uint64_t RandomStream::next_u64() {
  const uint32_t low = next_u32();
  return join(next_u32(), low);
}

double RandomStream::uniform() { return unit_interval(next_u64()); }

double RandomStream::uniform(double low, double high) {
  const double value = low + (high - low) * uniform();
  return value < high ? value : std::nextafter(high, low);  // the sum may round up
}

int64_t RandomStream::uniform_int(int64_t low, int64_t high) {
  require(low <= high, "uniform_int: low {} is above high {}", low, high);
  const uint64_t span = static_cast<uint64_t>(high) - static_cast<uint64_t>(low) + 1;
  if (span == 0) return static_cast<int64_t>(next_u64());
  // Values below 2^64 mod span would make small results more likely.
  const uint64_t refused = (0 - span) % span;
  uint64_t value = next_u64();
  while (value < refused) value = next_u64();
  return static_cast<int64_t>(static_cast<uint64_t>(low) + value % span);
}

/// Element 2k and 2k+1 come from block k, so any thread can make any part. `draw` turns a block into two
/// numbers.
template <class Draw>
void RandomStream::fill(at::Tensor& tensor, const Draw& draw) {
  const bool direct = tensor.is_contiguous() && tensor.device().is_cpu() &&
                      (tensor.scalar_type() == at::kFloat || tensor.scalar_type() == at::kDouble);
  if (!direct) {
    at::Tensor drawn = at::empty_like(tensor, at::TensorOptions().dtype(at::kDouble).device(at::kCPU),
                                      at::MemoryFormat::Contiguous);
    fill(drawn, draw);
    tensor.copy_(drawn);
    return;
  }
  if (tensor.scalar_type() == at::kFloat) {
    fill_values(tensor.mutable_data_ptr<float>(), tensor.numel(), draw);
  } else {
    fill_values(tensor.mutable_data_ptr<double>(), tensor.numel(), draw);
  }
}

template <class T, class Draw>
void RandomStream::fill_values(T* values, int64_t n, const Draw& draw) {
  used_ = 4;  // whole blocks only
  const RandomStream start = *this;
  advance(static_cast<uint64_t>((n + 1) / 2));
  at::parallel_for(0, (n + 1) / 2, kBlocksPerTask, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
      const Pair pair = draw(start.block(static_cast<uint64_t>(k)));
      values[2 * k] = static_cast<T>(pair.first);
      if (2 * k + 1 < n) values[2 * k + 1] = static_cast<T>(pair.second);
    }
  });
}

void RandomStream::fill_uniform(at::Tensor& tensor, double low, double high) {
  fill(tensor, [=](const PhiloxBlock& bits) {
    const Pair u = uniform_pair(bits);
    return Pair{low + (high - low) * u.first, low + (high - low) * u.second};
  });
}

void RandomStream::fill_normal(at::Tensor& tensor, double mean, double standard_deviation) {
  fill(tensor, [=](const PhiloxBlock& bits) {
    const Pair n = normal_pair(uniform_pair(bits));
    return Pair{mean + standard_deviation * n.first, mean + standard_deviation * n.second};
  });
}

std::vector<int64_t> RandomStream::permutation(int64_t n) {
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  for (int64_t i = n - 1; i > 0; --i) {
    std::swap(order[static_cast<size_t>(i)], order[static_cast<size_t>(uniform_int(0, i))]);
  }
  return order;
}

}  // namespace exactmamba::core
