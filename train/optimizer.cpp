#include "train/optimizer.h"

#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/full.h>
#include <ATen/ops/logical_not.h>
#include <ATen/ops/reciprocal.h>
#include <ATen/ops/zeros_like.h>

#include "core/dtype.h"
#include "core/error.h"

namespace exactmamba::train {

using models::Decay;

AdamW::AdamW(models::ParameterStore& store, AdamWOptions options) : store_(store), options_(options) {
  for (Decay decay : {Decay::kYes, Decay::kNo}) {
    const at::Tensor flat = store.flat(decay);
    groups_[static_cast<int>(decay)] = {flat, at::zeros_like(flat), at::zeros_like(flat),
                                        decay == Decay::kYes ? options.weight_decay : 0.0};
  }
}

bool AdamW::step(double learning_rate, const at::Tensor& factor, const at::Tensor& allowed) {
  if (store_.placement().device.is_cpu()) {
    if (!allowed.item<bool>()) return false;
    multiply_gradients(factor.item<double>());
    run(learning_rate, {}, {});
  } else {
    run(learning_rate, factor.reciprocal().to(at::kFloat), allowed.logical_not().to(at::kFloat));
    store_.refresh_compute_copies();
    if (!allowed.item<bool>()) return false;
  }
  ++steps_;
  return true;
}

void AdamW::multiply_gradients(double factor) {
  if (factor == 1) return;
  for (Decay decay : {Decay::kYes, Decay::kNo}) store_.flat_gradient(decay).mul_(factor);
}

/// The kernel on a GPU divides the gradients by `grad_scale` (() float) and changes nothing where `found_inf`
/// (() float) is 1.
void AdamW::run(double learning_rate, const std::optional<at::Tensor>& grad_scale,
                const std::optional<at::Tensor>& found_inf) {
  const at::Tensor count = at::full({}, static_cast<double>(steps_ + 1),
                                    at::TensorOptions().dtype(at::kFloat).device(store_.placement().device));
  for (Decay decay : {Decay::kYes, Decay::kNo}) {
    Group& group = groups_[static_cast<int>(decay)];
    at::_fused_adamw_({group.parameters}, {store_.flat_gradient(decay)}, {group.exp_avg}, {group.exp_avg_sq},
                      {}, {count}, learning_rate, options_.beta1, options_.beta2, group.weight_decay,
                      options_.eps,
                      /*amsgrad=*/false, /*maximize=*/false, grad_scale, found_inf);
  }
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
