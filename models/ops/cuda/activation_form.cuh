// The activation behind the convolution, as kernels compute it.
#pragma once

#include "models/ops/conv_activation.h"
#include "models/ops/cuda/fast_math.cuh"

namespace exactmamba::ops {

/// φ_α(a) = a · (silu · σ(a) + (a > 0 ? positive : negative)): one form for every activation. It is computed
/// of a · log₂e, which the convolution yields, and all factors carry ln 2 for it: the exponential then needs
/// no multiplication. kKinked: positive and negative differ.
struct ActivationForm {
  float silu, positive, negative;

  explicit ActivationForm(const models::ConvActivation& activation) {
    const bool is_silu = activation.kind == models::ActivationKind::kSilu;
    silu = static_cast<float>(is_silu ? 1.0 : 1.0 - activation.alpha) * kLn2;
    positive = static_cast<float>(is_silu ? 0.0 : activation.alpha) * kLn2;
    negative = activation.kind == models::ActivationKind::kIdentity ? positive : 0.0f;
  }
  bool is_kinked() const { return positive != negative; }

  template <bool kKinked>
  __device__ float own(float a) const {
    return kKinked && a > 0 ? positive : negative;
  }
  template <bool kKinked>
  __device__ float value(float a) const {
    return a * fmaf(silu, fast_reciprocal(1.0f + fast_exp2(-a)), own<kKinked>(a));
  }
  /// ln 2 · φ_α'.
  template <bool kKinked>
  __device__ float derivative(float a) const {
    float unused, result;
    differentiate<kKinked>(a, unused, result);
    return result;
  }
  /// φ_α and ln 2 · φ_α'.
  template <bool kKinked>
  __device__ void differentiate(float a, float& value, float& derivative) const {
    const float s = fast_reciprocal(1.0f + fast_exp2(-a)), rest = own<kKinked>(a);
    value = a * fmaf(silu, s, rest);
    derivative = fmaf(silu * s, fmaf(a, fmaf(-kLn2, s, kLn2), 1.0f), rest);
  }
};

}  // namespace exactmamba::ops
