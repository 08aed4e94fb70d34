// Stands in for the CUDA kernels in a build without them.
#include "models/ops/checks.h"
#include "models/token_graph.h"

namespace exactmamba::models {

class TokenGraph::Implementation {};

bool TokenGraph::supports(const MambaLM&) { return false; }
TokenGraph::TokenGraph(const MambaLM&, int64_t, at::ScalarType) { ops::refuse_cuda("generation"); }
TokenGraph::~TokenGraph() = default;
void TokenGraph::begin(const State&, const at::Tensor&) { ops::refuse_cuda("generation"); }
at::Tensor TokenGraph::run(int64_t) { ops::refuse_cuda("generation"); }
State TokenGraph::state() const { ops::refuse_cuda("generation"); }

}  // namespace exactmamba::models
