// ConvActivation on packs of channels.
#pragma once

#include "models/ops/conv_activation.h"
#include "models/ops/vector_math.h"

namespace exactmamba::ops {

/// SiLU on packs, and its derivative.
template <class P>
inline P silu(const P& a) {
  return a * sigmoid(a);
}
template <class P>
inline P silu_derivative(const P& a) {
  const P s = sigmoid(a);
  return s * (1 + a * (1 - s));
}

template <class T>
class PackedActivation {
 public:
  explicit PackedActivation(const models::ConvActivation& activation)
      : relu_(activation.kind == models::ActivationKind::kRelu),
        own_share_(activation.kind == models::ActivationKind::kSilu ? T(0)
                                                                    : static_cast<T>(activation.alpha)),
        silu_share_(activation.kind == models::ActivationKind::kSilu
                        ? T(1)
                        : static_cast<T>(1.0 - activation.alpha)) {}

  /// g with φ_α(a) = a·g(a).
  Pack<T> gate(const Pack<T>& a) const {
    if (silu_share_ == 0) return own_part(a);
    return own_part(a) + silu_share_ * sigmoid(a);
  }
  Pack<T> derivative(const Pack<T>& a) const {
    if (silu_share_ == 0) return own_part(a);
    return own_part(a) + silu_share_ * silu_derivative(a);
  }

 private:
  /// ReLU and identity have equal gate and derivative.
  Pack<T> own_part(const Pack<T>& a) const {
    const Pack<T> share = broadcast(own_share_);
    return relu_ ? (a > 0 ? share : Pack<T>{}) : share;
  }

  bool relu_;
  T own_share_, silu_share_;
};

}  // namespace exactmamba::ops
