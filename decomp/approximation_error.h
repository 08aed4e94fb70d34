// How far Σ_j T_i(x_j) (bias column included) is from the mixer's own output y_i.
#pragma once

#include <array>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "decomp/approximation.h"
#include "models/layer_trace.h"

namespace exactmamba::decomp {

enum class ErrorMeasure {
  kL2Mean,         // mean_i ‖y_i − S_i‖₂ / ‖y_i‖₂ (the default)
  kL1Mean,         // the same with ‖·‖₁
  kL2RatioOfSums,  // Σ_i ‖y_i − S_i‖₂ / Σ_i ‖y_i‖₂
  kL2MeanNoSkip    // kL2Mean after taking D ⊙ u out of y and of every T
};
inline constexpr std::array kErrorMeasures = {ErrorMeasure::kL2Mean, ErrorMeasure::kL1Mean,
                                              ErrorMeasure::kL2RatioOfSums, ErrorMeasure::kL2MeanNoSkip};
inline constexpr core::Names<4> kErrorMeasureNames = {"l2_mean", "l1_mean", "l2_ratio_of_sums",
                                                      "l2_mean_noskip"};
const char* error_measure_name(ErrorMeasure measure);
/// @throws InputError naming `where`
ErrorMeasure error_measure_from_name(const std::string& name, const std::string& where);

/// Error of one layer over any number of positions; several rows are merged with +=. A position whose output
/// is exactly 0 while its approximation is not (small ReLU models have some) has no relative error: the means
/// are over the others.
class ApproximationError {
 public:
  /// 0 without positions to measure.
  double value(ErrorMeasure measure) const;
  int64_t positions() const { return positions_; }
  /// Positions that the means leave out.
  int64_t without_output() const { return positions_ - ratio_positions_; }
  ApproximationError& operator+=(const ApproximationError& other);

  /// What += adds, by name; from_sums() takes it back, to the bit. @throws InputError when one is missing
  std::map<std::string, double> sums() const;
  static ApproximationError from_sums(const std::map<std::string, double>& sums);

 private:
  friend ApproximationError approximation_error(const models::LayerTrace&, Approximation, BiasRule,
                                                const at::Tensor&);
  int64_t positions_ = 0, ratio_positions_ = 0, noskip_positions_ = 0;
  double l2_ratios_ = 0, l1_ratios_ = 0, noskip_ratios_ = 0;  // summed over positions
  double l2_differences_ = 0, l2_outputs_ = 0;
};

/// S_i = Σ_j T_i(x_j) + T_i(bias), (L, d), by the frozen recurrence in time linear in L: the sum of the
/// pieces goes through it at once.
at::Tensor contribution_sum(const models::LayerTrace& trace, Approximation approximation, BiasRule bias);

/// `sum`: contribution_sum() of the same arguments.
ApproximationError approximation_error(const models::LayerTrace& trace, Approximation approximation,
                                       BiasRule bias, const at::Tensor& sum);

/// Ranges [first, second) of layers that reports average over: blocks of 16, or thirds of a model of at most
/// 16 layers.
std::vector<std::pair<int64_t, int64_t>> layer_ranges(int64_t n_layer);

}  // namespace exactmamba::decomp
