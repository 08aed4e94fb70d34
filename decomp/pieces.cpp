#include "decomp/pieces.h"

#include <algorithm>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "models/ops/checks.h"
#include "models/ops/sequences.h"

namespace exactmamba::decomp {
namespace {

template <class F>
at::Tensor map_pre_activation(const models::LayerTrace& trace, const F& f) {
  at::Tensor result = at::empty_like(trace.a);
  ops::dispatch_floating(result.scalar_type(), [&]<class T>() {
    const T* a = trace.a.const_data_ptr<T>();
    T* out = result.data_ptr<T>();
    at::parallel_for(0, result.numel(), 4096, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) out[n] = f(a[n]);
    });
  });
  return result;
}

at::Tensor gates_of(const models::LayerTrace& trace) {
  return map_pre_activation(trace, [&](auto a) { return trace.activation.gate(a); });
}

}  // namespace

at::Tensor activated(const models::LayerTrace& trace) {
  return map_pre_activation(trace, [&](auto a) { return trace.activation.value(a); });
}

Pieces::Pieces(const models::LayerTrace& trace, Approximation approximation, BiasRule bias)
    : trace_(trace),
      approximation_(approximation),
      taps_(trace.conv_weight.flip({1}).t().contiguous()),
      own_bias_(bias == BiasRule::kOwn ? trace.conv_bias : at::Tensor()),
      gates_(approximation == Approximation::kRatio ? gates_of(trace) : at::Tensor()) {}

template <class T>
void Pieces::apply(const T* pieces, int64_t t, T* out) const {
  const int64_t D = trace_.d_inner();
  const auto each = [&](auto f) {
    for (int64_t c = 0; c < D; ++c) out[c] = f(c, pieces[c]);
  };
  switch (approximation_) {
    case Approximation::kActivation:
      return each([&](int64_t, T p) { return trace_.activation.value(p); });
    case Approximation::kIdentity:
      return each([](int64_t, T p) { return p; });
    case Approximation::kRelu:
      return each([](int64_t, T p) { return std::max(p, T(0)); });
    case Approximation::kTaylor: {
      const T slope = static_cast<T>(trace_.activation.slope_at_zero());
      return each([slope](int64_t, T p) { return slope * p; });
    }
    case Approximation::kRatio: {
      const T* gate = gates_.const_data_ptr<T>() + t * D;
      return each([gate](int64_t c, T p) { return p * gate[c]; });
    }
  }
}

template <class T>
void Pieces::row(int64_t t, int64_t lag, T* out) const {
  const int64_t D = trace_.d_inner();
  const T* x = trace_.x.const_data_ptr<T>() + (t - lag) * D;
  const T* tap = taps_.const_data_ptr<T>() + lag * D;
  const T* bias = lag == 0 && own_bias_.defined() ? own_bias_.const_data_ptr<T>() : nullptr;
  for (int64_t c = 0; c < D; ++c) out[c] = tap[c] * x[c] + (bias ? bias[c] : T(0));
  apply(out, t, out);
}

at::Tensor Pieces::block(int64_t j_begin, int64_t j_end, int64_t sequence_end) const {
  const int64_t D = trace_.d_inner(), W = taps();
  at::Tensor block = at::zeros({j_end - j_begin, W, D}, trace_.x.options());
  ops::dispatch_floating(block.scalar_type(), [&]<class T>() {
    T* out = block.data_ptr<T>();
    at::parallel_for(j_begin, j_end, 1, [&](int64_t begin, int64_t end) {
      for (int64_t j = begin; j < end; ++j)
        for (int64_t k = 0; k < std::min(W, sequence_end - j); ++k)
          row(j + k, k, out + ((j - j_begin) * W + k) * D);
    });
  });
  return block;
}

at::Tensor Pieces::sum() const {
  const int64_t D = trace_.d_inner(), W = taps();
  at::Tensor sum = at::zeros_like(trace_.x);
  ops::dispatch_floating(sum.scalar_type(), [&]<class T>() {
    T* out = sum.data_ptr<T>();
    for (const ops::Sequence& sequence : ops::sequences_of(trace_.cu_seqlens, 1, trace_.length()))
      at::parallel_for(sequence.begin, sequence.end, 1, [&](int64_t begin, int64_t end) {
        std::vector<T> piece(D);
        for (int64_t t = begin; t < end; ++t)
          for (int64_t k = 0; k < std::min(W, t - sequence.begin + 1); ++k) {
            row(t, k, piece.data());
            for (int64_t c = 0; c < D; ++c) out[t * D + c] += piece[c];
          }
      });
  });
  return sum;
}

at::Tensor Pieces::bias() const {
  const int64_t D = trace_.d_inner();
  at::Tensor pieces = at::zeros_like(trace_.x);
  if (!trace_.conv_bias.defined()) return pieces;
  ops::dispatch_floating(pieces.scalar_type(), [&]<class T>() {
    T* out = pieces.data_ptr<T>();
    at::parallel_for(0, trace_.length(), 1, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) apply(trace_.conv_bias.const_data_ptr<T>(), t, out + t * D);
    });
  });
  return pieces;
}

}  // namespace exactmamba::decomp
