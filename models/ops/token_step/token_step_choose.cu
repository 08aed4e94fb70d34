// The end of a token: the best of all parts of the head, whatever dtype they were computed in.
#include "models/ops/token_step/token_step_candidate.cuh"
#include "models/ops/token_step/token_step_product.cuh"

namespace exactmamba::ops {
namespace {

/// A block a sequence.
__global__ void __launch_bounds__(kStepThreads) step_choose_kernel(const __grid_constant__ StepChoose p) {
  wait_for_previous_launch();
  const int64_t b = blockIdx.x;
  Candidate best = Candidate::none();
  for (int64_t part = threadIdx.x; part < p.parts; part += kStepThreads)
    best.take_better(
        {load_fresh(p.best_value + b * p.parts + part), load_fresh(p.best_token + b * p.parts + part)});
  best.take_best_of_lanes<32>();
  __shared__ Candidate warps[kStepWarps];
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = best;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int w = 1; w < kStepWarps; ++w) best.take_better(warps[w]);
  p.tokens[b] = best.token;
  p.history[load_fresh(p.position) * p.batch + b] = best.token;
}

}  // namespace

cudaError_t launch_step_choose(const StepChoose& p) {
  return launch_dependent(step_choose_kernel, static_cast<unsigned>(p.batch), kStepThreads, 0, p.stream, p);
}

}  // namespace exactmamba::ops
