// What every operator checks before it touches memory, and the step from tensors to pointers.
#pragma once

#include <utility>

#include <ATen/core/Tensor.h>

#include "core/error.h"
#include "models/ops/rows.h"

namespace exactmamba::ops {

/// Of what goes with `tensor` in full precision: its own dtype on a CPU, float on a GPU.
inline at::ScalarType wide_dtype_of(const at::Tensor& tensor) {
  return tensor.is_cpu() ? tensor.scalar_type() : at::kFloat;
}

/// Checks the tensors of one operator call against a reference tensor's dtype and device. Messages name the
/// operator, the tensor and both values.
class OperatorChecks {
 public:
  /// @throws InputError unless `reference` is a float or double tensor on a CPU, or a float, bfloat16 or half
  /// tensor on a CUDA device.
  OperatorChecks(const char* op, const char* reference_name, const at::Tensor& reference);

  /// Dtype, device, shape, and contiguity behind the first two dimensions. @throws InputError
  void rows(const char* name, const at::Tensor& tensor, at::IntArrayRef shape) const;
  /// Dtype, device, shape, and full contiguity. @throws InputError
  void dense(const char* name, const at::Tensor& tensor, at::IntArrayRef shape) const;
  /// The same for parameters, their gradients and states, which are of wide_dtype(). @throws InputError
  void wide(const char* name, const at::Tensor& tensor, at::IntArrayRef shape) const;

  void rows_or_undefined(const char* name, const at::Tensor& tensor, at::IntArrayRef shape) const {
    if (tensor.defined()) rows(name, tensor, shape);
  }
  void dense_or_undefined(const char* name, const at::Tensor& tensor, at::IntArrayRef shape) const {
    if (tensor.defined()) dense(name, tensor, shape);
  }
  void wide_or_undefined(const char* name, const at::Tensor& tensor, at::IntArrayRef shape) const {
    if (tensor.defined()) wide(name, tensor, shape);
  }
  /// @throws InputError unless `tensor` has `dimensions` dimensions (`letters` says which, for the message).
  void dimensions(const char* name, const at::Tensor& tensor, int64_t dimensions, const char* letters) const;

  /// Of parameters, their gradients, statistics and states.
  at::ScalarType wide_dtype() const { return wide_dtype_of(reference_); }

 private:
  void common(const char* name, const at::Tensor& tensor, at::IntArrayRef shape, at::ScalarType dtype) const;
  void require_contiguous(const char* name, const at::Tensor& tensor) const;

  const char* op_;
  const char* reference_name_;
  const at::Tensor& reference_;
};

/// Calls body.operator()<float>() or <double>(), by dtype. The dtype has been checked.
template <class Body>
void dispatch_floating(at::ScalarType dtype, Body&& body) {
  if (dtype == at::kFloat)
    std::forward<Body>(body).template operator()<float>();
  else
    std::forward<Body>(body).template operator()<double>();
}

/// The data of a tensor whose dtype has been checked; null for an undefined tensor.
template <class T>
T* data_or_null(const at::Tensor& tensor) {
  if (!tensor.defined()) return nullptr;
  if constexpr (std::is_const_v<T>)
    return static_cast<T*>(tensor.const_data_ptr());
  else
    return static_cast<T*>(tensor.mutable_data_ptr());
}

/// The tokens of a (B, L, …) tensor.
template <class T>
Rows<T> rows_of(const at::Tensor& tensor) {
  if (!tensor.defined()) return {};
  return {data_or_null<T>(tensor), tensor.size(1), tensor.stride(0), tensor.stride(1)};
}

/// A field of a params struct becomes the tensor, in the field's type. The structs of an operator's CPU and
/// CUDA implementations name their fields alike, so that one function fills both.
template <class T>
void set(T*& field, const at::Tensor& tensor) {
  field = data_or_null<T>(tensor);
}
template <class T>
void set(Rows<T>& field, const at::Tensor& tensor) {
  field = rows_of<T>(tensor);
}

/// What the stub twins of the CUDA kernels do. @throws InputError
[[noreturn]] void refuse_cuda(const char* op);

}  // namespace exactmamba::ops
