#include "models/ops/checks.h"

#include <fmt/ranges.h>

#include "core/dtype.h"

namespace exactmamba::ops {
namespace {

using core::InputError;
using core::require;

std::string text(at::IntArrayRef shape) {
  return fmt::format("({})", fmt::join(shape.begin(), shape.end(), ", "));
}

/// Whether the dimensions from `first` on are laid out without gaps.
bool contiguous_from(const at::Tensor& tensor, int64_t first) {
  int64_t expected = 1;
  for (int64_t d = tensor.dim() - 1; d >= first; --d) {
    if (tensor.size(d) != 1 && tensor.stride(d) != expected) return false;
    expected *= tensor.size(d);
  }
  return true;
}

}  // namespace

OperatorChecks::OperatorChecks(const char* op, const char* reference_name, const at::Tensor& reference)
    : op_(op), reference_name_(reference_name), reference_(reference) {
  require(reference.defined(), "{}: {} is missing", op, reference_name);
  const auto dtype = reference.scalar_type();
  require(reference.is_cpu() || reference.is_cuda(), "{}: {} is on {}, but must be on a CPU or CUDA device",
          op, reference_name, reference.device().str());
  require(!reference.is_cpu() || dtype == at::kFloat || dtype == at::kDouble,
          "{}: {} has dtype {}, but must be float32 or float64 on a CPU", op, reference_name,
          core::dtype_text(dtype));
  require(reference.is_cpu() || dtype == at::kFloat || dtype == at::kBFloat16 || dtype == at::kHalf,
          "{}: {} has dtype {}, but must be float32, bfloat16 or float16 on a GPU", op, reference_name,
          core::dtype_text(dtype));
}

void OperatorChecks::common(const char* name, const at::Tensor& tensor, at::IntArrayRef shape,
                            at::ScalarType dtype) const {
  require(tensor.defined(), "{}: {} is missing", op_, name);
  require(tensor.sizes() == shape, "{}: {} has shape {}, but {} is expected", op_, name, text(tensor.sizes()),
          text(shape));
  require(tensor.scalar_type() == dtype, "{}: {} has dtype {}, but must be {}, {} being {}", op_, name,
          core::dtype_text(tensor.scalar_type()), c10::toString(dtype), reference_name_,
          core::dtype_text(reference_.scalar_type()));
  require(tensor.device() == reference_.device(), "{}: {} is on {}, but {} is on {}; both must be equal", op_,
          name, tensor.device().str(), reference_name_, reference_.device().str());
}

void OperatorChecks::rows(const char* name, const at::Tensor& tensor, at::IntArrayRef shape) const {
  common(name, tensor, shape, reference_.scalar_type());
  require(contiguous_from(tensor, 2),
          "{}: {} of shape {} has strides {}, but the dimensions behind the tokens must be contiguous", op_,
          name, text(tensor.sizes()), text(tensor.strides()));
}

void OperatorChecks::dense(const char* name, const at::Tensor& tensor, at::IntArrayRef shape) const {
  common(name, tensor, shape, reference_.scalar_type());
  require_contiguous(name, tensor);
}

void OperatorChecks::wide(const char* name, const at::Tensor& tensor, at::IntArrayRef shape) const {
  common(name, tensor, shape, wide_dtype());
  require_contiguous(name, tensor);
}

void OperatorChecks::require_contiguous(const char* name, const at::Tensor& tensor) const {
  require(tensor.is_contiguous(), "{}: {} of shape {} has strides {}, but must be contiguous", op_, name,
          text(tensor.sizes()), text(tensor.strides()));
}

void OperatorChecks::dimensions(const char* name, const at::Tensor& tensor, int64_t dimensions,
                                const char* letters) const {
  require(tensor.defined(), "{}: {} is missing", op_, name);
  require(tensor.dim() == dimensions, "{}: {} has shape {}, but {} is expected", op_, name,
          text(tensor.sizes()), letters);
}

void refuse_cuda(const char* op) {
  throw InputError(
      fmt::format("{}: the tensors are on a CUDA device, but this build has no CUDA kernels; use device = "
                  "\"cpu\" or a build with CUDA",
                  op));
}

}  // namespace exactmamba::ops
