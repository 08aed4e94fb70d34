// The contract between rms_norm.cpp and its implementations. All tensors are contiguous (rows, d).
#pragma once

#include <cstdint>

namespace exactmamba::ops {

template <class T>
struct RmsNormParams {
  int64_t rows = 0, size = 0;  // size: d
  double eps = 0;
  const T* weight = nullptr;  // (d)
  const T* scale = nullptr;   // (rows) [nullable]

  // forward
  const T* x = nullptr;
  T* out = nullptr;
  const T* residual = nullptr;  // [nullable]
  T* sum = nullptr;             // scale·x + residual [nullable without both]
  T* rstd = nullptr;            // (rows)

  // backward
  const T* residual_out = nullptr;
  const T* saved_rstd = nullptr;
  const T* grad_out = nullptr;
  const T* grad_residual_out = nullptr;  // [nullable]
  T* grad_residual = nullptr;
  T* grad_x = nullptr;       // scale·grad_residual [nullable without scale]
  T* grad_weight = nullptr;  // (d), added to [nullable]
};

template <class T>
void rms_norm_forward_cpu(const RmsNormParams<T>& params);
template <class T>
void rms_norm_backward_cpu(const RmsNormParams<T>& params);

}  // namespace exactmamba::ops
