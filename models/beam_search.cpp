#include "models/beam_search.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include <ATen/ops/log_softmax.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/topk.h>

#include "core/error.h"
#include "models/prompts.h"

namespace exactmamba::models {
namespace {

constexpr double kNever = -std::numeric_limits<double>::infinity();  // log p of a row that is none

/// A continuation of a live hypothesis by one token.
struct Candidate {
  double log_probability;  // of all tokens
  size_t live;
  int64_t token;
};

/// A hypothesis that goes on, and the row that has its state.
struct Live {
  std::vector<int64_t> tokens;
  double log_probability;
  int64_t row;
};

/// What is known about one prompt.
class Search {
 public:
  Search(const BeamOptions& options, int64_t max_new_tokens, int64_t row)
      : options_(options), max_new_tokens_(max_new_tokens), live_({{{}, 0, row}}) {}

  const std::vector<Live>& live() const { return live_; }

  /// The likeliest continuations, best first.
  void take(const std::vector<Candidate>& candidates) {
    std::vector<Live> next;
    for (size_t rank = 0; rank < candidates.size(); ++rank) {
      const Candidate& candidate = candidates[rank];
      const Live& from = live_[candidate.live];
      const bool ends = candidate.token == options_.stop_token || length_of(from) + 1 == max_new_tokens_;
      if (ends && rank >= beam()) continue;
      if (!ends && next.size() == beam()) continue;
      std::vector<int64_t> tokens = from.tokens;
      tokens.push_back(candidate.token);
      if (ends)
        add_ended({std::move(tokens), score(candidate.log_probability, length_of(from) + 1)});
      else
        next.push_back({std::move(tokens), candidate.log_probability, from.row});
    }
    live_ = std::move(next);
    if (is_over()) live_.clear();
  }

  std::vector<Hypothesis> best() && {
    ended_.resize(std::min(ended_.size(), static_cast<size_t>(options_.n_best)));
    return std::move(ended_);
  }

  /// The states of the live hypotheses are now in the rows from `first` on.
  void place(int64_t first) {
    for (Live& live : live_) live.row = first++;
  }

 private:
  static int64_t length_of(const Live& live) { return static_cast<int64_t>(live.tokens.size()); }
  size_t beam() const { return static_cast<size_t>(options_.beam); }

  double score(double log_probability, int64_t length) const {
    return log_probability / std::pow(static_cast<double>(length), options_.length_penalty);
  }

  void add_ended(Hypothesis hypothesis) {
    const auto place =
        std::upper_bound(ended_.begin(), ended_.end(), hypothesis,
                         [](const Hypothesis& a, const Hypothesis& b) { return a.score > b.score; });
    ended_.insert(place, std::move(hypothesis));
    if (ended_.size() > beam()) ended_.pop_back();
  }

  bool is_over() const {
    return live_.empty() ||
           (ended_.size() == beam() &&
            score(live_.front().log_probability, length_of(live_.front())) <= ended_.back().score);
  }

  const BeamOptions& options_;
  int64_t max_new_tokens_;
  std::vector<Live> live_;         // the likeliest first
  std::vector<Hypothesis> ended_;  // the best first
};

/// The searches of all prompts, those that are not over in rows side by side.
class Searches {
 public:
  Searches(const MambaLM& model, const std::vector<std::vector<int64_t>>& prompts,
           const std::vector<int64_t>& max_new_tokens, const BeamOptions& options)
      : model_(model), options_(options) {
    for (size_t i = 0; i < prompts.size(); ++i) {
      searches_.emplace_back(options, max_new_tokens[i], static_cast<int64_t>(i));
      active_.push_back(i);
    }
    logits_ = prefill_prompts(model, prompts, state_);
  }

  std::vector<std::vector<Hypothesis>> run() {
    while (true) {
      take();
      std::erase_if(active_, [this](size_t i) { return searches_[i].live().empty(); });
      if (active_.empty()) break;
      step();
    }
    std::vector<std::vector<Hypothesis>> results;
    for (Search& search : searches_) results.push_back(std::move(search).best());
    return results;
  }

 private:
  /// Gives every active search its likeliest continuations. Its rows are side by side, `width_` of them.
  void take() {
    const auto searches = static_cast<int64_t>(active_.size());
    const at::ScalarType dtype = logits_.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
    const int64_t vocab = logits_.size(1);
    const at::Tensor sums = logits_.log_softmax(1, dtype).add_(so_far().to(logits_.device(), dtype));
    const auto [top, at_index] =
        sums.view({searches, width_ * vocab}).topk(std::min(2 * options_.beam, width_ * vocab), 1);
    const at::Tensor values = top.to(at::kCPU, at::kDouble), indices = at_index.cpu();
    for (int64_t i = 0; i < searches; ++i) {
      const double* value = values.const_data_ptr<double>() + i * values.size(1);
      const int64_t* index = indices.const_data_ptr<int64_t>() + i * values.size(1);
      std::vector<Candidate> candidates;
      for (int64_t k = 0; k < values.size(1); ++k) {
        require_finite_logits(!std::isnan(value[k]), model_);
        if (value[k] == kNever) break;
        candidates.push_back({value[k], static_cast<size_t>(index[k] / vocab), index[k] % vocab});
      }
      searches_[active_[i]].take(candidates);
    }
  }

  /// (rows, 1): log p of the hypothesis in each row; −∞ in rows that are none.
  at::Tensor so_far() const {
    std::vector<double> sums;
    for (const size_t i : active_) {
      for (const Live& live : searches_[i].live()) sums.push_back(live.log_probability);
      sums.resize(sums.size() + static_cast<size_t>(width_) - searches_[i].live().size(), kNever);
    }
    return at::tensor(sums, at::kDouble).unsqueeze(1);
  }

  /// One more token of every live hypothesis. Of searches that have fewer than others the first one is there
  /// several times.
  void step() {
    size_t width = 0;
    for (const size_t i : active_) width = std::max(width, searches_[i].live().size());
    std::vector<int64_t> rows, tokens;
    for (const size_t i : active_) {
      const size_t first = rows.size();
      for (const Live& live : searches_[i].live()) {
        rows.push_back(live.row);
        tokens.push_back(live.tokens.back());
      }
      rows.resize(first + width, int64_t{rows[first]});
      tokens.resize(first + width, int64_t{tokens[first]});
      searches_[i].place(static_cast<int64_t>(first));
    }
    width_ = static_cast<int64_t>(width);
    select_rows(state_, rows);
    logits_ = step_rows(model_, at::tensor(tokens, at::kLong), state_);
  }

  const MambaLM& model_;
  const BeamOptions& options_;
  std::vector<Search> searches_;  // [prompt]
  std::vector<size_t> active_;    // prompts
  int64_t width_ = 1;             // rows of each active prompt
  State state_;
  at::Tensor logits_;  // (active · width, V)
};

void check_prompts(const std::vector<std::vector<int64_t>>& prompts,
                   const std::vector<int64_t>& max_new_tokens) {
  core::require(max_new_tokens.size() == prompts.size(), "beam search: {} lengths for {} prompts",
                max_new_tokens.size(), prompts.size());
  for (const int64_t length : max_new_tokens)
    core::require(length >= 1, "beam search: max_new_tokens is {}, but must be at least 1", length);
}

}  // namespace

void check(const BeamOptions& options) {
  core::require(options.n_best >= 1 && options.n_best <= options.beam,
                "beam search: the {} best of a beam of {} cannot be had; give 1 ≤ n_best ≤ beam",
                options.n_best, options.beam);
  core::require(std::isfinite(options.length_penalty), "beam search: the length penalty is {}",
                options.length_penalty);
}

std::vector<std::vector<Hypothesis>> beam_search(const MambaLM& model,
                                                 const std::vector<std::vector<int64_t>>& prompts,
                                                 const std::vector<int64_t>& max_new_tokens,
                                                 const BeamOptions& options) {
  check(options);
  check_prompts(prompts, max_new_tokens);
  if (prompts.empty()) return {};
  return Searches(model, prompts, max_new_tokens, options).run();
}

}  // namespace exactmamba::models
