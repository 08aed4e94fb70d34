#include "models/ops/token_step/token_step_kernel.cuh"

namespace exactmamba::ops {

template int64_t step_out_parts<float>(int64_t, int64_t);
template int64_t step_head_parts<float>(int64_t, int64_t, int64_t);
template cudaError_t launch_step_embed(const StepEmbed<float>&);
template cudaError_t launch_step_next(const StepNext<float>&);
template cudaError_t launch_step_in(const StepIn<float>&);
template cudaError_t launch_step_rows(const StepRows<float>&);
template cudaError_t launch_step_out(const StepOut<float>&);
template cudaError_t launch_step_head(const StepHead<float>&);
template cudaError_t launch_step_scan1(const StepScan1<float, float>&);
template cudaError_t launch_step_scan1(const StepScan1<float, __nv_bfloat16>&);
template cudaError_t launch_step_scan2(const StepScan2<float, float>&);
template cudaError_t launch_step_scan2(const StepScan2<float, __nv_bfloat16>&);

}  // namespace exactmamba::ops
