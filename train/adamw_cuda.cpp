#include "train/adamw_cuda.h"

#include <cmath>

#include "models/ops/cuda/tensors.h"
#include "train/adamw_cuda_params.h"

namespace exactmamba::train {

void adamw_cuda(const AdamWBuffers& buffers, const AdamWOptions& options, int64_t step, double learning_rate,
                const at::Tensor& factor, const at::Tensor& allowed) {
  const at::ScalarType compute = buffers.compute.defined() ? buffers.compute.scalar_type() : at::kFloat;
  const auto updates = static_cast<double>(step);
  ops::dispatch_cuda(compute, [&]<class T>() {
    AdamWCudaParams<T> params;
    params.count = buffers.parameters.numel();
    ops::set(params.parameters, buffers.parameters);
    ops::set(params.exp_avg, buffers.exp_avg);
    ops::set(params.exp_avg_sq, buffers.exp_avg_sq);
    ops::set(params.gradient, buffers.gradient);
    ops::set(params.compute, buffers.compute);
    ops::set(params.factor, factor);
    ops::set(params.allowed, allowed);
    params.beta1 = static_cast<float>(options.beta1);
    params.beta2 = static_cast<float>(options.beta2);
    params.eps = static_cast<float>(options.eps);
    params.decay = static_cast<float>(learning_rate * options.weight_decay);
    params.step_size = static_cast<float>(learning_rate / (1 - std::pow(options.beta1, updates)));
    params.correction = static_cast<float>(1 / std::sqrt(1 - std::pow(options.beta2, updates)));
    params.stream = ops::stream_of(buffers.parameters);
    ops::check_launch("adamw", launch_adamw(params));
  });
}

}  // namespace exactmamba::train
