// A task is one head of one sequence, so no result depends on the number of threads.
#include "models/ops/ssd/ssd_cpu.h"

namespace exactmamba::ops {
namespace {

template <class T>
class SsdForwardTask {
 public:
  SsdForwardTask(const SsdParams<T>& params, const SsdChunks& chunks, const SsdSteps<T>& steps,
                 const SsdProducts<T>& products)
      : params_(params),
        chunks_(chunks),
        steps_(steps),
        products_(products),
        state_size_(params.head_size * params.states),
        decays_(chunks.longest),
        mixing_(chunks.longest * chunks.longest),
        scaled_x_(chunks.longest * params.head_size),
        from_state_(chunks.longest * params.head_size),
        state_(state_size_) {}

  void run(int64_t sequence, int64_t head) {
    head_ = head;
    group_ = head / (params_.heads / params_.groups);
    const int64_t of_sequence = (sequence * params_.heads + head) * state_size_;
    if (params_.initial_state)
      std::copy_n(params_.initial_state + of_sequence, state_size_, state_.begin());
    else
      std::fill(state_.begin(), state_.end(), T(0));
    for (int64_t c = chunks_.first_of[sequence]; c < chunks_.first_of[sequence + 1]; ++c) {
      if (params_.chunk_states)
        std::copy(state_.begin(), state_.end(),
                  params_.chunk_states + (c * params_.heads + head) * state_size_);
      run_chunk(chunks_.all[c]);
    }
    if (params_.last_state) std::copy(state_.begin(), state_.end(), params_.last_state + of_sequence);
  }

 private:
  void run_chunk(const SsdChunk& chunk) {
    decays_.load_chunk(params_, steps_, chunk, head_);
    const int64_t P = params_.head_size;
    const T* x = params_.x.at(chunk.begin) + head_ * P;
    T* out = params_.out.at(chunk.begin) + head_ * P;
    scale_rows(decays_.delta.data(), chunk.size, P, x, params_.x.token_stride, scaled_x_.data());
    fill_mixing(chunk);
    gemm<T>(chunk.size, P, chunk.size, {mixing_.data(), chunk.size}, {scaled_x_.data(), P}, 0, out,
            params_.out.token_stride);
    const bool has_state = !chunk.first || params_.initial_state;
    if (has_state) read_state(chunk);
    finish_output(chunk, x, out, has_state);
    if (!chunk.last || params_.last_state) advance_state(chunk);
  }

  /// mixing_[i][j] = (C_i·B_j) · decay from j to i; 0 above the diagonal.
  void fill_mixing(const SsdChunk& chunk) {
    const T* products = products_.of(chunk, group_);
    for (int64_t i = 0; i < chunk.size; ++i) {
      T* row = &mixing_[i * chunk.size];
      const T* from = products + i * products_.stride;
      for_each_pack<T>(i + 1, [&](int64_t j, int64_t n) {
        store(row + j, load(from + j, n) * decays_.between(i, j, n), n);
      });
      std::fill(row + i + 1, row + chunk.size, T(0));
    }
  }

  /// from_state_ = C · stateᵀ.
  void read_state(const SsdChunk& chunk) {
    const MatrixView<T> c{params_.C.at(chunk.begin) + group_ * params_.states, params_.C.token_stride};
    const MatrixView<T> state{state_.data(), params_.states};
    gemm<T>(chunk.size, params_.head_size, params_.states, c, state.t(), 0, from_state_.data(),
            params_.head_size);
  }

  void finish_output(const SsdChunk& chunk, const T* x, T* out, bool has_state) {
    const T skip = params_.D ? params_.D[head_] : T(0);
    for (int64_t i = 0; i < chunk.size; ++i, x += params_.x.token_stride, out += params_.out.token_stride)
      for_each_pack<T>(params_.head_size, [&](int64_t p, int64_t n) {
        Pack<T> value = load(out + p, n) + skip * load(x + p, n);
        if (has_state) value += decays_.from_start[i] * load(&from_state_[i * params_.head_size + p], n);
        store(out + p, value, n);
      });
  }

  /// state = across · state + Σ_j (decay from j to the end) Δ_j x_j B_jᵀ.
  void advance_state(const SsdChunk& chunk) {
    const int64_t P = params_.head_size;
    scale_rows(decays_.to_end.data(), chunk.size, P, scaled_x_.data(), P, scaled_x_.data());
    const MatrixView<T> b{params_.B.at(chunk.begin) + group_ * params_.states, params_.B.token_stride};
    gemm<T>(P, params_.states, chunk.size, MatrixView<T>{scaled_x_.data(), P}.t(), b, decays_.across,
            state_.data(), params_.states);
  }

  const SsdParams<T>& params_;
  const SsdChunks& chunks_;
  const SsdSteps<T>& steps_;
  const SsdProducts<T>& products_;
  const int64_t state_size_;
  int64_t head_ = 0, group_ = 0;
  HeadDecays<T> decays_;
  std::vector<T> mixing_;                 // (Q, Q)
  std::vector<T> scaled_x_, from_state_;  // (Q, P)
  std::vector<T> state_;                  // (P, N)
};

}  // namespace

template <class T>
void ssd_forward_cpu(const SsdParams<T>& params) {
  const SsdChunks chunks = chunks_of(params);
  const SsdSteps<T> steps(params, chunks, /*with_slope=*/false);
  const SsdProducts<T> products(params, chunks);
  at::parallel_for(0, params.sequence_count * params.heads, grain_of(elements_per_head(params)),
                   [&](int64_t begin, int64_t end) {
                     SsdForwardTask<T> task(params, chunks, steps, products);
                     for (int64_t i = begin; i < end; ++i) task.run(i / params.heads, i % params.heads);
                   });
}

template void ssd_forward_cpu(const SsdParams<float>&);
template void ssd_forward_cpu(const SsdParams<double>&);

}  // namespace exactmamba::ops
