#include "models/ops/embedding_gradient/embedding_gradient_cuda.h"

#include "models/ops/cuda/tensors.h"
#include "models/ops/embedding_gradient/embedding_gradient_cuda_params.h"

namespace exactmamba::ops {

void add_embedding_gradient_cuda(const at::Tensor& ids, const at::Tensor& grad_rows,
                                 at::Tensor& grad_weight) {
  const at::Tensor tokens = ids.contiguous();
  EmbeddingGradientCudaParams params;
  params.count = tokens.size(0);
  params.vocabulary = grad_weight.size(0);
  params.size = grad_weight.size(1);
  set(params.tokens, tokens);
  set(params.grad_out, grad_rows);
  set(params.grad_weight, grad_weight);
  params.stream = stream_of(grad_rows);
  const at::Tensor workspace = workspace_of(grad_rows, embedding_gradient_workspace(params));
  params.workspace = workspace.mutable_data_ptr();
  check_launch("embedding_gradient", launch_embedding_gradient(params));
}

}  // namespace exactmamba::ops
