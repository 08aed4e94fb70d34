#include "models/ops/dropout/dropout.h"

#include <ATen/Parallel.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/count_nonzero.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/random.h"
#include "tests/support/files.h"

namespace exactmamba::ops {
namespace {

at::Tensor dropped(const at::Tensor& x, const DropoutMask& mask) {
  const at::Tensor out = at::empty_like(x);
  dropout(x, mask, out);
  return out;
}

TEST(Dropout, KeepsWhatTheStreamOfTheRowSays) {
  const DropoutMask mask{0.3, 7, 5, (int64_t(1) << 33) + 2};
  for (const auto& [length, size] : {std::pair{1, 1}, {2, 7}, {7, 129}, {129, 2}}) {
    const at::Tensor x = at::randn({3, length, size}, at::kDouble), out = dropped(x, mask);
    for (int64_t b = 0; b < 3; ++b) {
      core::RandomStream words(7, "dropout", 5, static_cast<uint64_t>(mask.first_row + b));
      for (int64_t e = 0; e < length * size; ++e) {
        const bool kept = words.next_u32() / 0x1p32 >= 0.3;
        EXPECT_DOUBLE_EQ(out[b].flatten()[e].item<double>(),
                         kept ? x[b].flatten()[e].item<double>() / 0.7 : 0.0);
      }
    }
  }
}

TEST(Dropout, DropsTheShareAskedFor) {
  const at::Tensor x = at::ones({2, 500, 200}, at::kFloat);
  for (const double rate : {0.0, 0.1, 0.5, 0.99}) {
    const double share = 1 - dropped(x, {rate, 1}).count_nonzero().item<double>() / 200000;
    EXPECT_NEAR(share, rate, 5 * std::sqrt(rate * (1 - rate) / 200000)) << rate;
  }
  EXPECT_TRUE(dropped(x, {0.0, 1}).equal(x));
}

TEST(Dropout, OfARowDoesNotDependOnTheBatchTheLengthOrTheThreads) {
  const at::Tensor x = at::randn({5, 151, 37}, at::kFloat);
  const at::Tensor whole = dropped(x, {0.4, 3, 1, 20});
  const at::Tensor parts =
      at::cat({dropped(x.narrow(0, 0, 2), {0.4, 3, 1, 20}), dropped(x.narrow(0, 2, 3), {0.4, 3, 1, 22})});
  EXPECT_TRUE(parts.equal(whole));
  const at::Tensor shorter = x.narrow(1, 0, 51).contiguous();
  EXPECT_TRUE(dropped(shorter, {0.4, 3, 1, 20}).equal(whole.narrow(1, 0, 51)));
  const int before = at::get_num_threads();
  for (const int threads : {1, 2, 3}) {
    at::set_num_threads(threads);
    EXPECT_TRUE(dropped(x, {0.4, 3, 1, 20}).equal(whole));
  }
  at::set_num_threads(before);
  const at::Tensor in_place = x.clone();
  dropout(in_place, {0.4, 3, 1, 20}, in_place);
  EXPECT_TRUE(in_place.equal(whole));
}

TEST(Dropout, DependsOnEveryPartOfTheMask) {
  const at::Tensor x = at::ones({1, 20, 20}, at::kFloat), first = dropped(x, {0.5, 1, 1, 1});
  for (const DropoutMask& other : {DropoutMask{0.6, 1, 1, 1}, {0.5, 2, 1, 1}, {0.5, 1, 2, 1}, {0.5, 1, 1, 2}})
    EXPECT_FALSE(dropped(x, other).equal(first));
}

TEST(Dropout, RefusesARateOfOne) {
  const at::Tensor x = at::ones({1, 2, 3});
  EXPECT_CONTAINS(testing::error_of<core::InputError>([&] { dropped(x, {1.0}); }), "rate is 1");
}

}  // namespace
}  // namespace exactmamba::ops
