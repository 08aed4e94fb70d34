#include "models/prompts.h"

#include <ATen/ops/index_select.h>
#include <ATen/ops/tensor.h>

#include "core/dtype.h"
#include "core/error.h"

namespace exactmamba::models {

at::Tensor prefill_prompts(const MambaLM& model, const std::vector<std::vector<int64_t>>& prompts,
                           State& state) {
  std::vector<int64_t> ids;
  std::vector<int32_t> boundaries = {0};
  for (size_t i = 0; i < prompts.size(); ++i) {
    core::require(!prompts[i].empty(), "generation: prompt {} is empty; give at least one token", i);
    ids.insert(ids.end(), prompts[i].begin(), prompts[i].end());
    boundaries.push_back(static_cast<int32_t>(ids.size()));
  }
  const auto layers = static_cast<size_t>(model.config().n_layer);
  // Undefined: nothing was seen, which needs no zeros.
  state = {std::vector<at::Tensor>(layers), std::vector<at::Tensor>(layers)};
  return model.prefill(at::tensor(ids, at::kLong).unsqueeze(0), state, at::tensor(boundaries, at::kInt))
      .narrow(1, 0, model.config().vocab_size);
}

at::Tensor step_rows(const MambaLM& model, const at::Tensor& tokens, State& state) {
  return model.step(tokens, state).narrow(1, 0, model.config().vocab_size);
}

void select_rows(State& state, const std::vector<int64_t>& rows) {
  if (state.conv.empty()) return;
  const at::Tensor there = at::tensor(rows, at::kLong).to(state.conv.front().device());
  for (at::Tensor& conv : state.conv) conv = conv.index_select(0, there);
  for (at::Tensor& ssm : state.ssm) ssm = ssm.index_select(0, there);
}

void require_finite_logits(bool finite, const MambaLM& model) {
  core::require<core::NumericalError>(
      finite, "generation: the model's logits are not finite (infinity or NaN): its weights overflow in {}",
      core::dtype_text(model.placement().compute_dtype));
}

}  // namespace exactmamba::models
