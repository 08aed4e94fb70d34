// AdamW (Loshchilov & Hutter 2019), as torch.optim.AdamW computes it, on the two flat buffers of a
// ParameterStore, by LibTorch's fused kernel on a CPU and by one of our own on a GPU; weight decay applies to
// the decay group only. Moments mirror the layout of the parameters, fp32 or fp64.
#pragma once

#include <array>

#include <ATen/core/Tensor.h>

#include "core/safetensors.h"
#include "models/parameter_store.h"

namespace exactmamba::train {

struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0.1;
};

class AdamW {
 public:
  /// `store` must outlive the optimizer.
  AdamW(models::ParameterStore& store, AdamWOptions options);

  /// One update of parameters and compute copies from the store's gradients times `factor` (() double),
  /// unless `allowed` (() bool) is false: then they stay. Both are on the store's device; what is to be done
  /// there is under way before the host waits for `allowed`, which is returned.
  bool step(double learning_rate, const at::Tensor& factor, const at::Tensor& allowed);
  /// Updates made so far: what the bias correction counts.
  int64_t steps() const { return steps_; }

  /// Views of the moments: "exp_avg.NAME" and "exp_avg_sq.NAME" of every parameter.
  core::NamedTensors moments() const;
  /// Continues from stored moments. @throws InputError for a missing tensor, another shape or dtype
  void restore(const core::SafetensorsFile& file, int64_t steps);

 private:
  struct Group {
    at::Tensor parameters, exp_avg, exp_avg_sq;
    AdamWOptions options;  // weight decay of this group
  };
  void step_cpu(const Group& group, at::Tensor gradient, double learning_rate, double factor) const;

  models::ParameterStore& store_;
  std::array<Group, 2> groups_;  // [Decay]
  int64_t steps_ = 0;
};

}  // namespace exactmamba::train
