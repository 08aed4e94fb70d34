// The flat gradient summed over ranks while backward runs. It is cut into slices of whole blocks by the
// layout alone, so that every rank sums the same slices in the same order, whatever its data and speed.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/distributed/communicator.h"
#include "models/parameter_store.h"

namespace exactmamba::train {

/// Where the gradient with weight decay is cut. Slice i goes from `begin` to where slice i − 1 begins, or to
/// the end of the buffer, and is complete when backward is done with block `layer`; -1: with the embedding.
struct GradientSlice {
  int64_t layer, begin;
};
/// From the last block to the first, at least `bytes` each but for the last of them, then the embedding.
std::vector<GradientSlice> gradient_slices(const models::ParameterStore& store, int64_t bytes);

/// Large enough for a link's full speed, small enough that the first leaves early in backward.
inline constexpr int64_t kSliceBytes = int64_t{128} << 20;

/// Of one update: to be made anew for each.
class GradientReducer {
 public:
  /// Slices have `bytes` at least.
  GradientReducer(models::ParameterStore& store, core::Communicator& communicator,
                  int64_t bytes = kSliceBytes);
  /// Starts the slices that are complete when backward is done with block `layer` (MambaLM::GradientVisitor).
  void ready(int64_t layer);
  /// Starts what is left, the gradient without weight decay too, and waits for all. Every rank must call it,
  /// with or without a backward pass.
  void finish();

 private:
  void start(const at::Tensor& gradient);

  models::ParameterStore& store_;
  core::Communicator& communicator_;
  std::vector<GradientSlice> slices_;
  size_t started_ = 0;
  std::vector<std::unique_ptr<core::PendingSum>> sums_;
};

}  // namespace exactmamba::train
