#include "models/config.h"

#include <cmath>

#include "core/error.h"

namespace exactmamba::models {
namespace {

using core::require;

// Far above any model that exists, and low enough that no product below leaves int64.
constexpr int64_t kMaxWidth = int64_t{1} << 18;
constexpr int64_t kMaxParameters = int64_t{1} << 42;

struct Bound {
  const char* name;
  int64_t value, max;
};

void check_bounds(const std::vector<Bound>& bounds, const std::string& where) {
  for (const Bound& bound : bounds) {
    require(bound.value >= 1 && bound.value <= bound.max, "{}: {} is {}, but it must lie between 1 and {}",
            where, bound.name, bound.value, bound.max);
  }
}

void check_mamba2(const ModelConfig& c, const std::string& where) {
  check_bounds({{"head_dim", c.headdim, kMaxWidth},
                {"n_groups", c.ngroups, kMaxWidth},
                {"chunk_size", c.chunk_size, int64_t{1} << 20}},
               where);
  require(c.d_inner() % c.headdim == 0,
          "{}: expand x hidden_size is {}, which is not a multiple of head_dim {}: change one of them", where,
          c.d_inner(), c.headdim);
  require(c.heads() % c.ngroups == 0,
          "{}: {} heads cannot be shared by {} groups: n_groups must divide the number of heads", where,
          c.heads(), c.ngroups);
  require(c.dt_limit[0] >= 0.0 && c.dt_limit[0] < c.dt_limit[1],
          "{}: time_step_limit is [{}, {}], but it needs 0 <= first < second", where, c.dt_limit[0],
          c.dt_limit[1]);
}

void check_numbers(const ModelConfig& c, const std::string& where) {
  require(std::isfinite(c.norm_eps) && c.norm_eps > 0.0,
          "{}: layer_norm_epsilon is {}, but it must be positive", where, c.norm_eps);
  require(c.dt_init_min > 0.0 && c.dt_init_min <= c.dt_init_max && std::isfinite(c.dt_init_max),
          "{}: time_step_min is {} and time_step_max is {}, but they need 0 < min <= max", where,
          c.dt_init_min, c.dt_init_max);
  require(std::isfinite(c.dt_init_floor) && c.dt_init_floor > 0.0,
          "{}: time_step_floor is {}, but it must be positive", where, c.dt_init_floor);
  require(c.activation.alpha >= 0.0 && c.activation.alpha <= 1.0,
          "{}: conv_activation_alpha is {}, but it must lie between 0 and 1", where, c.activation.alpha);
}

int64_t layer_parameters(const ModelConfig& c) {
  const bool mamba1 = c.architecture == Architecture::kMamba1;
  const int64_t inner = c.d_inner();
  int64_t count = c.d_model;  // norm
  count += (c.in_proj_rows() + inner) * c.d_model;
  if (c.use_bias) count += c.in_proj_rows() + c.d_model;
  count += c.conv_channels() * (c.d_conv + (c.use_conv_bias ? 1 : 0));
  if (mamba1)
    count += (c.dt_rank + 2 * c.d_state) * inner + (c.dt_rank + 1) * inner + inner * c.d_state + inner;
  else
    count += 3 * c.heads() + inner;  // A_log, D, dt_bias and the gated norm
  return count;
}

}  // namespace

const char* architecture_name(Architecture architecture) {
  return kArchitectureNames[static_cast<size_t>(architecture)];
}

int64_t default_dt_rank(int64_t d_model) { return (d_model + 15) / 16; }

int64_t padded_vocabulary(int64_t vocab_size, int64_t multiple) {
  return (vocab_size + multiple - 1) / multiple * multiple;
}

int64_t ModelConfig::conv_channels() const {
  return architecture == Architecture::kMamba1 ? d_inner() : d_inner() + 2 * ngroups * d_state;
}

int64_t ModelConfig::in_proj_rows() const {
  return architecture == Architecture::kMamba1 ? 2 * d_inner() : d_inner() + conv_channels() + heads();
}

int64_t ModelConfig::parameter_count() const {
  const int64_t embeddings = vocab_rows * d_model * (tie_embeddings ? 1 : 2);
  return embeddings + n_layer * layer_parameters(*this) + d_model;
}

void ModelConfig::check(const std::string& where) const {
  check_bounds({{"hidden_size", d_model, kMaxWidth},
                {"num_hidden_layers", n_layer, int64_t{1} << 16},
                {"vocab_size", vocab_rows, int64_t{1} << 28},
                {"the true vocabulary size", vocab_size, vocab_rows},
                {"state_size", d_state, int64_t{1} << 16},
                {"conv_kernel", d_conv, 1024},
                {"expand", expand, 64}},
               where);
  if (architecture == Architecture::kMamba1)
    check_bounds({{"time_step_rank", dt_rank, kMaxWidth}}, where);
  else
    check_mamba2(*this, where);
  check_numbers(*this, where);
  require(layer_parameters(*this) <= kMaxParameters / n_layer && parameter_count() <= kMaxParameters,
          "{}: these sizes make a model of more than {} parameters", where, kMaxParameters);
}

}  // namespace exactmamba::models
