#include "decomp/aggregators.h"

#include <algorithm>
#include <cmath>

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/mv.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "models/ops/checks.h"
#include "models/ops/sequences.h"

namespace exactmamba::decomp {
namespace {

/// Independent partial sums, so that a reduction over a row vectorises; its order does not depend on the
/// number of threads.
constexpr int64_t kPartials = 16;

/// Folds term(0) … term(n-1) with `join`, starting from 0.
template <class T, class Term, class Join>
T reduce(int64_t n, const Term& term, const Join& join) {
  T partial[kPartials] = {};
  const int64_t whole = n - n % kPartials;
  for (int64_t k = 0; k < whole; k += kPartials)
    for (int64_t lane = 0; lane < kPartials; ++lane) partial[lane] = join(partial[lane], term(k + lane));
  T result = T(0);
  for (int64_t lane = 0; lane < kPartials; ++lane) result = join(result, partial[lane]);
  for (int64_t k = whole; k < n; ++k) result = join(result, term(k));
  return result;
}

template <class T, class Term>
T sum_of(int64_t n, const Term& term) {
  return reduce<T>(n, term, [](T a, T b) { return a + b; });
}

template <class T>
T norm_of(const T* v, int64_t n, Norm norm) {
  switch (norm) {
    case Norm::kL1:
      return sum_of<T>(n, [v](int64_t k) { return std::abs(v[k]); });
    case Norm::kL2:
      return std::sqrt(sum_of<T>(n, [v](int64_t k) { return v[k] * v[k]; }));
    case Norm::kLinf:
      break;
  }
  return reduce<T>(
      n, [v](int64_t k) { return std::abs(v[k]); }, [](T a, T b) { return a < b ? b : a; });
}

/// map[i, j] = f(pair, row) for every pair of the tile, in parallel; row: its part of `values` (pairs, …).
template <class T, class F>
void write_pairs(const ContributionTile& tile, const at::Tensor& values, at::Tensor& map, const F& f) {
  const T* value = values.const_data_ptr<T>();
  T* entry = map.data_ptr<T>();
  const int64_t width = values.size(1), columns = map.size(1);
  at::parallel_for(0, tile.size(), 64, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      const Pair& pair = tile.pairs[n];
      entry[pair.i * columns + pair.j] = f(pair, value + n * width);
    }
  });
}

at::Tensor empty_map(const models::LayerTrace& trace, BiasRule bias) {
  return at::zeros({trace.length(), map_columns(trace, bias)}, trace.y.options());
}

}  // namespace

int64_t map_columns(const models::LayerTrace& trace, BiasRule bias) {
  return trace.length() + (bias == BiasRule::kSeparate ? 1 : 0);
}

NormMap::NormMap(const models::LayerTrace& trace, BiasRule bias, Norm norm)
    : norm_(norm), map_(empty_map(trace, bias)) {}

void NormMap::add(const ContributionTile& tile) {
  ops::dispatch_floating(map_.scalar_type(), [&]<class T>() {
    const int64_t d = tile.T.size(1);
    write_pairs<T>(tile, tile.T, map_, [&](const Pair&, const T* row) { return norm_of(row, d, norm_); });
  });
}

AltiMap::AltiMap(const models::LayerTrace& trace, BiasRule bias, bool with_residual)
    : y_(with_residual ? trace.y + trace.r : trace.y),
      r_(with_residual ? trace.r : at::Tensor()),
      y_norm_(y_.abs().sum(1)),
      map_(empty_map(trace, bias)) {}

void AltiMap::add(const ContributionTile& tile) {
  ops::dispatch_floating(map_.scalar_type(), [&]<class T>() {
    const int64_t d = tile.T.size(1);
    const T *y_norm = y_norm_.const_data_ptr<T>(), *r = r_.defined() ? r_.const_data_ptr<T>() : nullptr;
    write_pairs<T>(tile, tile.T, map_, [&](const Pair& pair, const T* row) {
      const T* y = y_.const_data_ptr<T>() + pair.i * d;
      const T* residual = r && pair.i == pair.j ? r + pair.i * d : nullptr;
      const T distance =
          residual ? sum_of<T>(d, [&](int64_t k) { return std::abs(y[k] - (row[k] + residual[k])); })
                   : sum_of<T>(d, [&](int64_t k) { return std::abs(y[k] - row[k]); });
      return std::max(T(0), y_norm[pair.i] - distance);
    });
  });
}

at::Tensor AltiMap::finish() {
  const at::Tensor sums = map_.sum(1, true), zero_rows = sums.eq(0);
  at::Tensor map = map_ / sums.masked_fill(zero_rows, 1);
  if (r_.defined()) map.diagonal().add_(zero_rows.squeeze(1));
  return map;
}

LogitMap::LogitMap(const models::LayerTrace& trace, BiasRule bias, const at::Tensor& directions)
    : pulled_(at::mm(directions, trace.out_weight)),
      bias_logits_(trace.out_bias.defined() ? at::mv(directions, trace.out_bias) : at::Tensor()),
      own_bias_(bias == BiasRule::kOwn),
      map_(empty_map(trace, bias)) {}

void LogitMap::add(const ContributionTile& tile) {
  ops::dispatch_floating(map_.scalar_type(), [&]<class T>() {
    const int64_t D = tile.gated.size(1), L = map_.size(0);
    const T* pulled = pulled_.const_data_ptr<T>();
    const T* bias = bias_logits_.defined() ? bias_logits_.const_data_ptr<T>() : nullptr;
    write_pairs<T>(tile, tile.gated, map_, [&](const Pair& pair, const T* row) {
      const T* q = pulled + pair.i * D;
      const T logit = sum_of<T>(D, [&](int64_t c) { return q[c] * row[c]; });
      const bool carries_bias = own_bias_ ? pair.i == pair.j : pair.j == L;
      return bias && carries_bias ? logit + bias[pair.i] : logit;
    });
  });
}

FullContributions::FullContributions(const models::LayerTrace& trace, BiasRule bias) {
  const int64_t L = trace.length(), d = trace.d_model();
  int64_t n = 0;
  for (const ops::Sequence& sequence : ops::sequences_of(trace.cu_seqlens, 1, L))
    for (int64_t i = sequence.begin; i < sequence.end; ++i) {
      row_begin_.push_back(n);
      first_token_.push_back(sequence.begin);
      n += i - sequence.begin + 1;
    }
  pairs_ = at::empty({n, 2}, at::kLong);
  contributions_ = at::empty({n, d}, trace.y.options());
  if (bias == BiasRule::kSeparate) bias_ = at::zeros_like(trace.y);
}

void FullContributions::add(const ContributionTile& tile) {
  const int64_t L = static_cast<int64_t>(row_begin_.size());
  for (int64_t n = 0; n < tile.size(); ++n) {
    const auto [i, j] = tile.pairs[n];
    if (j == L) {
      bias_.select(0, i).copy_(tile.T.select(0, n));
      continue;
    }
    const int64_t at = row_begin_[i] + j - first_token_[i];
    pairs_.select(0, at)[0] = i;
    pairs_.select(0, at)[1] = j;
    contributions_.select(0, at).copy_(tile.T.select(0, n));
  }
}

}  // namespace exactmamba::decomp
