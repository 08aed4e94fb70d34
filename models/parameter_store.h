// All parameters of a model in two flat buffers (with and without weight decay), each parameter a named view,
// aligned to 256 bytes, in model order. Gradients and the copies that products compute with mirror the
// layout, so norm, clipping, AdamW, snapshots, refreshing and reduction work on two tensors.
#pragma once

#include <array>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/placement.h"

namespace exactmamba::models {

enum class Decay { kYes = 0, kNo = 1 };

struct ParameterSpec {
  std::string name;  // the field's: "backbone.layers.0.mixer.in_proj.weight"
  std::vector<int64_t> shape;
  Decay decay;
};

class ParameterStore {
 public:
  /// Zero-initialised. @throws InputError on a placement that is not supported (placement.h)
  ParameterStore(std::vector<ParameterSpec> specs, const Placement& placement);

  const std::vector<ParameterSpec>& specs() const { return specs_; }
  bool contains(const std::string& name) const { return index_.count(name) != 0; }
  at::Tensor parameter(
      const std::string& name) const;  // a view; writing changes the model. @throws InputError if unknown
  at::Tensor gradient(const std::string& name);  // a view; allocates the gradient buffers (zero) on first use
  /// What a matrix product reads: a view of the copy in the compute dtype, or the parameter itself where that
  /// is the parameters' dtype.
  at::Tensor compute(const std::string& name) const;
  /// To be called by whoever changed parameters: rounds them into the copies.
  void refresh_compute_copies();

  at::Tensor flat(Decay group) const { return flat_[static_cast<int>(group)]; }
  at::Tensor flat_gradient(Decay group);
  /// The copies of flat(group); undefined where products read the parameters themselves.
  at::Tensor flat_compute(Decay group) const { return compute_[static_cast<int>(group)]; }
  /// Where parameter `name` begins in the buffers of its group, in elements.
  int64_t offset(const std::string& name) const { return place(name).offset; }
  /// A view of `buffer` (laid out like flat(spec.decay)) with the shape of parameter `name`: Adam moments,
  /// snapshots.
  at::Tensor view(const std::string& name, const at::Tensor& buffer) const;
  void zero_gradients();
  bool has_gradients() const { return gradient_[0].defined(); }
  int64_t parameter_count() const;  // without alignment padding
  at::ScalarType dtype() const { return placement_.dtype; }
  const Placement& placement() const { return placement_; }
  /// XXH3-128 over names, shapes, dtype and values.
  std::string checksum() const;

 private:
  struct Place {
    size_t spec;
    int64_t offset, count;
  };
  const Place& place(const std::string& name) const;
  std::vector<ParameterSpec> specs_;
  std::unordered_map<std::string, Place> index_;
  std::array<at::Tensor, 2> flat_, gradient_, compute_;  // compute_ [null where the dtypes are equal]
  Placement placement_;
};

/// The parameters whose names begin with `prefix`, by the rest of their names. Undefined where the model has
/// no such parameter (a bias that is switched off).
class ParameterScope {
 public:
  ParameterScope(ParameterStore& store, std::string prefix) : store_(&store), prefix_(std::move(prefix)) {}
  at::Tensor value(const std::string& name) const;
  at::Tensor gradient(const std::string& name) const;
  at::Tensor compute(const std::string& name) const;
  ParameterScope below(const std::string& name) const { return {*store_, prefix_ + name}; }

 private:
  ParameterStore* store_;
  std::string prefix_;
};

}  // namespace exactmamba::models
