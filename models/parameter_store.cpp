#include "models/parameter_store.h"

#include <numeric>
#include <string_view>

#include <ATen/ops/zeros.h>
#include <fmt/ranges.h>

#include "core/dtype.h"
#include "core/error.h"
#include "core/hash.h"

namespace exactmamba::models {
namespace {

constexpr int64_t kAlignment = 256;  // bytes

int64_t element_count(const std::vector<int64_t>& shape) {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

int64_t aligned_elements(at::ScalarType dtype) {
  return kAlignment / static_cast<int64_t>(at::elementSize(dtype));
}

/// Zeros whose first element lies on a 256-byte boundary (the CPU's allocator promises 64).
at::Tensor aligned_zeros(int64_t count, at::ScalarType dtype, at::Device device) {
  const int64_t step = aligned_elements(dtype);
  const at::Tensor buffer = at::zeros({count + step}, at::TensorOptions().dtype(dtype).device(device));
  const auto address = reinterpret_cast<uintptr_t>(buffer.data_ptr());
  const auto beyond = static_cast<int64_t>(address % kAlignment / at::elementSize(dtype));
  return buffer.narrow(0, beyond == 0 ? 0 : step - beyond, count);
}

}  // namespace

ParameterStore::ParameterStore(std::vector<ParameterSpec> specs, const Placement& placement)
    : specs_(std::move(specs)), placement_(placement) {
  placement_.check();
  // Of the narrowest dtype, so that views of the copies are aligned too.
  const int64_t step = aligned_elements(placement_.compute_dtype);
  std::array<int64_t, 2> used = {0, 0};
  for (size_t i = 0; i < specs_.size(); ++i) {
    int64_t& offset = used[static_cast<size_t>(specs_[i].decay)];
    const int64_t count = element_count(specs_[i].shape);
    const bool is_new = index_.emplace(specs_[i].name, Place{i, offset, count}).second;
    core::require(is_new, "parameter '{}' is declared twice", specs_[i].name);
    offset += (count + step - 1) / step * step;
  }
  for (size_t group = 0; group < 2; ++group) {
    flat_[group] = aligned_zeros(used[group], placement_.dtype, placement_.device);
    if (placement_.has_compute_copies())
      compute_[group] = aligned_zeros(used[group], placement_.compute_dtype, placement_.device);
  }
}

const ParameterStore::Place& ParameterStore::place(const std::string& name) const {
  const auto found = index_.find(name);
  core::require(found != index_.end(), "the model has no parameter '{}'", name);
  return found->second;
}

at::Tensor ParameterStore::view(const std::string& name, const at::Tensor& buffer) const {
  const Place& where = place(name);
  return buffer.narrow(0, where.offset, where.count).view(specs_[where.spec].shape);
}

at::Tensor ParameterStore::parameter(const std::string& name) const {
  return view(name, flat(specs_[place(name).spec].decay));
}

at::Tensor ParameterStore::gradient(const std::string& name) {
  return view(name, flat_gradient(specs_[place(name).spec].decay));
}

at::Tensor ParameterStore::flat_gradient(Decay group) {
  if (!has_gradients()) {
    for (size_t i = 0; i < 2; ++i)
      gradient_[i] = aligned_zeros(flat_[i].numel(), placement_.dtype, placement_.device);
  }
  return gradient_[static_cast<size_t>(group)];
}

at::Tensor ParameterStore::compute(const std::string& name) const {
  if (!placement_.has_compute_copies()) return parameter(name);
  return view(name, compute_[static_cast<size_t>(specs_[place(name).spec].decay)]);
}

void ParameterStore::refresh_compute_copies() {
  if (!placement_.has_compute_copies()) return;
  for (size_t group = 0; group < 2; ++group) compute_[group].copy_(flat_[group]);
}

void ParameterStore::zero_gradients() {
  if (!has_gradients()) return;
  for (at::Tensor& buffer : gradient_) buffer.zero_();
}

int64_t ParameterStore::parameter_count() const {
  int64_t count = 0;
  for (const ParameterSpec& spec : specs_) count += element_count(spec.shape);
  return count;
}

std::string ParameterStore::checksum() const {
  std::string text;
  for (const ParameterSpec& spec : specs_) {
    const at::Tensor values = parameter(spec.name).cpu();
    const std::string_view bytes(static_cast<const char*>(values.const_data_ptr()), values.nbytes());
    // The dtype by LibTorch's name: checksums are in files.
    text += fmt::format("{} {} {} {}\n", spec.name, fmt::join(spec.shape, "x"),
                        at::toString(placement_.dtype), core::hash_hex(bytes));
  }
  return core::hash_hex(text);
}

at::Tensor ParameterScope::value(const std::string& name) const {
  return store_->contains(prefix_ + name) ? store_->parameter(prefix_ + name) : at::Tensor();
}

at::Tensor ParameterScope::compute(const std::string& name) const {
  return store_->contains(prefix_ + name) ? store_->compute(prefix_ + name) : at::Tensor();
}

at::Tensor ParameterScope::gradient(const std::string& name) const {
  return store_->contains(prefix_ + name) ? store_->gradient(prefix_ + name) : at::Tensor();
}

}  // namespace exactmamba::models
