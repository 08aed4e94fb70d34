// Sequence boundaries, the same for every operator. Tensors are (B, L, …); positions are numbered over the
// flattened B·L. `cu_seqlens` (S+1, int32): 0 = cu[0] < cu[1] < … < cu[S] = B·L, every row start among
// them: neither convolution nor state crosses a boundary. Undefined: each row is one sequence (S = B).
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/ops/rows.h"

namespace exactmamba::ops {

/// Of a `cu_seqlens` on the CPU. @throws InputError when it breaks the rules above.
std::vector<Sequence> sequences_of(const at::Tensor& cu_seqlens, int64_t batch, int64_t length);

/// S. A `cu_seqlens` on a GPU is trusted: check it with sequences_of before it goes there.
int64_t sequence_count(const at::Tensor& cu_seqlens, int64_t batch);

/// What kernels read: `cu_seqlens` on `device`, checked on the way there; undefined stays undefined.
at::Tensor cu_seqlens_on(const at::Device& device, const at::Tensor& cu_seqlens, int64_t batch,
                         int64_t length);

}  // namespace exactmamba::ops
