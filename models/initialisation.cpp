#include "models/initialisation.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <ATen/ops/arange.h>
#include <ATen/ops/log.h>
#include <ATen/ops/mean.h>

#include "core/error.h"
#include "core/random.h"

namespace exactmamba::models {
namespace {

constexpr double kEmbeddingDeviation = 0.02;
constexpr double kMimeticStepBias = 0.5413;  // the fork's softplus⁻¹(1), as written there
constexpr double kMimeticStateFactor = -8.0;

/// softplus⁻¹(v) = v + log(1 − e^−v)
double inverse_softplus(double value) { return value + std::log(-std::expm1(-value)); }

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

/// Fills one parameter; which rule is chosen by the end of its name.
class StandardInitialisation {
 public:
  StandardInitialisation(const ModelConfig& config, uint64_t seed) : config_(config), seed_(seed) {}

  void fill(const std::string& name, at::Tensor values) const {
    core::RandomStream random(seed_, "initialise." + name);
    if (ends_with(name, "embeddings.weight")) return random.fill_normal(values, 0.0, kEmbeddingDeviation);
    if (ends_with(name, "A_log")) return fill_A_log(values, random);
    if (ends_with(name, "dt_bias") || ends_with(name, "dt_proj.bias")) return fill_step_bias(values, random);
    if (ends_with(name, "mixer.D") || ends_with(name, "norm.weight") || ends_with(name, "norm_f.weight")) {
      values.fill_(1.0);
      return;
    }
    if (ends_with(name, "_proj.bias")) return;  // in_proj, out_proj: zero, as the store begins
    const double bound = uniform_bound(name, values);
    random.fill_uniform(values, -bound, bound);
  }

 private:
  /// Weights ~ U(±fan_in^-1/2), PyTorch's default for linear and convolution; out_proj's is divided by
  /// √n_layer.
  double uniform_bound(const std::string& name, const at::Tensor& values) const {
    if (ends_with(name, "conv1d.weight") || ends_with(name, "conv1d.bias")) {
      return 1.0 / std::sqrt(static_cast<double>(config_.d_conv));
    }
    const double bound = 1.0 / std::sqrt(static_cast<double>(values.size(1)));
    return ends_with(name, "out_proj.weight") ? bound / std::sqrt(static_cast<double>(config_.n_layer))
                                              : bound;
  }

  /// Mamba-1: log(1..N) in every channel; Mamba-2: log U(1, 16) per head.
  static void fill_A_log(at::Tensor& values, core::RandomStream& random) {
    if (values.dim() == 2) {
      values.copy_(at::arange(1, values.size(1) + 1, at::kDouble).log_().expand_as(values));
      return;
    }
    random.fill_uniform(values, 1.0, 16.0);
    values.log_();
  }

  /// softplus of the bias is log-uniform between dt_init_min and dt_init_max, at least dt_init_floor.
  void fill_step_bias(at::Tensor& values, core::RandomStream& random) const {
    const double low = std::log(config_.dt_init_min), high = std::log(config_.dt_init_max);
    for (int64_t i = 0; i < values.numel(); ++i) {
      values[i] = inverse_softplus(std::max(std::exp(random.uniform(low, high)), config_.dt_init_floor));
    }
  }

  const ModelConfig& config_;
  uint64_t seed_;
};

/// The rows of in_proj (Mamba-2) or x_proj (Mamba-1) that make B, followed by as many that make C.
struct CorrelatedRows {
  std::string weight;
  int64_t begin, count;
};

CorrelatedRows correlated_rows(const ModelConfig& config, bool faithful_fork) {
  if (config.architecture == Architecture::kMamba1) return {"x_proj.weight", config.dt_rank, config.d_state};
  return {"in_proj.weight", 2 * config.d_inner(),
          config.ngroups * (faithful_fork ? config.heads() : config.d_state)};
}

void correlate(const CorrelatedRows& rows, const ParameterScope& mixer) {
  const at::Tensor weight = mixer.value(rows.weight);
  core::require(
      rows.begin + 2 * rows.count <= weight.size(0),
      "model.mimetic_faithful_fork: {} heads need {} rows behind row {} of in_proj, which has {} rows; "
      "use the meant rule (faithful_fork = false)",
      rows.count, 2 * rows.count, rows.begin, weight.size(0));
  at::Tensor B = weight.narrow(0, rows.begin, rows.count);
  B.add_(weight.narrow(0, rows.begin + rows.count, rows.count)).mul_(0.5);
}

void set_unit_step(const ModelConfig& config, const ParameterScope& mixer) {
  const bool mamba1 = config.architecture == Architecture::kMamba1;
  if (mamba1) mixer.value("dt_proj.weight").zero_();
  mixer.value(mamba1 ? "dt_proj.bias" : "dt_bias").fill_(kMimeticStepBias);
}

/// The convolution passes the current token through.
void set_identity_convolution(const ModelConfig& config, const ParameterScope& mixer) {
  at::Tensor weight = mixer.value("conv1d.weight");
  weight.zero_();
  weight.select(2, config.d_conv - 1).fill_(1.0);
  if (config.use_conv_bias) mixer.value("conv1d.bias").zero_();
}

std::vector<int64_t> chosen_layers(const ModelConfig& config, const std::vector<int64_t>& layers) {
  if (layers.empty()) {
    std::vector<int64_t> all(static_cast<size_t>(config.n_layer));
    std::iota(all.begin(), all.end(), int64_t{0});
    return all;
  }
  for (const int64_t layer : layers) {
    core::require(layer >= 0 && layer < config.n_layer,
                  "model.mimetic_layers: layer {} does not exist; the model has layers 0 to {}", layer,
                  config.n_layer - 1);
  }
  return layers;
}

}  // namespace

void initialise(MambaLM& model, uint64_t seed) {
  const StandardInitialisation standard(model.config(), seed);
  for (const ParameterSpec& spec : model.parameters().specs()) {
    standard.fill(spec.name, model.parameters().parameter(spec.name));
  }
}

MambaLM with_vocab_rows(const MambaLM& model, int64_t vocab_rows) {
  ModelConfig config = model.config();
  core::require(vocab_rows >= config.vocab_rows,
                "a vocabulary of {} rows would cut the {} that the model has off; give at least those",
                vocab_rows, config.vocab_rows);
  config.vocab_rows = vocab_rows;
  MambaLM larger(config, model.placement());
  for (const ParameterSpec& spec : model.parameters().specs()) {
    const at::Tensor old = model.parameters().parameter(spec.name),
                     all = larger.parameters().parameter(spec.name);
    const int64_t rows = old.size(0);
    all.narrow(0, 0, rows).copy_(old);
    if (all.size(0) > rows) all.narrow(0, rows, all.size(0) - rows).copy_(old.mean(0, false, at::kDouble));
  }
  larger.parameters().refresh_compute_copies();
  return larger;
}

void apply_mimetic(MambaLM& model, const MimeticOptions& options) {
  const ModelConfig& config = model.config();
  for (const int64_t layer : chosen_layers(config, options.layers)) {
    const ParameterScope mixer(model.parameters(), "backbone.layers." + std::to_string(layer) + ".mixer.");
    if (options.state) mixer.value("A_log").mul_(kMimeticStateFactor);
    if (options.step_size) set_unit_step(config, mixer);
    if (options.convolution) set_identity_convolution(config, mixer);
    if (options.correlate_BC) correlate(correlated_rows(config, options.faithful_fork), mixer);
  }
}

}  // namespace exactmamba::models
