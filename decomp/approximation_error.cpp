#include "decomp/approximation_error.h"

#include <algorithm>

#include <ATen/TensorOperators.h>
#include <ATen/ops/mm.h>

#include "core/error.h"
#include "decomp/frozen_scan.h"
#include "decomp/pieces.h"
#include "decomp/tile_producer.h"

namespace exactmamba::decomp {
namespace {

/// What all pieces together put into u: (L, D).
at::Tensor approximate_inputs(const models::LayerTrace& trace, Approximation approximation, BiasRule bias) {
  const Pieces pieces(trace, approximation, bias);
  return bias == BiasRule::kSeparate ? pieces.sum() + pieces.bias() : pieces.sum();
}

/// W_out (s ⊙ υ)
at::Tensor project(const models::LayerTrace& trace, const at::Tensor& upsilon) {
  return at::mm(upsilon * output_scale(trace), trace.out_weight.t());
}

/// ‖·‖_p of every row, in double.
at::Tensor row_norms(const at::Tensor& rows, double p) { return rows.to(at::kDouble).norm(p, 1); }

struct Ratios {
  double sum;
  int64_t count;  // of the positions that have a ratio
};

/// Σ_i numerator_i / denominator_i. 0/0 is no error; another finite numerator over 0 has no ratio.
Ratios sum_of_ratios(const at::Tensor& numerator, const at::Tensor& denominator) {
  const at::Tensor zero = denominator.eq(0).logical_and(numerator.isfinite());
  return {(numerator / denominator).masked_fill(zero, 0).sum().item<double>(),
          numerator.size(0) - zero.logical_and(numerator.ne(0)).sum().item<int64_t>()};
}

double mean(double sum, int64_t count) { return count == 0 ? 0 : sum / static_cast<double>(count); }

}  // namespace

const char* error_measure_name(ErrorMeasure measure) {
  return kErrorMeasureNames[static_cast<size_t>(measure)];
}

ErrorMeasure error_measure_from_name(const std::string& name, const std::string& where) {
  return core::enum_from_name<ErrorMeasure>(kErrorMeasureNames, name, where);
}

double ApproximationError::value(ErrorMeasure measure) const {
  switch (measure) {
    case ErrorMeasure::kL2Mean:
      return mean(l2_ratios_, ratio_positions_);
    case ErrorMeasure::kL1Mean:
      return mean(l1_ratios_, ratio_positions_);
    case ErrorMeasure::kL2MeanNoSkip:
      return mean(noskip_ratios_, noskip_positions_);
    case ErrorMeasure::kL2RatioOfSums:
      break;
  }
  return l2_outputs_ > 0 ? l2_differences_ / l2_outputs_ : l2_differences_;
}

ApproximationError& ApproximationError::operator+=(const ApproximationError& other) {
  positions_ += other.positions_;
  ratio_positions_ += other.ratio_positions_;
  noskip_positions_ += other.noskip_positions_;
  l2_ratios_ += other.l2_ratios_;
  l1_ratios_ += other.l1_ratios_;
  noskip_ratios_ += other.noskip_ratios_;
  l2_differences_ += other.l2_differences_;
  l2_outputs_ += other.l2_outputs_;
  return *this;
}

std::map<std::string, double> ApproximationError::sums() const {
  return {{"positions", static_cast<double>(positions_)},
          {"ratio_positions", static_cast<double>(ratio_positions_)},
          {"noskip_positions", static_cast<double>(noskip_positions_)},
          {"l2_ratios", l2_ratios_},
          {"l1_ratios", l1_ratios_},
          {"noskip_ratios", noskip_ratios_},
          {"l2_differences", l2_differences_},
          {"l2_outputs", l2_outputs_}};
}

ApproximationError ApproximationError::from_sums(const std::map<std::string, double>& sums) {
  const auto sum = [&sums](const char* name) {
    const auto found = sums.find(name);
    core::require(found != sums.end(), "an approximation error lacks '{}'", name);
    return found->second;
  };
  ApproximationError error;
  error.positions_ = static_cast<int64_t>(sum("positions"));
  error.ratio_positions_ = static_cast<int64_t>(sum("ratio_positions"));
  error.noskip_positions_ = static_cast<int64_t>(sum("noskip_positions"));
  error.l2_ratios_ = sum("l2_ratios");
  error.l1_ratios_ = sum("l1_ratios");
  error.noskip_ratios_ = sum("noskip_ratios");
  error.l2_differences_ = sum("l2_differences");
  error.l2_outputs_ = sum("l2_outputs");
  return error;
}

at::Tensor contribution_sum(const models::LayerTrace& trace, Approximation approximation, BiasRule bias) {
  check_trace(trace);
  const at::Tensor inputs = approximate_inputs(trace, approximation, bias);
  const at::Tensor sum = project(trace, frozen_scan(trace, inputs) + skip_per_channel(trace) * inputs);
  return trace.out_bias.defined() ? sum + trace.out_bias : sum;
}

ApproximationError approximation_error(const models::LayerTrace& trace, Approximation approximation,
                                       BiasRule bias, const at::Tensor& sum) {
  const at::Tensor difference = trace.y - sum;
  const at::Tensor inputs = activated(trace), skip = skip_per_channel(trace);
  const at::Tensor missed = inputs - approximate_inputs(trace, approximation, bias);
  const at::Tensor y_noskip = trace.y - project(trace, skip * inputs);
  const at::Tensor difference_noskip = difference - project(trace, skip * missed);

  ApproximationError error;
  error.positions_ = trace.length();
  const at::Tensor l2_difference = row_norms(difference, 2), l2_output = row_norms(trace.y, 2);
  const Ratios l2 = sum_of_ratios(l2_difference, l2_output);
  const Ratios noskip = sum_of_ratios(row_norms(difference_noskip, 2), row_norms(y_noskip, 2));
  error.ratio_positions_ = l2.count;
  error.noskip_positions_ = noskip.count;
  error.l2_ratios_ = l2.sum;
  error.l1_ratios_ = sum_of_ratios(row_norms(difference, 1), row_norms(trace.y, 1)).sum;
  error.noskip_ratios_ = noskip.sum;
  error.l2_differences_ = l2_difference.sum().item<double>();
  error.l2_outputs_ = l2_output.sum().item<double>();
  return error;
}

std::vector<std::pair<int64_t, int64_t>> layer_ranges(int64_t n_layer) {
  constexpr int64_t kBlock = 16;
  std::vector<std::pair<int64_t, int64_t>> ranges;
  if (n_layer > kBlock) {
    for (int64_t begin = 0; begin < n_layer; begin += kBlock)
      ranges.emplace_back(begin, std::min(begin + kBlock, n_layer));
  } else {
    const int64_t parts = std::min<int64_t>(3, n_layer);
    for (int64_t part = 0; part < parts; ++part)
      ranges.emplace_back(part * n_layer / parts, (part + 1) * n_layer / parts);
  }
  return ranges;
}

}  // namespace exactmamba::decomp
