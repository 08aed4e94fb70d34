// What tests of tensors share: golden files and differences.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/max.h>

namespace exactmamba::testing {

inline std::filesystem::path golden(const std::string& relative) {
  return std::filesystem::path(EXACTMAMBA_GOLDEN) / relative;
}

/// The folder of data sets that are not part of the project, or an empty path.
inline std::filesystem::path external_data() {
  const char* folder = std::getenv("EXACTMAMBA_DATA");
  return folder ? folder : "";
}

/// max|a − b|, computed in double.
inline double absolute_difference(const at::Tensor& a, const at::Tensor& b) {
  if (a.numel() == 0) return 0.0;
  return a.to(at::kDouble).sub(b.to(at::kDouble)).abs().max().item<double>();
}

/// max|a − b| / max|b|; b is the reference.
inline double relative_difference(const at::Tensor& a, const at::Tensor& b) {
  if (b.numel() == 0) return 0.0;
  const double scale = b.to(at::kDouble).abs().max().item<double>();
  const double difference = absolute_difference(a, b);
  return scale > 0 ? difference / scale : difference;
}

}  // namespace exactmamba::testing
