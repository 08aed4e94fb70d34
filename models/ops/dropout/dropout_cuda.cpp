#include "models/ops/dropout/dropout_cuda.h"

#include "models/ops/cuda/tensors.h"
#include "models/ops/dropout/dropout_cuda_params.h"

namespace exactmamba::ops {

void dropout_cuda(const at::Tensor& x, const DropoutDraws& draws, const at::Tensor& out) {
  dispatch_cuda(x.scalar_type(), [&]<class T>() {
    DropoutCudaParams<T> params;
    params.rows = x.size(0);
    params.size = x.size(1) * x.size(2);
    set(params.x, x);
    set(params.out, out);
    const std::array<uint32_t, 2> key = draws.row(0).key();
    params.key[0] = key[0];
    params.key[1] = key[1];
    params.layer = static_cast<uint64_t>(draws.mask.layer);
    params.first_row = static_cast<uint64_t>(draws.mask.first_row);
    params.threshold = draws.threshold;
    params.scale = static_cast<float>(draws.scale);
    params.stream = stream_of(x);
    check_launch("dropout", launch_dropout(params));
  });
}

}  // namespace exactmamba::ops
