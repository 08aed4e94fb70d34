#include "models/ops/token_step/token_step_kernel.cuh"

namespace exactmamba::ops {

template int64_t step_out_parts<__half>(int64_t, int64_t);
template int64_t step_head_parts<__half>(int64_t, int64_t, int64_t);
template cudaError_t launch_step_embed(const StepEmbed<__half>&);
template cudaError_t launch_step_next(const StepNext<__half>&);
template cudaError_t launch_step_in(const StepIn<__half>&);
template cudaError_t launch_step_rows(const StepRows<__half>&);
template cudaError_t launch_step_out(const StepOut<__half>&);
template cudaError_t launch_step_head(const StepHead<__half>&);
template cudaError_t launch_step_scan1(const StepScan1<__half, float>&);
template cudaError_t launch_step_scan1(const StepScan1<__half, __nv_bfloat16>&);
template cudaError_t launch_step_scan2(const StepScan2<__half, float>&);
template cudaError_t launch_step_scan2(const StepScan2<__half, __nv_bfloat16>&);

}  // namespace exactmamba::ops
