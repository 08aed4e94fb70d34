#include "models/mamba_lm.h"

namespace exactmamba::models {
namespace {

/// Collects the parameters of one module under the names that Hugging Face gives them.
class SpecList {
 public:
  explicit SpecList(std::vector<ParameterSpec>& specs) : specs_(specs) {}
  void prefix(std::string text) { prefix_ = std::move(text); }
  void add(const std::string& name, std::vector<int64_t> shape, Decay decay) {
    specs_.push_back({prefix_ + name, std::move(shape), decay});
  }

 private:
  std::vector<ParameterSpec>& specs_;
  std::string prefix_;
};

void add_mamba1(SpecList& list, const ModelConfig& config) {
  const int64_t D = config.d_inner(), N = config.d_state, R = config.dt_rank;
  list.add("A_log", {D, N}, Decay::kNo);
  list.add("D", {D}, Decay::kNo);
  list.add("x_proj.weight", {R + 2 * N, D}, Decay::kYes);
  list.add("dt_proj.weight", {D, R}, Decay::kYes);
  list.add("dt_proj.bias", {D}, Decay::kNo);
}

void add_mamba2(SpecList& list, const ModelConfig& config) {
  const int64_t H = config.heads();
  list.add("A_log", {H}, Decay::kNo);
  list.add("D", {H}, Decay::kNo);
  list.add("dt_bias", {H}, Decay::kNo);
  list.add("norm.weight", {config.d_inner()}, Decay::kNo);
}

void add_mixer(SpecList& list, const ModelConfig& config) {
  const int64_t d = config.d_model, D = config.d_inner(), C = config.conv_channels(),
                rows = config.in_proj_rows();
  list.add("in_proj.weight", {rows, d}, Decay::kYes);
  if (config.use_bias) list.add("in_proj.bias", {rows}, Decay::kNo);
  list.add("conv1d.weight", {C, 1, config.d_conv}, Decay::kYes);
  if (config.use_conv_bias) list.add("conv1d.bias", {C}, Decay::kNo);
  config.architecture == Architecture::kMamba1 ? add_mamba1(list, config) : add_mamba2(list, config);
  list.add("out_proj.weight", {d, D}, Decay::kYes);
  if (config.use_bias) list.add("out_proj.bias", {d}, Decay::kNo);
}

}  // namespace

std::vector<ParameterSpec> parameter_specs(const ModelConfig& config) {
  std::vector<ParameterSpec> specs;
  SpecList list(specs);
  list.prefix("backbone.");
  list.add("embeddings.weight", {config.vocab_rows, config.d_model}, Decay::kYes);
  for (int64_t layer = 0; layer < config.n_layer; ++layer) {
    const std::string block = "backbone.layers." + std::to_string(layer) + ".";
    list.prefix(block);
    list.add("norm.weight", {config.d_model}, Decay::kNo);
    list.prefix(block + "mixer.");
    add_mixer(list, config);
  }
  list.prefix("backbone.");
  list.add("norm_f.weight", {config.d_model}, Decay::kNo);
  list.prefix("");
  if (!config.tie_embeddings) list.add("lm_head.weight", {config.vocab_rows, config.d_model}, Decay::kYes);
  return specs;
}

}  // namespace exactmamba::models
