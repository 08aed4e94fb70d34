// φ_α, the activation behind the convolution: α·φ(a) + (1−α)·SiLU(a), φ one of silu | relu | identity
// (design: maths, §1 "annealing").
#pragma once

#include <cmath>
#include <string>

namespace exactmamba::models {

enum class ActivationKind { kSilu, kRelu, kIdentity };

const char* activation_name(ActivationKind kind);  // "silu" | "relu" | "identity"
ActivationKind activation_from_name(const std::string& name,
                                    const std::string& where);  // @throws InputError naming `where`

struct ConvActivation {
  ActivationKind kind = ActivationKind::kSilu;
  double alpha = 1.0;  // 1: φ itself; between 0 and 1 while annealing from SiLU

  bool is_linear() const { return kind == ActivationKind::kIdentity && alpha == 1.0; }

  template <class T>
  static T sigmoid(T a) {
    return T(1) / (T(1) + std::exp(-a));
  }

  /// The gate g with φ_α(a) = a·g(a): σ for SiLU, 1[a > 0] for ReLU (0 at 0), 1 for identity.
  template <class T>
  T gate(T a) const {
    const T silu = sigmoid(a);
    if (kind == ActivationKind::kSilu) return silu;
    const T own = kind == ActivationKind::kIdentity ? T(1) : T(a > T(0));
    return static_cast<T>(alpha) * own + static_cast<T>(1.0 - alpha) * silu;
  }
  template <class T>
  T value(T a) const {
    return a * gate(a);
  }
  template <class T>
  T derivative(T a) const {
    const T s = sigmoid(a), silu = s * (T(1) + a * (T(1) - s));
    if (kind == ActivationKind::kSilu) return silu;
    const T own = kind == ActivationKind::kIdentity ? T(1) : T(a > T(0));
    return static_cast<T>(alpha) * own + static_cast<T>(1.0 - alpha) * silu;
  }
  /// φ_α'(0), with ½ for ReLU: the mean of the one-sided slopes.
  double slope_at_zero() const {
    const double own = kind == ActivationKind::kIdentity ? 1.0 : 0.5;
    return kind == ActivationKind::kSilu ? 0.5 : alpha * own + (1.0 - alpha) * 0.5;
  }
};

}  // namespace exactmamba::models
