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
  bool equally_long = true;
  for (size_t i = 0; i < prompts.size(); ++i) {
    core::require(!prompts[i].empty(), "generation: prompt {} is empty; give at least one token", i);
    ids.insert(ids.end(), prompts[i].begin(), prompts[i].end());
    boundaries.push_back(static_cast<int32_t>(ids.size()));
    equally_long = equally_long && prompts[i].size() == prompts[0].size();
  }
  const auto layers = static_cast<size_t>(model.config().n_layer);
  // Undefined: nothing was seen, which needs no zeros.
  state = {std::vector<at::Tensor>(layers), std::vector<at::Tensor>(layers)};
  // Rows of one sequence each are scanned side by side; packed ones are cut into pieces and joined.
  const at::Tensor packed = at::tensor(ids, at::kLong),
                   logits =
                       equally_long
                           ? model.prefill(packed.view({static_cast<int64_t>(prompts.size()), -1}), state)
                           : model.prefill(packed.unsqueeze(0), state, at::tensor(boundaries, at::kInt));
  return logits.narrow(1, 0, model.config().vocab_size);
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
