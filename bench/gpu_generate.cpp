// Greedy generation: 256 tokens after a prompt of 100, prompt included in the time, bfloat16; and the prompt
// alone.
#include <optional>

#include <ATen/ops/randint.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>

#include "bench/gpu_models.h"
#include "bench/gpu_report.h"
#include "models/generation.h"

namespace exactmamba::bench {
namespace {

constexpr int64_t kPrompt = 100, kNewTokens = 256;

/// What one token of every sequence reads and writes: all weights once, the scans' states there and back.
double bytes_of_step(const models::MambaLM& model, int64_t batch, int64_t bytes_of_state) {
  const models::ModelConfig& c = model.config();
  return 2.0 * static_cast<double>(model.parameters().parameter_count()) +
         2.0 * static_cast<double>(batch * c.n_layer * c.d_inner() * c.d_state * bytes_of_state);
}

std::vector<std::vector<int64_t>> random_prompts(int64_t batch) {
  std::vector<std::vector<int64_t>> prompts;
  for (int64_t i = 0; i < batch; ++i) {
    const at::Tensor ids = at::randint(0, kVocabulary, {kPrompt}, at::kLong);
    prompts.emplace_back(ids.const_data_ptr<int64_t>(), ids.const_data_ptr<int64_t>() + kPrompt);
  }
  return prompts;
}

struct Variant {
  int64_t batch, new_tokens = kNewTokens;
  bool bfloat16_states = false;

  std::string name(const ModelSize& size) const {
    return fmt::format("{} {} batch {}{}", new_tokens == 1 ? "prompt" : "generate", size.name, batch,
                       bfloat16_states ? ", states in bfloat16" : "");
  }
};

void measure(Report& report, const std::string& name, const models::MambaLM& model, const Variant& v) {
  const std::vector<std::vector<int64_t>> prompts = random_prompts(v.batch);
  models::GenerationOptions options{v.new_tokens, -1};
  options.bfloat16_states = v.bfloat16_states;
  Measurement m{name, time_work([&] { models::generate(model, prompts, options); }, 5, 2)};
  m.tokens = static_cast<double>(v.batch * (v.new_tokens == 1 ? kPrompt : v.new_tokens));
  m.bytes = static_cast<double>(v.new_tokens) * bytes_of_step(model, v.batch, v.bfloat16_states ? 2 : 4);
  m.operations =
      static_cast<double>(v.batch * (kPrompt + v.new_tokens - 1)) * product_operations(model.config());
  report.add(m);
}

void measure(Report& report, const ModelSize& size, const std::vector<Variant>& variants) {
  std::optional<models::MambaLM> model;
  for (const Variant& variant : variants) {
    if (!report.wants(variant.name(size))) continue;
    if (!model)
      model.emplace(random_model(config_of(size), {at::kFloat, at::Device(at::kCUDA, 0), at::kBFloat16}));
    measure(report, variant.name(size), *model, variant);
  }
}

}  // namespace

void measure_generation(Report& report) {
  const c10::InferenceMode inference;
  measure(report, kModelSizes[1], {{1, 1}, {1}, {64, 1}, {64}, {64, kNewTokens, true}});
  measure(report, kModelSizes[3], {{1, 1}, {1}, {64, 1}, {64}, {64, kNewTokens, true}});
}

}  // namespace exactmamba::bench
