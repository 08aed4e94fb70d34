// Outputs at sizes beyond one block of channels (64), single and packed, against the formulas of the headers
// taken literally: plain loops in double, one time step at a time.
#include <algorithm>
#include <cmath>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "models/ops/causal_conv1d/causal_conv1d.h"
#include "models/ops/selective_scan/selective_scan.h"
#include "models/ops/ssd/ssd.h"
#include "tests/support/tensors.h"

namespace exactmamba::ops {
namespace {

constexpr int64_t kLength = 75;  // more than one chunk of either scan
constexpr int64_t kStates = 5;

at::Tensor random(at::IntArrayRef shape) { return at::randn(shape, at::kDouble); }

/// Boundaries of one row of kLength positions: one sequence, or sequences of 1, 2, 40 and 32.
const std::vector<std::vector<int>> kBounds = {{0, kLength}, {0, 1, 3, 43, kLength}};

double silu(double a) { return a / (1 + std::exp(-a)); }
double softplus(double a) { return a > 20 ? a : std::log1p(std::exp(a)); }

/// Numbers of a contiguous double tensor by index.
class Values {
 public:
  explicit Values(const at::Tensor& tensor) : tensor_(tensor) {}
  template <class... Index>
  double& operator()(Index... index) {
    int64_t offset = 0, dimension = 0;
    ((offset = offset * tensor_.size(dimension++) + index), ...);
    return tensor_.data_ptr<double>()[offset];
  }

 private:
  at::Tensor tensor_;
};

/// f(t, first position of t's sequence) from the left.
template <class F>
void for_each_step(const std::vector<int>& bounds, const F& f) {
  for (size_t s = 0; s + 1 < bounds.size(); ++s)
    for (int64_t t = bounds[s]; t < bounds[s + 1]; ++t) f(t, bounds[s]);
}

at::Tensor convolution(const CausalConv1dInputs& in, const std::vector<int>& bounds) {
  const at::Tensor out = at::empty_like(in.x);
  Values x(in.x), weight(in.weight), bias(in.bias), result(out);
  const int64_t taps = in.weight.size(1);
  for (int64_t c = 0; c < in.x.size(2); ++c)
    for_each_step(bounds, [&](int64_t t, int64_t first) {
      double a = bias(c);
      for (int64_t k = 0; k < taps && t - k >= first; ++k) a += weight(c, taps - 1 - k) * x(0, t - k, c);
      result(0, t, c) = silu(a);
    });
  return out;
}

at::Tensor scan(const SelectiveScanInputs& in, const std::vector<int>& bounds) {
  const at::Tensor out = at::empty_like(in.u);
  Values u(in.u), delta(in.delta), A(in.A), B(in.B), C(in.C), D(in.D), z(in.z), bias(in.delta_bias),
      result(out);
  for (int64_t c = 0; c < in.u.size(2); ++c) {
    std::vector<double> state(kStates);
    for_each_step(bounds, [&](int64_t t, int64_t first) {
      if (t == first) state.assign(kStates, 0.0);
      const double step = softplus(delta(0, t, c) + bias(c));
      double sum = D(c) * u(0, t, c);
      for (int64_t n = 0; n < kStates; ++n) {
        state[n] = std::exp(step * A(c, n)) * state[n] + step * B(0, t, n) * u(0, t, c);
        sum += C(0, t, n) * state[n];
      }
      result(0, t, c) = sum * silu(z(0, t, c));
    });
  }
  return out;
}

at::Tensor duality(const SsdInputs& in, const std::vector<int>& bounds) {
  const at::Tensor out = at::empty_like(in.x);
  Values x(in.x), dt(in.dt), A(in.A), B(in.B), C(in.C), D(in.D), bias(in.dt_bias), result(out);
  const int64_t heads = in.x.size(2), heads_per_group = heads / in.B.size(2);
  for (int64_t h = 0; h < heads; ++h)
    for (int64_t p = 0; p < in.x.size(3); ++p) {
      std::vector<double> state(kStates);
      for_each_step(bounds, [&](int64_t t, int64_t first) {
        if (t == first) state.assign(kStates, 0.0);
        const int64_t g = h / heads_per_group;
        const double step = std::clamp(softplus(dt(0, t, h) + bias(h)), in.dt_min, in.dt_max);
        double sum = D(h) * x(0, t, h, p);
        for (int64_t n = 0; n < kStates; ++n) {
          state[n] = std::exp(step * A(h)) * state[n] + step * x(0, t, h, p) * B(0, t, g, n);
          sum += state[n] * C(0, t, g, n);
        }
        result(0, t, h, p) = sum;
      });
    }
  return out;
}

TEST(WideShapes, CausalConv1d) {
  for (const int64_t channels : {129, 151})
    for (const auto& bounds : kBounds) {
      SCOPED_TRACE(fmt::format("{} channels, {} sequences", channels, bounds.size() - 1));
      CausalConv1dInputs in;
      in.x = random({1, kLength, channels});
      in.weight = random({channels, 4});
      in.bias = random({channels});
      in.cu_seqlens = at::tensor(bounds, at::kInt);
      EXPECT_LE(testing::relative_difference(causal_conv1d_forward(in), convolution(in, bounds)), 1e-14);
    }
}

TEST(WideShapes, SelectiveScan) {
  for (const int64_t channels : {129, 151})
    for (const auto& bounds : kBounds) {
      SCOPED_TRACE(fmt::format("{} channels, {} sequences", channels, bounds.size() - 1));
      SelectiveScanInputs in;
      in.u = random({1, kLength, channels}), in.delta = random({1, kLength, channels});
      in.A = -random({channels, kStates}).abs(), in.D = random({channels});
      in.B = random({1, kLength, kStates}), in.C = random({1, kLength, kStates});
      in.z = random({1, kLength, channels}), in.delta_bias = random({channels});
      in.cu_seqlens = at::tensor(bounds, at::kInt);
      EXPECT_LE(testing::relative_difference(selective_scan_forward(in), scan(in, bounds)), 1e-13);
    }
}

TEST(WideShapes, Ssd) {
  struct Heads {
    int64_t heads, groups, size;
  };
  for (const auto& [heads, groups, size] : {Heads{2, 1, 40}, {10, 1, 40}, {18, 2, 40}, {3, 3, 129}})
    for (const auto& bounds : kBounds) {
      SCOPED_TRACE(
          fmt::format("{} heads of {} in {} groups, {} sequences", heads, size, groups, bounds.size() - 1));
      SsdInputs in;
      in.x = random({1, kLength, heads, size}), in.dt = random({1, kLength, heads});
      in.A = -random({heads}).abs(), in.D = random({heads}), in.dt_bias = random({heads});
      in.B = random({1, kLength, groups, kStates}), in.C = random({1, kLength, groups, kStates});
      in.dt_min = 0.2, in.dt_max = 1.5;
      in.cu_seqlens = at::tensor(bounds, at::kInt);
      EXPECT_LE(testing::relative_difference(ssd_forward(in), duality(in, bounds)), 1e-13);
    }
}

}  // namespace
}  // namespace exactmamba::ops
