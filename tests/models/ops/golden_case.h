// The cases of one operator's golden file, tests/golden/ops/OP.safetensors: tensors named CASE/NAME, all in
// double.
#pragma once

#include <set>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include "core/safetensors.h"
#include "tests/support/tensors.h"

namespace exactmamba::ops {

class GoldenCase {
 public:
  GoldenCase(const core::SafetensorsFile& file, std::string name, at::ScalarType dtype)
      : file_(file), name_(std::move(name)), dtype_(dtype) {}

  bool has(const std::string& tensor) const { return file_.contains(name_ + "/" + tensor); }
  /// As stored, or undefined; floating tensors in the case's dtype, and always a copy.
  at::Tensor operator()(const std::string& tensor) const {
    if (!has(tensor)) return {};
    const at::Tensor stored = file_.tensor(name_ + "/" + tensor);
    return stored.is_floating_point() ? stored.to(dtype_, false, true) : stored.clone();
  }
  /// (B, D, L) in the file → (B, L, D).
  at::Tensor tokens_first(const std::string& tensor) const {
    const at::Tensor stored = (*this)(tensor);
    return stored.defined() ? stored.movedim(-1, 1).contiguous() : stored;
  }
  /// `ours` against the tensor of the file, if the file has it.
  void expect(const std::string& tensor, const at::Tensor& ours, double tolerance) const {
    if (has(tensor)) expect_equal(tensor, (*this)(tensor), ours, tolerance);
  }
  void expect_tokens_first(const std::string& tensor, const at::Tensor& ours, double tolerance) const {
    if (has(tensor)) expect_equal(tensor, tokens_first(tensor), ours, tolerance);
  }

  const std::string& name() const { return name_; }
  at::ScalarType dtype() const { return dtype_; }
  bool is_double() const { return dtype_ == at::kDouble; }

 private:
  void expect_equal(const std::string& tensor, const at::Tensor& golden, const at::Tensor& ours,
                    double tolerance) const {
    ASSERT_EQ(ours.sizes(), golden.sizes()) << name_ << "/" << tensor;
    EXPECT_LE(testing::relative_difference(ours, golden), tolerance)
        << name_ << "/" << tensor << ", " << c10::toString(dtype_);
  }

  const core::SafetensorsFile& file_;
  std::string name_;
  at::ScalarType dtype_;
};

/// A gradient's buffer, undefined where its input is.
inline at::Tensor zeros_if(const at::Tensor& like) {
  return like.defined() ? at::zeros_like(like) : at::Tensor();
}

/// body(case) for every case of `file` in double and in float.
template <class Body>
void for_each_case(const std::string& file, Body body) {
  const core::SafetensorsFile golden(testing::golden("ops/" + file));
  std::set<std::string> names;
  for (const auto& name : golden.names()) names.insert(name.substr(0, name.find('/')));
  ASSERT_FALSE(names.empty());
  for (const auto& name : names)
    for (const auto dtype : {at::kDouble, at::kFloat}) body(GoldenCase(golden, name, dtype));
}

/// Asked of double everywhere.
inline constexpr double kDoubleTolerance = 1e-12;

}  // namespace exactmamba::ops
