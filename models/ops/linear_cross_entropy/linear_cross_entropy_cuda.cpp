#include "models/ops/linear_cross_entropy/linear_cross_entropy_cuda.h"

#include "models/ops/cuda/tensors.h"
#include "models/ops/linear_cross_entropy/linear_cross_entropy_cuda_params.h"

namespace exactmamba::ops {

void cross_entropy_rows_cuda(const LossRows& rows) {
  dispatch_cuda(rows.logits.scalar_type(), [&]<class T>() {
    CrossEntropyRowsCudaParams<T> params;
    params.rows = rows.logits.size(0);
    params.vocabulary = rows.logits.size(1);
    params.row_stride = rows.logits.stride(0);
    set(params.logits, rows.logits);
    set(params.targets, rows.targets);
    set(params.losses, rows.losses);
    set(params.predictions, rows.predictions);
    params.true_vocab = rows.true_vocab;
    params.write_gradient = rows.scale.has_value();
    params.scale = static_cast<float>(rows.scale.value_or(0));
    params.label_smoothing = static_cast<float>(rows.label_smoothing);
    params.stream = stream_of(rows.logits);
    check_launch("linear_cross_entropy", launch_cross_entropy_rows(params));
  });
}

}  // namespace exactmamba::ops
