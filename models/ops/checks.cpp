#include "models/ops/checks.h"

#include <fmt/ranges.h>

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
  require(dtype == at::kFloat || dtype == at::kDouble, "{}: {} has dtype {}, but must be Float or Double", op,
          reference_name, c10::toString(dtype));
  require(reference.device().is_cpu() || reference.device().is_cuda(),
          "{}: {} is on {}, but must be on a CPU or CUDA device", op, reference_name,
          reference.device().str());
}

void OperatorChecks::common(const char* name, const at::Tensor& tensor, at::IntArrayRef shape) const {
  require(tensor.defined(), "{}: {} is missing", op_, name);
  require(tensor.sizes() == shape, "{}: {} has shape {}, but {} is expected", op_, name, text(tensor.sizes()),
          text(shape));
  require(tensor.scalar_type() == reference_.scalar_type(),
          "{}: {} has dtype {}, but {} has {}; both must be equal", op_, name,
          c10::toString(tensor.scalar_type()), reference_name_, c10::toString(reference_.scalar_type()));
  require(tensor.device() == reference_.device(), "{}: {} is on {}, but {} is on {}; both must be equal", op_,
          name, tensor.device().str(), reference_name_, reference_.device().str());
}

void OperatorChecks::rows(const char* name, const at::Tensor& tensor, at::IntArrayRef shape) const {
  common(name, tensor, shape);
  require(contiguous_from(tensor, 2),
          "{}: {} of shape {} has strides {}, but the dimensions behind the tokens must be contiguous", op_,
          name, text(tensor.sizes()), text(tensor.strides()));
}

void OperatorChecks::dense(const char* name, const at::Tensor& tensor, at::IntArrayRef shape) const {
  common(name, tensor, shape);
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
