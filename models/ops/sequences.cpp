#include "models/ops/sequences.h"

#include "core/device.h"
#include "core/dtype.h"
#include "core/error.h"

namespace exactmamba::ops {
namespace {

using core::require;

std::vector<Sequence> rows_as_sequences(int64_t batch, int64_t length) {
  std::vector<Sequence> sequences;
  sequences.reserve(batch);
  for (int64_t row = 0; row < batch; ++row) sequences.push_back({row * length, (row + 1) * length});
  return sequences;
}

void check_format(const at::Tensor& cu_seqlens) {
  require(cu_seqlens.scalar_type() == at::kInt, "cu_seqlens has dtype {}, but must be int32",
          core::dtype_text(cu_seqlens.scalar_type()));
  require(cu_seqlens.device().is_cpu(), "cu_seqlens is on {}, but must be on the CPU",
          cu_seqlens.device().str());
  require(cu_seqlens.dim() == 1 && cu_seqlens.size(0) >= 2,
          "cu_seqlens must be one-dimensional with at least 2 entries, but has {} dimensions and {} entries",
          cu_seqlens.dim(), cu_seqlens.numel());
}

}  // namespace

std::vector<Sequence> sequences_of(const at::Tensor& cu_seqlens, int64_t batch, int64_t length) {
  if (!cu_seqlens.defined()) return rows_as_sequences(batch, length);
  check_format(cu_seqlens);
  const at::Tensor contiguous = cu_seqlens.contiguous();
  const int32_t* bounds = contiguous.const_data_ptr<int32_t>();
  const int64_t count = contiguous.size(0) - 1;
  require(bounds[0] == 0, "cu_seqlens[0] is {}, but must be 0", bounds[0]);
  require(bounds[count] == batch * length,
          "cu_seqlens ends at {}, but the batch has {} positions ({} rows of {})", bounds[count],
          batch * length, batch, length);
  std::vector<Sequence> sequences;
  sequences.reserve(count);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t begin = bounds[i], end = bounds[i + 1];
    require(begin < end, "cu_seqlens[{}] is {}, but must be greater than cu_seqlens[{}] = {}", i + 1, end, i,
            begin);
    require(begin / length == (end - 1) / length,
            "cu_seqlens: the sequence of positions {} to {} crosses the row start {}", begin, end,
            (begin / length + 1) * length);
    sequences.push_back({begin, end});
  }
  return sequences;
}

int64_t sequence_count(const at::Tensor& cu_seqlens, int64_t batch) {
  return cu_seqlens.defined() ? cu_seqlens.size(0) - 1 : batch;
}

at::Tensor cu_seqlens_on(const at::Device& device, const at::Tensor& cu_seqlens, int64_t batch,
                         int64_t length) {
  if (!cu_seqlens.defined() || cu_seqlens.device() == device) return cu_seqlens;
  sequences_of(cu_seqlens, batch, length);
  return core::copy_to(device, cu_seqlens);
}

}  // namespace exactmamba::ops
