#include "models/generation.h"

#include <algorithm>
#include <numeric>
#include <optional>

#include <ATen/ops/argmax.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/tensor.h>

#include "core/dtype.h"
#include "core/error.h"
#include "models/prompts.h"
#include "models/token_graph.h"

namespace exactmamba::models {
namespace {

/// Tokens between two looks at them where somebody waits for them.
constexpr int64_t kStepsAtOnce = 16;

/// The most likely token of every row, where the logits are; −1 where one is not finite.
at::Tensor most_likely(const at::Tensor& logits) {
  return logits.argmax(1).masked_fill_(logits.isfinite().all(1).logical_not_(), -1);
}

/// Sequences that go on together: their states and last tokens.
class Sequences {
 public:
  Sequences(const MambaLM& model, const std::vector<std::vector<int64_t>>& prompts,
            at::ScalarType state_dtype, const GenerationOptions& options)
      : model_(model), state_dtype_(state_dtype) {
    if (options.sampling) sampler_.emplace(*options.sampling, prompts.size());
    if (uses_graph() && options.max_new_tokens > 1) make_graph(static_cast<int64_t>(prompts.size()));
    tokens_ = choose(prefill_prompts(model, prompts, state_));
    // The GPU has the prompts to do meanwhile.
    if (graph_) begin();
    tokens_ = tokens_.cpu();
  }

  /// (rows) on the CPU.
  const at::Tensor& tokens() const { return tokens_; }

  /// Tokens (steps, rows) on the CPU of the next steps, of which there are at most `most`.
  at::Tensor run(int64_t most) {
    if (!uses_graph()) {
      tokens_ = choose(step_rows(model_, tokens_, state_)).cpu();
      return tokens_.unsqueeze(0);
    }
    if (!graph_) {
      make_graph(tokens_.size(0));
      begin();
    }
    const at::Tensor steps = graph_->run(most);
    tokens_ = steps[-1];
    return steps;
  }

  /// Whether leaving out rows that have ended is worth it: a graph is made for a number of rows.
  bool should_shrink(size_t rows, size_t ended) const { return graph_ ? 2 * ended >= rows : ended > 0; }

  void keep(const std::vector<int64_t>& rows) {
    if (graph_) state_ = graph_->state();
    graph_.reset();
    select_rows(state_, rows);
    if (sampler_) sampler_->keep(rows);
    tokens_ = tokens_.index_select(0, at::tensor(rows, at::kLong));
  }

 private:
  bool uses_graph() const { return !sampler_ && TokenGraph::supports(model_); }
  void make_graph(int64_t rows) { graph_.emplace(model_, rows, state_dtype_); }
  void begin() {
    graph_->begin(state_, tokens_);
    state_ = {};
  }

  at::Tensor choose(const at::Tensor& logits) {
    return sampler_ ? sampler_->draw(logits) : most_likely(logits);
  }

  const MambaLM& model_;
  at::ScalarType state_dtype_;
  State state_;  // empty while a graph has it
  at::Tensor tokens_;
  std::optional<TokenGraph> graph_;  // greedy, on a GPU
  std::optional<Sampler> sampler_;
};

class Generator {
 public:
  Generator(const MambaLM& model, const GenerationOptions& options, const TokenCallback& on_token,
            const std::vector<std::vector<int64_t>>& prompts)
      : model_(model),
        options_(options),
        on_token_(on_token),
        sequences_(model, prompts, state_dtype(model, options), options),
        prompts_(prompts.size()),
        has_ended_(prompts.size()),
        results_(prompts.size()) {
    std::iota(prompts_.begin(), prompts_.end(), size_t{0});
  }

  std::vector<std::vector<int64_t>> run() {
    take(sequences_.tokens());
    int64_t made = 1;
    while (made < options_.max_new_tokens && drop_ended()) {
      const at::Tensor steps = sequences_.run(std::min(options_.max_new_tokens - made, most_steps()));
      for (int64_t step = 0; step < steps.size(0); ++step) take(steps[step]);
      made += steps.size(0);
    }
    return std::move(results_);
  }

 private:
  static at::ScalarType state_dtype(const MambaLM& model, const GenerationOptions& options) {
    core::require(!options.bfloat16_states || (TokenGraph::supports(model) && !options.sampling),
                  "generation: states in bfloat16 are for models on a GPU, of sizes and a dtype that its "
                  "fused steps know (Mamba-2: not float16), and not for sampling; leave them in {}",
                  core::dtype_text(model.placement().dtype));
    return options.bfloat16_states ? at::kBFloat16 : model.placement().dtype;
  }

  int64_t most_steps() const {
    return options_.stop_token >= 0 || on_token_ ? kStepsAtOnce : TokenGraph::kMostSteps;
  }

  /// One token of every row; those that have ended get none any more.
  void take(const at::Tensor& tokens) {
    const int64_t* token = tokens.const_data_ptr<int64_t>();
    for (size_t row = 0; row < prompts_.size(); ++row) {
      if (has_ended_[row]) continue;
      require_finite_logits(token[row] >= 0, model_);
      results_[prompts_[row]].push_back(token[row]);
      if (on_token_) on_token_(prompts_[row], token[row]);
      has_ended_[row] = token[row] == options_.stop_token;
    }
  }

  /// Whether any are left.
  bool drop_ended() {
    const auto ended = static_cast<size_t>(std::count(has_ended_.begin(), has_ended_.end(), true));
    if (ended == has_ended_.size()) return false;
    if (!sequences_.should_shrink(has_ended_.size(), ended)) return true;
    std::vector<int64_t> rows;
    std::vector<size_t> prompts;
    for (size_t row = 0; row < has_ended_.size(); ++row) {
      if (has_ended_[row]) continue;
      rows.push_back(static_cast<int64_t>(row));
      prompts.push_back(prompts_[row]);
    }
    sequences_.keep(rows);
    prompts_ = std::move(prompts);
    has_ended_.assign(rows.size(), false);
    return true;
  }

  const MambaLM& model_;
  const GenerationOptions& options_;
  const TokenCallback& on_token_;
  Sequences sequences_;
  std::vector<size_t> prompts_;  // [row] its prompt
  std::vector<bool> has_ended_;  // [row]
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
  return Generator(model, options, on_token, prompts).run();
}

}  // namespace exactmamba::models
