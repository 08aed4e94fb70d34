#include "decomp/attention_map.h"

#include <cmath>

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "decomp/contribution_tile.h"
#include "decomp/tile_producer.h"
#include "models/ops/checks.h"

namespace exactmamba::decomp {
namespace {

/// A layer of which nothing but the recurrence is left: one tap that passes on ones, no skip; of Mamba-2 one
/// channel a head, since its channels share α.
models::LayerTrace bare_recurrence(const models::LayerTrace& trace) {
  models::LayerTrace bare = trace;
  const int64_t channels = trace.delta.size(1);
  bare.x = at::ones({trace.length(), channels}, trace.y.options());
  bare.conv_weight = at::ones({channels, 1}, trace.y.options());
  bare.conv_bias = at::Tensor();
  bare.D = at::zeros_like(trace.D);
  bare.out_weight = at::empty({0, channels}, trace.y.options());
  return bare;
}

/// Means of a tile's channels. The order of a sum does not depend on the number of threads.
class AttentionMean final : public Aggregator {
 public:
  explicit AttentionMean(AttentionMaps& maps) : maps_(maps) {}
  bool projects() const override { return false; }
  void add(const ContributionTile& tile) override {
    ops::dispatch_floating(tile.gated.scalar_type(), [&]<class T>() { add_as<T>(tile); });
  }

 private:
  template <class T>
  void add_as(const ContributionTile& tile) {
    const int64_t channels = tile.gated.size(1), L = maps_.mean.size(1);
    const T* alpha = tile.gated.const_data_ptr<T>();
    T *signed_mean = maps_.signed_mean.data_ptr<T>(), *mean = maps_.mean.data_ptr<T>();
    at::parallel_for(0, tile.size(), 64, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        T sum = 0, size = 0;
        for (const T *a = alpha + n * channels, *last = a + channels; a < last; ++a) {
          sum += *a;
          size += std::abs(*a);
        }
        const int64_t entry = tile.pairs[n].i * L + tile.pairs[n].j;
        signed_mean[entry] = sum / static_cast<T>(channels);
        mean[entry] = size / static_cast<T>(channels);
      }
    });
  }

  AttentionMaps& maps_;
};

}  // namespace

AttentionMaps attention_maps(const models::LayerTrace& trace) {
  check_trace(trace);
  const int64_t L = trace.length();
  AttentionMaps maps{at::zeros({L, L}, trace.y.options()), at::zeros({L, L}, trace.y.options())};
  AttentionMean mean(maps);
  const models::LayerTrace bare = bare_recurrence(trace);
  produce_scaled_tiles(bare, Approximation::kIdentity, at::ones_like(bare.x), {&mean});
  return maps;
}

at::Tensor attention_with_residual(const at::Tensor& mean) {
  const at::Tensor mixed = mean + at::eye(mean.size(0), mean.options());
  return mixed / mixed.sum(1, true);
}

}  // namespace exactmamba::decomp
