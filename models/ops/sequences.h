// Sequence boundaries, the same for every operator. Tensors are (B, L, …); positions are numbered over the
// flattened B·L. `cu_seqlens` (S+1, int32, CPU): 0 = cu[0] < cu[1] < … < cu[S] = B·L, every row start among
// them: neither convolution nor state crosses a boundary. Undefined: each row is one sequence (S = B).
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/ops/rows.h"

namespace exactmamba::ops {

/// @throws InputError when cu_seqlens breaks the rules above.
std::vector<Sequence> sequences_of(const at::Tensor& cu_seqlens, int64_t batch, int64_t length);

}  // namespace exactmamba::ops
