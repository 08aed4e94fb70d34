// What the forward and backward passes of ssd share on the CPU: chunks, step sizes and the decays inside a
// chunk. Q: tokens of a chunk.
#pragma once

#include <algorithm>
#include <vector>

#include <ATen/Parallel.h>

#include "models/ops/gemm.h"
#include "models/ops/grain.h"
#include "models/ops/ssd/ssd_params.h"
#include "models/ops/vector_math.h"

namespace exactmamba::ops {

struct SsdChunk {
  int64_t begin, size;  // positions of the flattened B·L
  bool first, last;     // of its sequence
};

/// The chunks of all sequences in order, and where each sequence's chunks start.
struct SsdChunks {
  std::vector<SsdChunk> all;
  std::vector<int64_t> first_of;  // [sequence], with the total as last entry
  int64_t longest = 0;            // tokens
};

template <class T>
SsdChunks chunks_of(const SsdParams<T>& params) {
  SsdChunks chunks;
  chunks.first_of.push_back(0);
  for (int64_t s = 0; s < params.sequence_count; ++s) {
    const Sequence sequence = params.sequences[s];
    for (int64_t begin = sequence.begin; begin < sequence.end; begin += params.chunk_size) {
      const int64_t size = std::min(params.chunk_size, sequence.end - begin);
      chunks.all.push_back({begin, size, begin == sequence.begin, begin + size == sequence.end});
      chunks.longest = std::max(chunks.longest, size);
    }
    chunks.first_of.push_back(static_cast<int64_t>(chunks.all.size()));
  }
  return chunks;
}

/// Δ, its derivative, and its running sum inside each chunk, for every token and head.
template <class T>
struct SsdSteps {
  std::vector<T> delta, slope;     // (B·L, H); slope: dΔ/d dt, only for backward
  std::vector<double> cumulative;  // (B·L, H)

  SsdSteps(const SsdParams<T>& params, const SsdChunks& chunks, bool with_slope)
      : delta(params.tokens * params.heads), slope(with_slope ? delta.size() : 0), cumulative(delta.size()) {
    at::parallel_for(0, chunks.all.size(), grain_of(chunks.longest * params.heads),
                     [&](int64_t begin, int64_t end) {
                       for (int64_t i = begin; i < end; ++i) fill(params, chunks.all[i]);
                     });
  }

 private:
  void fill(const SsdParams<T>& params, const SsdChunk& chunk) {
    for (int64_t token = chunk.begin; token < chunk.begin + chunk.size; ++token) {
      const int64_t row = token * params.heads;
      for_each_pack<T>(params.heads, [&](int64_t h, int64_t n) { fill_pack(params, token, h, n); });
      for (int64_t h = 0; h < params.heads; ++h)
        cumulative[row + h] =
            delta[row + h] + (token > chunk.begin ? cumulative[row - params.heads + h] : 0.0);
    }
  }

  void fill_pack(const SsdParams<T>& params, int64_t token, int64_t h, int64_t n) {
    const int64_t at = token * params.heads + h;
    const Pack<T> low = broadcast(static_cast<T>(params.dt_min)),
                  high = broadcast(static_cast<T>(params.dt_max));
    Pack<T> biased = load(params.dt.at(token) + h, n);
    if (params.dt_bias) biased += load(params.dt_bias + h, n);
    const Pack<T> step = softplus(biased);
    store(&delta[at], step < low ? low : (step > high ? high : step), n);
    if (!slope.empty())
      store(&slope[at], (step < low) | (step > high) ? Pack<T>{} : softplus_slope(biased), n);
  }
};

/// CBᵀ of every chunk and group: C_i·B_j at row i, column j of a matrix of `stride` columns.
template <class T>
struct SsdProducts {
  int64_t tokens, stride;
  std::vector<T> values;  // (G, B·L, stride)

  SsdProducts(const SsdParams<T>& params, const SsdChunks& chunks)
      : tokens(params.tokens), stride(chunks.longest), values(params.groups * tokens * stride) {
    at::parallel_for(0, static_cast<int64_t>(chunks.all.size()) * params.groups,
                     grain_of(stride * stride * params.states), [&](int64_t begin, int64_t end) {
                       for (int64_t i = begin; i < end; ++i)
                         multiply(params, chunks.all[i / params.groups], i % params.groups);
                     });
  }
  T* of(const SsdChunk& chunk, int64_t group) { return &values[(group * tokens + chunk.begin) * stride]; }
  const T* of(const SsdChunk& chunk, int64_t group) const {
    return &values[(group * tokens + chunk.begin) * stride];
  }

 private:
  void multiply(const SsdParams<T>& params, const SsdChunk& chunk, int64_t group) {
    const MatrixView<T> c{params.C.at(chunk.begin) + group * params.states, params.C.token_stride};
    const MatrixView<T> b{params.B.at(chunk.begin) + group * params.states, params.B.token_stride};
    gemm<T>(chunk.size, chunk.size, params.states, c, b.t(), 0, of(chunk, group), stride);
  }
};

/// The decays of one head inside one chunk. The exponents A·ΣΔ are kept in two parts, so that the difference
/// of two large ones keeps the precision of T.
template <class T>
class HeadDecays {
 public:
  explicit HeadDecays(int64_t longest)
      : delta(longest), from_start(longest), to_end(longest), high_(longest), low_(longest) {}

  void load_chunk(const SsdParams<T>& params, const SsdSteps<T>& steps, const SsdChunk& chunk, int64_t head) {
    for (int64_t i = 0; i < chunk.size; ++i) {
      const int64_t at = (chunk.begin + i) * params.heads + head;
      const double exponent = steps.cumulative[at] * params.A[head];
      delta[i] = steps.delta[at];
      high_[i] = static_cast<T>(exponent);
      low_[i] = static_cast<T>(exponent - high_[i]);
    }
    const T last_high = high_[chunk.size - 1], last_low = low_[chunk.size - 1];
    for_each_pack<T>(chunk.size, [&](int64_t i, int64_t n) {
      const Pack<T> high = load(&high_[i], n), low = load(&low_[i], n);
      store(&from_start[i], exp(high + low), n);
      store(&to_end[i], exp((last_high - high) + (last_low - low)), n);
    });
    across = from_start[chunk.size - 1];
  }

  /// exp(A (Δ_{j+1} + … + Δ_i)) for row i and columns [j, j + n) ≤ i.
  Pack<T> between(int64_t i, int64_t j, int64_t n) const {
    return exp((high_[i] - load(&high_[j], n)) + (low_[i] - load(&low_[j], n)));
  }

  std::vector<T> delta;  // [token of the chunk]
  std::vector<T> from_start,
      to_end;    // decay from the chunk's entry to token i; from token j to the chunk's end
  T across = 1;  // decay over the whole chunk

 private:
  std::vector<T> high_, low_;
};

/// The elements that one head of one sequence visits, on average.
template <class T>
int64_t elements_per_head(const SsdParams<T>& params) {
  return params.tokens / std::max<int64_t>(1, params.sequence_count) * params.head_size * params.states;
}

/// to row i = factors[i] · from row i, for `rows` rows of `columns`.
template <class T>
void scale_rows(const T* factors, int64_t rows, int64_t columns, const T* from, int64_t from_stride, T* to) {
  for (int64_t i = 0; i < rows; ++i)
    for_each_pack<T>(columns, [&](int64_t p, int64_t n) {
      store(to + i * columns + p, factors[i] * load(from + i * from_stride + p, n), n);
    });
}

}  // namespace exactmamba::ops
