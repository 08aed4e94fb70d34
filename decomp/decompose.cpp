#include "decomp/decompose.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <set>

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/roll.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include "core/dtype.h"
#include "core/error.h"
#include "core/log.h"
#include "core/number.h"
#include "decomp/attention_map.h"
#include "decomp/rollout.h"
#include "decomp/tile_producer.h"
#include "models/ops/sequences.h"

namespace exactmamba::decomp {
namespace {

using models::LayerTrace;

at::Tensor boundaries(const Row& row) {
  if (row.cu_seqlens.defined()) return row.cu_seqlens;
  at::Tensor whole = at::zeros({2}, at::kInt);
  whole[1] = row.input_ids.size(0);
  return whole;
}

template <class T>
std::vector<int64_t> as_vector(const at::Tensor& tensor) {
  const at::Tensor contiguous = tensor.contiguous();
  return {contiguous.const_data_ptr<T>(), contiguous.const_data_ptr<T>() + contiguous.numel()};
}

/// Ids are from `lowest_id` up and below `vocabulary`.
void check_ids(const Row& row, const char* name, const at::Tensor& ids, int64_t length, int64_t lowest_id,
               int64_t vocabulary) {
  core::require(ids.dim() == 1 && ids.size(0) == length && length > 0 && ids.scalar_type() == at::kLong,
                "row {}: {} must be one non-empty row of {} int64, not {} of {}", row.index, name, length,
                c10::str(ids.sizes()), core::dtype_text(ids.scalar_type()));
  const int64_t lowest = ids.min().item<int64_t>(), highest = ids.max().item<int64_t>();
  core::require(lowest >= lowest_id && highest < vocabulary,
                "row {}: {}: id {} is outside the vocabulary of {}", row.index, name,
                lowest < lowest_id ? lowest : highest, vocabulary);
}

void check_row(const models::MambaLM& model, const Row& row, const DecomposeOptions& options) {
  const models::ModelConfig& config = model.config();
  core::require(model.parameters().dtype() == options.scalar_type(),
                "the model is {}, but decompose.dtype is {}; convert it first",
                core::dtype_text(model.parameters().dtype()), options.dtype);
  core::require(row.input_ids.defined(), "row {} has no token ids", row.index);
  check_ids(row, "input_ids", row.input_ids, row.input_ids.numel(), 0, config.vocab_rows);
  if (row.targets.defined())
    check_ids(row, "targets", row.targets, row.input_ids.size(0), kPredicted, config.vocab_size);
  for (const int64_t layer : options.layers)
    core::require(0 <= layer && layer < config.n_layer,
                  "decompose.layers: the model has layers 0 to {}, not {}", config.n_layer - 1, layer);
}

bool keeps_layer(const DecomposeOptions& options, int64_t layer) {
  return options.layers.empty() ||
         std::find(options.layers.begin(), options.layers.end(), layer) != options.layers.end();
}

/// Whose logit is split, and its gradient with respect to the stream after the last block, the norm's
/// statistics frozen.
struct Target {
  at::Tensor tokens;      // (L)
  at::Tensor directions;  // (L, d) g_i = E_v ⊙ w_f · ρ_i
  at::Tensor logits;      // (L) ⟨g_i, r_top,i⟩
  at::Tensor embedding;   // (L) ⟨g_i, e_i⟩
};

Target make_target(const models::TopTrace& top, const at::Tensor& tokens) {
  Target target;
  target.tokens = tokens.defined() ? at::where(tokens.eq(kPredicted), top.predicted, tokens) : top.predicted;
  target.directions =
      (top.head_weight.index_select(0, target.tokens) * top.norm_weight * top.rho.unsqueeze(1)).contiguous();
  target.logits = (target.directions * top.r_top).sum(1);
  target.embedding = (target.directions * top.embedding).sum(1);
  return target;
}

void check_finite(const InteractionMap& map) {
  const std::string layer = map.layer == kWholeModel ? "all layers" : fmt::format("layer {}", map.layer);
  core::require<core::NumericalError>(map.values.isfinite().all().item<bool>(),
                                      "row {}, {}: the map {} holds a number that is not finite",
                                      map.row.index, layer, map.title());
}

/// Hands on a map of a layer, if the options want its layer.
void visit_layer_map(const InteractionMap& description, const DecomposeOptions& options, int64_t layer,
                     const char* method, const at::Tensor& values, const MapVisitor& visit) {
  if (!keeps_layer(options, layer)) return;
  InteractionMap map = description;
  map.layer = layer;
  map.method = method;
  map.values = values;
  check_finite(map);
  visit(map);
}

/// The maps that need no approximation.
class AttentionRun {
 public:
  AttentionRun(const DecomposeOptions& options, InteractionMap description, const MapVisitor& visit)
      : options_(options), description_(std::move(description)), visit_(visit) {
    description_.bias = bias_rule_name(BiasRule::kOwn);  // there is no column of biases
  }

  void add_layer(const LayerTrace& trace) {
    const bool rolls_out = options_.wants("mamba_attention_rollout");
    const bool shows = options_.wants("mamba_attention") || options_.wants("mamba_attention_signed");
    if (!rolls_out && !(shows && keeps_layer(options_, trace.layer))) return;
    const AttentionMaps maps = attention_maps(trace);
    visit_map(trace.layer, "mamba_attention", maps.mean);
    visit_map(trace.layer, "mamba_attention_signed", maps.signed_mean);
    if (rolls_out) {
      if (!rollout_) rollout_.emplace(trace.length(), BiasRule::kOwn, trace.y.options());
      visit_map(trace.layer, "mamba_attention_rollout", rollout_->add(attention_with_residual(maps.mean)));
    }
  }

 private:
  void visit_map(int64_t layer, const char* method, const at::Tensor& values) {
    if (options_.wants(method)) visit_layer_map(description_, options_, layer, method, values, visit_);
  }

  const DecomposeOptions& options_;
  InteractionMap description_;
  const MapVisitor& visit_;
  std::optional<Rollout> rollout_;
};

/// Everything that one approximation collects on its way up through the layers.
class ApproximationRun {
 public:
  ApproximationRun(Approximation approximation, const DecomposeOptions& options,
                   const std::optional<Target>& target, InteractionMap description, int64_t length,
                   at::TensorOptions tensors, const MapVisitor& visit)
      : approximation_(approximation),
        bias_(options.bias_rule()),
        options_(options),
        target_(target),
        description_(std::move(description)),
        visit_(visit),
        rollout_(length, bias_, tensors) {
    description_.approximation = approximation_name(approximation);
  }

  void add_layer(const LayerTrace& trace);
  void finish();
  const std::vector<ApproximationError>& errors() const { return errors_; }

 private:
  bool rolls_out() const { return target_ || options_.wants("rollout"); }
  void visit_map(int64_t layer, const char* method, const at::Tensor& values);
  void check_error(int64_t layer) const;
  void add_rollout(const LayerTrace& trace, const at::Tensor& alti, const at::Tensor& logit_map,
                   const at::Tensor& sum);

  Approximation approximation_;
  BiasRule bias_;
  const DecomposeOptions& options_;
  const std::optional<Target>& target_;  // with alti_logit only
  InteractionMap description_;
  const MapVisitor& visit_;
  Rollout rollout_;
  std::vector<ApproximationError> errors_;  // [layer]
  at::Tensor total_;                        // Σ_l of the mixed logit maps
  std::vector<at::Tensor> rest_, biases_;   // [layer] (L)
};

void ApproximationRun::visit_map(int64_t layer, const char* method, const at::Tensor& values) {
  visit_layer_map(description_, options_, layer, method, values, visit_);
}

void ApproximationRun::check_error(int64_t layer) const {
  for (const ErrorMeasure measure : kErrorMeasures) {
    const double value = errors_.back().value(measure);
    core::require<core::NumericalError>(std::isfinite(value), "row {}, layer {}: the {} of {} is {}",
                                        description_.row.index, layer, error_measure_name(measure),
                                        description_.approximation, core::shown(value));
  }
}

void ApproximationRun::add_layer(const LayerTrace& trace) {
  const at::Tensor sum = contribution_sum(trace, approximation_, bias_);
  errors_.push_back(approximation_error(trace, approximation_, bias_, sum));
  check_error(trace.layer);

  std::vector<std::pair<const char*, std::unique_ptr<NormMap>>> norms;
  for (const auto& [method, norm] : {std::pair{"l1", Norm::kL1}, {"l2", Norm::kL2}, {"linf", Norm::kLinf}})
    if (options_.wants(method) && keeps_layer(options_, trace.layer))
      norms.emplace_back(method, std::make_unique<NormMap>(trace, bias_, norm));
  std::optional<AltiMap> alti, alti_residual;
  std::optional<LogitMap> logit;
  if (options_.wants("alti") && keeps_layer(options_, trace.layer)) alti.emplace(trace, bias_, false);
  if (rolls_out()) alti_residual.emplace(trace, bias_, true);
  if (target_) logit.emplace(trace, bias_, target_->directions);

  std::vector<Aggregator*> aggregators;
  for (const auto& [method, map] : norms) aggregators.push_back(map.get());
  if (alti) aggregators.push_back(&*alti);
  if (alti_residual) aggregators.push_back(&*alti_residual);
  if (logit) aggregators.push_back(&*logit);
  if (!aggregators.empty()) produce_tiles(trace, approximation_, bias_, aggregators);

  for (const auto& [method, map] : norms) visit_map(trace.layer, method, map->map());
  if (alti) visit_map(trace.layer, "alti", alti->finish());
  if (alti_residual) add_rollout(trace, alti_residual->finish(), logit ? logit->map() : at::Tensor(), sum);
}

void ApproximationRun::add_rollout(const LayerTrace& trace, const at::Tensor& alti,
                                   const at::Tensor& logit_map, const at::Tensor& sum) {
  if (logit_map.defined()) {
    const at::Tensor mixed = rollout_.mixed(logit_map);
    total_ = total_.defined() ? total_ + mixed : mixed;
    rest_.push_back((target_->directions * (trace.y - sum)).sum(1));
    if (bias_ == BiasRule::kSeparate) biases_.push_back(logit_map.select(1, trace.length()).clone());
    visit_map(trace.layer, "alti_logit", logit_map);
    visit_map(trace.layer, "alti_logit_mixed", mixed);
  }
  const at::Tensor rolled = rollout_.add(alti);
  if (options_.wants("rollout")) visit_map(trace.layer, "rollout", rolled);
}

void ApproximationRun::finish() {
  if (!target_) return;
  InteractionMap map = description_;
  map.method = "alti_logit";
  map.values = total_;
  map.target_tokens = target_->tokens;
  map.target_logits = target_->logits;
  map.embedding = target_->embedding;
  map.rest = at::stack(rest_, 1);
  if (!biases_.empty()) map.biases = at::stack(biases_, 1);
  check_finite(map);
  visit_(map);
}

/// Of all tensors of full_contributions(), known before the first layer runs.
void check_size(const models::ModelConfig& config, const Row& row, const DecomposeOptions& options,
                int64_t limit_bytes) {
  const int64_t L = row.input_ids.size(0);
  int64_t pairs = options.bias_rule() == BiasRule::kSeparate ? L : 0;  // a bias column
  for (const ops::Sequence& sequence : ops::sequences_of(row.cu_seqlens, 1, L)) {
    const int64_t length = sequence.end - sequence.begin;
    pairs += length * (length + 1) / 2;
  }
  const std::set<int64_t> chosen(options.layers.begin(), options.layers.end());
  const auto layers = chosen.empty() ? config.n_layer : static_cast<int64_t>(chosen.size());
  const auto approximations = static_cast<int64_t>(options.approximations.size());
  const double bytes = static_cast<double>(pairs) * static_cast<double>(config.d_model * layers) *
                       static_cast<double>(approximations) *
                       static_cast<double>(c10::elementSize(options.scalar_type()));
  core::require(bytes <= static_cast<double>(limit_bytes),
                "the full contributions of {} positions, {} layers and {} approximations take {}, more than "
                "{}; use a shorter text, fewer layers or a map",
                L, layers, approximations, core::human_bytes(bytes),
                core::human_bytes(static_cast<double>(limit_bytes)));
}

}  // namespace

at::Tensor next_tokens(const Row& row) {
  at::Tensor targets = row.input_ids.roll(-1);
  for (const ops::Sequence& sequence : ops::sequences_of(boundaries(row), 1, targets.size(0)))
    targets[sequence.end - 1] = kPredicted;
  return targets;
}

RowOrigin origin_of(const Row& row, const std::string& model_checksum) {
  return {row.index, as_vector<int64_t>(row.input_ids), as_vector<int32_t>(boundaries(row)), model_checksum};
}

ErrorTable& ErrorTable::operator+=(const ErrorTable& other) {
  if (approximations.empty()) return *this = other;
  core::require(approximations == other.approximations && bias == other.bias && dtype == other.dtype &&
                    errors.size() == other.errors.size(),
                "error tables of different approximations, biases or dtypes cannot be merged");
  for (size_t a = 0; a < errors.size(); ++a)
    for (size_t layer = 0; layer < errors[a].size(); ++layer) errors[a][layer] += other.errors[a].at(layer);
  return *this;
}

ErrorTable decompose_row(const models::MambaLM& model, const std::string& model_checksum, const Row& row,
                         const DecomposeOptions& options, const MapVisitor& visit) {
  check_row(model, row, options);
  const at::Tensor cu_seqlens = boundaries(row);
  std::optional<Target> target;
  if (options.wants("alti_logit")) target = make_target(model.top(row.input_ids, cu_seqlens), row.targets);

  InteractionMap description;
  description.bias = options.bias;
  description.row = origin_of(row, model_checksum);
  std::vector<ApproximationRun> runs;
  for (const std::string& name : options.approximations)
    runs.emplace_back(approximation_from_name(name, "decompose.approximations"), options, target, description,
                      row.input_ids.size(0), at::TensorOptions(options.scalar_type()), visit);
  AttentionRun attention(options, description, visit);
  model.trace(row.input_ids, cu_seqlens, [&](const LayerTrace& trace) {
    for (ApproximationRun& run : runs) run.add_layer(trace);
    attention.add_layer(trace);
  });

  ErrorTable table{options.approximations, {}, options.bias, options.dtype};
  for (ApproximationRun& run : runs) {
    run.finish();
    table.errors.push_back(run.errors());
  }
  return table;
}

Decomposition decompose(const models::MambaLM& model, const std::vector<Row>& rows,
                        const DecomposeOptions& options) {
  const models::MambaLM converted = model.to(options.scalar_type());
  // A pass over all weights, needed by maps only.
  const std::string checksum = options.methods.empty() ? "" : converted.parameters().checksum();
  Decomposition result;
  const size_t count = std::min(rows.size(), static_cast<size_t>(options.max_rows));
  for (size_t n = 0; n < count; ++n)
    result.errors += decompose_row(converted, checksum, rows[n], options,
                                   [&](const InteractionMap& map) { result.maps.push_back(map); });
  return result;
}

RowContributions full_contributions(const models::MambaLM& model, const Row& row,
                                    const DecomposeOptions& options, int64_t limit_bytes) {
  check_row(model, row, options);
  check_size(model.config(), row, options, limit_bytes);
  const BiasRule bias = options.bias_rule();
  RowContributions result;
  model.trace(row.input_ids, boundaries(row), [&](const LayerTrace& trace) {
    if (!keeps_layer(options, trace.layer)) return;
    for (const std::string& name : options.approximations) {
      FullContributions full(trace, bias);
      produce_tiles(trace, approximation_from_name(name, "decompose.approximations"), bias, {&full});
      core::require<core::NumericalError>(
          full.contributions().isfinite().all().item<bool>(),
          "row {}, layer {}: the contributions of {} hold a number that is not finite", row.index,
          trace.layer, name);
      result.pairs = full.pairs();
      result.layers.push_back({trace.layer, name, full.contributions(), full.bias()});
    }
  });
  return result;
}

}  // namespace exactmamba::decomp
