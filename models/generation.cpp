#include "models/generation.h"

#include <numeric>

#include <ATen/ops/argmax.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/tensor.h>

#include "core/dtype.h"
#include "core/error.h"

namespace exactmamba::models {
namespace {

/// The most likely token of every row, pad rows left out.
std::vector<int64_t> most_likely(const at::Tensor& logits, int64_t vocab_size) {
  const at::Tensor real = logits.narrow(1, 0, vocab_size);
  core::require<core::NumericalError>(
      real.isfinite().all().item<bool>(),
      "generation: the model's logits are not finite (infinity or NaN): its weights overflow in {}",
      core::dtype_text(real.scalar_type()));
  const at::Tensor ids = real.argmax(1).cpu();
  const int64_t* first = ids.const_data_ptr<int64_t>();
  return {first, first + ids.numel()};
}

class Generator {
 public:
  Generator(const MambaLM& model, const GenerationOptions& options, const TokenCallback& on_token,
            size_t prompts)
      : model_(model),
        options_(options),
        on_token_(on_token),
        state_(model.initial_state(static_cast<int64_t>(prompts))),
        active_(prompts),
        results_(prompts) {
    std::iota(active_.begin(), active_.end(), size_t{0});
  }

  std::vector<std::vector<int64_t>> run(const std::vector<std::vector<int64_t>>& prompts) {
    at::Tensor logits = prefill(prompts);
    for (int64_t made = 1;; ++made) {
      std::vector<int64_t> tokens = most_likely(logits, model_.config().vocab_size);
      emit(tokens);
      if (made == options_.max_new_tokens) break;
      drop_finished(tokens);
      if (active_.empty()) break;
      logits = model_.step(at::tensor(tokens, at::kLong), state_);
    }
    return std::move(results_);
  }

 private:
  at::Tensor prefill(const std::vector<std::vector<int64_t>>& prompts) {
    std::vector<int64_t> ids;
    std::vector<int32_t> boundaries = {0};
    for (size_t i = 0; i < prompts.size(); ++i) {
      core::require(!prompts[i].empty(), "generation: prompt {} is empty; give at least one token", i);
      ids.insert(ids.end(), prompts[i].begin(), prompts[i].end());
      boundaries.push_back(static_cast<int32_t>(ids.size()));
    }
    return model_.prefill(at::tensor(ids, at::kLong).unsqueeze(0), state_, at::tensor(boundaries, at::kInt));
  }

  void emit(const std::vector<int64_t>& tokens) {
    for (size_t i = 0; i < active_.size(); ++i) {
      results_[active_[i]].push_back(tokens[i]);
      if (on_token_) on_token_(active_[i], tokens[i]);
    }
  }

  /// Sequences that met the stop token leave the batch, their state with them.
  void drop_finished(std::vector<int64_t>& tokens) {
    std::vector<int64_t> kept_rows, kept_tokens;
    std::vector<size_t> kept_active;
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (tokens[i] == options_.stop_token) continue;
      kept_rows.push_back(static_cast<int64_t>(i));
      kept_tokens.push_back(tokens[i]);
      kept_active.push_back(active_[i]);
    }
    if (kept_rows.size() == tokens.size()) return;
    const at::Tensor rows = at::tensor(kept_rows, at::kLong).to(model_.placement().device);
    for (at::Tensor& conv : state_.conv) conv = conv.index_select(0, rows);
    for (at::Tensor& ssm : state_.ssm) ssm = ssm.index_select(0, rows);
    tokens = std::move(kept_tokens);
    active_ = std::move(kept_active);
  }

  const MambaLM& model_;
  const GenerationOptions& options_;
  const TokenCallback& on_token_;
  State state_;
  std::vector<size_t> active_;  // [row of the state] index of its prompt
  std::vector<std::vector<int64_t>> results_;
};

}  // namespace

std::vector<std::vector<int64_t>> generate(const MambaLM& model,
                                           const std::vector<std::vector<int64_t>>& prompts,
                                           const GenerationOptions& options, const TokenCallback& on_token) {
  core::require(options.max_new_tokens >= 0, "generation: max_new_tokens is {}, but must not be negative",
                options.max_new_tokens);
  if (prompts.empty() || options.max_new_tokens == 0)
    return std::vector<std::vector<int64_t>>(prompts.size());
  return Generator(model, options, on_token, prompts.size()).run(prompts);
}

}  // namespace exactmamba::models
