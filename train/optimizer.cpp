#include "train/optimizer.h"

#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros_like.h>

#include "core/dtype.h"
#include "core/error.h"
#include "train/adamw_cuda.h"

namespace exactmamba::train {

using models::Decay;

AdamW::AdamW(models::ParameterStore& store, AdamWOptions options) : store_(store) {
  AdamWOptions without_decay = options;
  without_decay.weight_decay = 0;
  for (Decay decay : {Decay::kYes, Decay::kNo}) {
    const at::Tensor flat = store.flat(decay);
    groups_[static_cast<int>(decay)] = {flat, at::zeros_like(flat), at::zeros_like(flat),
                                        decay == Decay::kYes ? options : without_decay};
  }
}

bool AdamW::step(double learning_rate, const at::Tensor& factor, const at::Tensor& allowed) {
  const bool on_gpu = store_.placement().device.is_cuda();
  if (!on_gpu && !allowed.item<bool>()) return false;
  for (Decay decay : {Decay::kYes, Decay::kNo}) {
    const Group& group = groups_[static_cast<int>(decay)];
    const at::Tensor gradient = store_.flat_gradient(decay);
    if (on_gpu)
      adamw_cuda({group.parameters, group.exp_avg, group.exp_avg_sq, gradient, store_.flat_compute(decay)},
                 group.options, steps_ + 1, learning_rate, factor, allowed);
    else
      step_cpu(group, gradient, learning_rate, factor.item<double>());
  }
  if (!allowed.item<bool>()) return false;
  ++steps_;
  return true;
}

void AdamW::step_cpu(const Group& group, at::Tensor gradient, double learning_rate, double factor) const {
  if (factor != 1) gradient.mul_(factor);
  const at::Tensor count = at::full({}, static_cast<double>(steps_ + 1), at::kFloat);
  const AdamWOptions& o = group.options;
  at::_fused_adamw_({group.parameters}, {gradient}, {group.exp_avg}, {group.exp_avg_sq}, {}, {count},
                    learning_rate, o.beta1, o.beta2, o.weight_decay, o.eps,
                    /*amsgrad=*/false, /*maximize=*/false);
}

core::NamedTensors AdamW::moments() const {
  core::NamedTensors tensors;
  for (const models::ParameterSpec& spec : store_.specs()) {
    const Group& group = groups_[static_cast<int>(spec.decay)];
    tensors.emplace_back("exp_avg." + spec.name, store_.view(spec.name, group.exp_avg));
    tensors.emplace_back("exp_avg_sq." + spec.name, store_.view(spec.name, group.exp_avg_sq));
  }
  return tensors;
}

void AdamW::restore(const core::SafetensorsFile& file, int64_t steps) {
  for (auto& [name, moment] : moments()) {
    const at::Tensor stored = file.tensor(name);
    core::require(stored.sizes() == moment.sizes() && stored.scalar_type() == moment.scalar_type(),
                  "{}: tensor '{}' has {} values of type {}, but the model needs {} of type {}; start in "
                  "another folder",
                  file.path().string(), name, stored.numel(), core::dtype_text(stored.scalar_type()),
                  moment.numel(), core::dtype_text(moment.scalar_type()));
    moment.copy_(stored);
  }
  steps_ = steps;
}

}  // namespace exactmamba::train
