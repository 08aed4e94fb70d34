#include "eval/translation.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"
#include "models/beam_search.h"
#include "models/generation.h"

namespace exactmamba::eval {
namespace {

using Tokens = std::vector<int64_t>;

models::BeamOptions beam_options(const TranslateOptions& options, int64_t stop_token) {
  return {options.beam, options.n_best, options.length_penalty, stop_token};
}

void check(const TranslateOptions& options, const models::MambaLM& model,
           const data::TranslationTokenizer& tokenizer) {
  check(options);
  const int64_t tokens = tokenizer.tokenizer()->vocab_size();
  core::require(tokens <= model.config().vocab_size,
                "the tokenizer has {} tokens, but the model's vocabulary {}; use the tokenizer that it was "
                "trained with",
                tokens, model.config().vocab_size);
}

bool is_blank(const std::string& text) { return text.find_first_not_of(" \t\r\n") == std::string::npos; }

/// Sources that are translated together.
struct Batch {
  std::vector<size_t> sources;  // their indices
  std::vector<Tokens> prompts;
  std::vector<int64_t> max_new_tokens;
};

/// All that are not empty, the shortest first.
std::vector<Batch> batches_of(const std::vector<std::string>& sources,
                              const data::TranslationTokenizer& tokenizer, const TranslateOptions& options) {
  std::vector<Tokens> prompts;
  std::vector<size_t> order;
  for (size_t i = 0; i < sources.size(); ++i) {
    prompts.push_back(tokenizer.prompt(sources[i]));
    if (!is_blank(sources[i])) order.push_back(i);
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return prompts[a].size() < prompts[b].size(); });
  std::vector<Batch> batches;
  for (const size_t i : order) {
    const auto length = static_cast<int64_t>(prompts[i].size());
    const bool full = batches.empty() ||
                      static_cast<int64_t>(batches.back().sources.size() + 1) * length > options.batch_tokens;
    if (full) batches.emplace_back();
    Batch& batch = batches.back();
    const double most = std::ceil(options.max_ratio * static_cast<double>(length - 1));
    batch.sources.push_back(i);
    batch.prompts.push_back(std::move(prompts[i]));
    batch.max_new_tokens.push_back(std::max(int64_t{1}, static_cast<int64_t>(most)));
  }
  return batches;
}

/// Calls `work(batch)` for every batch, and `progress` behind each.
template <class Work>
void for_each_batch(const std::vector<std::string>& sources, const data::TranslationTokenizer& tokenizer,
                    const TranslateOptions& options, const TranslateProgress& progress, const Work& work) {
  int64_t done = 0;
  for (const Batch& batch : batches_of(sources, tokenizer, options)) {
    work(batch);
    done += static_cast<int64_t>(batch.sources.size());
    if (progress) progress(done);
  }
}

/// The most likely token again and again, each source up to its own length.
std::vector<Tokens> greedy(const models::MambaLM& model, const Batch& batch, int64_t stop_token) {
  const int64_t most = *std::max_element(batch.max_new_tokens.begin(), batch.max_new_tokens.end());
  std::vector<Tokens> made =
      models::generate(model, batch.prompts, {.max_new_tokens = most, .stop_token = stop_token});
  for (size_t i = 0; i < made.size(); ++i)
    made[i].resize(std::min(made[i].size(), static_cast<size_t>(batch.max_new_tokens[i])));
  return made;
}

}  // namespace

void check(const TranslateOptions& options) {
  models::check(beam_options(options, -1));
  core::require(options.max_ratio > 0 && options.max_ratio <= 1e6,
                "translating: max_ratio is {}, but must be above 0 and at most 1000000", options.max_ratio);
  core::require(options.batch_tokens >= 1, "translating: batch_tokens is {}, but must be at least 1",
                options.batch_tokens);
}

std::vector<std::string> translate(const models::MambaLM& model, const data::TranslationTokenizer& tokenizer,
                                   const std::vector<std::string>& sources, const TranslateOptions& options,
                                   const TranslateProgress& progress) {
  check(options, model, tokenizer);
  std::vector<std::string> results(sources.size());
  for_each_batch(sources, tokenizer, options, progress, [&](const Batch& batch) {
    if (options.beam == 1) {
      const std::vector<Tokens> made = greedy(model, batch, tokenizer.end());
      for (size_t i = 0; i < made.size(); ++i) results[batch.sources[i]] = tokenizer.decode(made[i]);
      return;
    }
    const auto found = models::beam_search(model, batch.prompts, batch.max_new_tokens,
                                           beam_options(options, tokenizer.end()));
    for (size_t i = 0; i < found.size(); ++i)
      results[batch.sources[i]] = tokenizer.decode(found[i].at(0).tokens);
  });
  return results;
}

std::vector<std::vector<Translation>> n_best_translations(const models::MambaLM& model,
                                                          const data::TranslationTokenizer& tokenizer,
                                                          const std::vector<std::string>& sources,
                                                          const TranslateOptions& options,
                                                          const TranslateProgress& progress) {
  check(options, model, tokenizer);
  std::vector<std::vector<Translation>> results(sources.size(), {{"", 0}});
  for_each_batch(sources, tokenizer, options, progress, [&](const Batch& batch) {
    const auto found = models::beam_search(model, batch.prompts, batch.max_new_tokens,
                                           beam_options(options, tokenizer.end()));
    for (size_t i = 0; i < found.size(); ++i) {
      std::vector<Translation>& result = results[batch.sources[i]];
      result.clear();
      for (const models::Hypothesis& each : found[i])
        result.push_back({tokenizer.decode(each.tokens), each.score});
    }
  });
  return results;
}

}  // namespace exactmamba::eval
