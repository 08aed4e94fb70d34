// f_t(k): what lag k adds to u_t under an additive approximation (approximation.h).
#pragma once

#include <ATen/core/Tensor.h>

#include "decomp/approximation.h"
#include "models/layer_trace.h"

namespace exactmamba::decomp {

/// u = φ(a), the real input of the recurrence: (L, D).
at::Tensor activated(const models::LayerTrace& trace);

class Pieces {
 public:
  Pieces(const models::LayerTrace& trace, Approximation approximation, BiasRule bias);

  int64_t taps() const { return taps_.size(0); }
  /// What the tokens [j_begin, j_end) add W steps long: (columns, W, D), [j, k] = f_{j+k}(k); 0 from
  /// `sequence_end` on.
  at::Tensor block(int64_t j_begin, int64_t j_end, int64_t sequence_end) const;
  /// Σ_k f_t(k) over the lags inside t's sequence: (L, D).
  at::Tensor sum() const;
  /// The piece of the convolution's bias at every t (L, D); BiasRule::kSeparate.
  at::Tensor bias() const;

 private:
  template <class T>
  void row(int64_t t, int64_t lag, T* out) const;  // f_t(lag): (D)
  template <class T>
  void apply(const T* pieces, int64_t t, T* out) const;  // f of given pieces at time t: (D)

  const models::LayerTrace& trace_;
  Approximation approximation_;
  at::Tensor taps_;      // (W, D), by lag
  at::Tensor own_bias_;  // (D), with BiasRule::kOwn [nullable]
  at::Tensor gates_;     // (L, D) φ(a)/a; kRatio only
};

}  // namespace exactmamba::decomp
