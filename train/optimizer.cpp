#include "train/optimizer.h"

#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/full.h>
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

void AdamW::step(double learning_rate) {
  ++steps_;
  const at::Tensor count = at::full({}, static_cast<double>(steps_),
                                    at::TensorOptions().dtype(at::kFloat).device(store_.placement().device));
  for (Decay decay : {Decay::kYes, Decay::kNo}) {
    Group& group = groups_[static_cast<int>(decay)];
    at::_fused_adamw_({group.parameters}, {store_.flat_gradient(decay)}, {group.exp_avg}, {group.exp_avg_sq},
                      {}, {count}, learning_rate, options_.beta1, options_.beta2, group.weight_decay,
                      options_.eps,
                      /*amsgrad=*/false, /*maximize=*/false);
  }
  store_.refresh_compute_copies();
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
