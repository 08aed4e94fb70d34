#include "decomp/lanes.h"

#include <limits>

#include <ATen/Context.h>

namespace exactmamba::decomp {
namespace {

/// LibTorch sets the flag but does not read it; half of the smallest normal number tells.
bool flushes_denormals() {
  volatile float smallest = std::numeric_limits<float>::min();
  return smallest / 2 == 0;
}

}  // namespace

std::vector<LaneBlock> lane_blocks(const models::LayerTrace& trace, int64_t lanes) {
  const bool mamba1 = trace.architecture == models::Architecture::kMamba1;
  const int64_t heads = mamba1 ? 1 : trace.A.size(0), width = trace.d_inner() / heads;
  const int64_t heads_per_group = heads / trace.B.size(1);
  std::vector<LaneBlock> blocks;
  for (int64_t head = 0; head < heads; ++head)
    for (int64_t p = 0; p < width; p += lanes)
      blocks.push_back({head * width + p, std::min(lanes, width - p), head, head / heads_per_group});
  return blocks;
}

FlushDenormals::FlushDenormals()
    : was_on_(flushes_denormals()), supported_(at::globalContext().setFlushDenormal(true)) {}

FlushDenormals::~FlushDenormals() {
  if (supported_ && !was_on_) at::globalContext().setFlushDenormal(false);
}

}  // namespace exactmamba::decomp
