// The contract between gated_rms_norm.cpp and its implementations. B batch, L length, D channels, G groups.
#pragma once

#include <cstdint>

#include "models/ops/rows.h"

namespace exactmamba::ops {

template <class T>
struct GatedRmsNormParams {
  int64_t tokens = 0, channels = 0, groups = 1;  // B·L, D, G
  double eps = 0;
  bool scale_later = false;  // out without rstd
  Rows<const T> x, z;
  const T* weight = nullptr;  // (D)
  Rows<T> out;                // backward writes it too; may be grad_out [there nullable]

  // forward
  T* rstd = nullptr;  // (B·L, G) [nullable]

  // backward
  const T* saved_rstd = nullptr;  // (B·L, G)
  Rows<const T> grad_out;
  Rows<T> grad_x, grad_z;    // grad_x may be x [nullable]
  T* grad_weight = nullptr;  // (D), added to [nullable]
};

template <class T>
void gated_rms_norm_forward_cpu(const GatedRmsNormParams<T>& params);
template <class T>
void gated_rms_norm_backward_cpu(const GatedRmsNormParams<T>& params);

}  // namespace exactmamba::ops
