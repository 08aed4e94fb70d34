// A task is a block of heads of one group in one sequence. The gradients of B and C, sums over the heads of a
// group, are kept per block and added in order of the blocks; parameter gradients are kept per sequence and
// added in order of the sequences: no result depends on the number of threads.
#include <memory>

#include "models/ops/partial_sums.h"
#include "models/ops/ssd/ssd_cpu.h"

namespace exactmamba::ops {
namespace {

constexpr int64_t kHeadsPerBlock = 4;

struct HeadBlock {
  int64_t group, first, count;
};

template <class T>
std::vector<HeadBlock> head_blocks_of(const SsdParams<T>& params) {
  const int64_t per_group = params.heads / params.groups;
  std::vector<HeadBlock> blocks;
  for (int64_t g = 0; g < params.groups; ++g)
    for (int64_t h = 0; h < per_group; h += kHeadsPerBlock)
      blocks.push_back({g, g * per_group + h, std::min(kHeadsPerBlock, per_group - h)});
  return blocks;
}

/// The parameter gradients of one head from one sequence.
struct HeadGradients {
  double A = 0, D = 0, dt_bias = 0;
};

/// What all tasks of one backward pass read, and where they write.
template <class T>
struct SsdBackwardPass {
  const SsdParams<T>& params;
  SsdChunks chunks;
  SsdSteps<T> steps;
  SsdProducts<T> products;
  std::vector<HeadBlock> blocks;
  std::unique_ptr<T[]> partial_B, partial_C;  // [block] (B·L, N)
  std::vector<HeadGradients> head_gradients;  // [sequence][head]

  explicit SsdBackwardPass(const SsdParams<T>& p)
      : params(p),
        chunks(chunks_of(p)),
        steps(p, chunks, /*with_slope=*/true),
        products(p, chunks),
        blocks(head_blocks_of(p)),
        partial_B(std::make_unique_for_overwrite<T[]>(blocks.size() * p.tokens * p.states)),
        partial_C(std::make_unique_for_overwrite<T[]>(blocks.size() * p.tokens * p.states)),
        head_gradients(p.sequence_count * p.heads) {}
};

template <class T>
class SsdBackwardTask {
 public:
  explicit SsdBackwardTask(SsdBackwardPass<T>& pass)
      : pass_(pass),
        params_(pass.params),
        P_(params_.head_size),
        N_(params_.states),
        decays_(pass.chunks.longest),
        decay_(pass.chunks.longest * pass.chunks.longest),
        mixing_(decay_.size()),
        grad_mixing_(decay_.size()),
        grad_products_(decay_.size()),
        scaled_x_(pass.chunks.longest * P_),
        weighted_(scaled_x_.size()),
        grad_scaled_x_(scaled_x_.size()),
        read_gradient_(scaled_x_.size()),
        grad_C_(pass.chunks.longest * N_),
        grad_state_(kHeadsPerBlock * P_ * N_),
        exponents_(pass.chunks.longest),
        columns_(pass.chunks.longest) {}

  void run(int64_t sequence, int64_t block_index) {
    sequence_ = sequence;
    block_ = pass_.blocks[block_index];
    load_grad_state();
    for (int64_t c = pass_.chunks.first_of[sequence + 1] - 1; c >= pass_.chunks.first_of[sequence]; --c)
      run_chunk(c, block_index);
    if (params_.grad_initial_state)
      std::copy_n(grad_state_.data(), block_.count * P_ * N_, params_.grad_initial_state + first_state());
  }

 private:
  /// Offset of the block's first head in an (S, H, P, N) tensor.
  int64_t first_state() const { return (sequence_ * params_.heads + block_.first) * P_ * N_; }

  void load_grad_state() {
    if (params_.grad_last_state)
      std::copy_n(params_.grad_last_state + first_state(), block_.count * P_ * N_, grad_state_.data());
    else
      std::fill(grad_state_.begin(), grad_state_.end(), T(0));
  }

  void run_chunk(int64_t index, int64_t block_index) {
    const SsdChunk& chunk = pass_.chunks.all[index];
    T* partial_B = &pass_.partial_B[(block_index * params_.tokens + chunk.begin) * N_];
    T* partial_C = &pass_.partial_C[(block_index * params_.tokens + chunk.begin) * N_];
    std::fill_n(partial_B, chunk.size * N_, T(0));
    std::fill_n(partial_C, chunk.size * N_, T(0));
    std::fill_n(grad_products_.data(), chunk.size * chunk.size, T(0));
    for (int64_t h = 0; h < block_.count; ++h) run_head(chunk, index, h, partial_B, partial_C);
    const MatrixView<T> grad_products{grad_products_.data(), chunk.size};
    gemm<T>(chunk.size, N_, chunk.size, grad_products, B(chunk), 1, partial_C, N_);
    gemm<T>(chunk.size, N_, chunk.size, grad_products.t(), C(chunk), 1, partial_B, N_);
  }

  void run_head(const SsdChunk& chunk, int64_t chunk_index, int64_t h, T* partial_B, T* partial_C) {
    const int64_t head = block_.first + h;
    const MatrixView<T> grad_out{params_.grad_out.at(chunk.begin) + head * P_, params_.grad_out.token_stride};
    const MatrixView<T> state_in{params_.saved_states + (chunk_index * params_.heads + head) * P_ * N_, N_};
    T* grad_state = &grad_state_[h * P_ * N_];
    const bool has_state = !chunk.first || params_.initial_state,
               has_grad_state = !chunk.last || params_.grad_last_state;
    decays_.load_chunk(params_, pass_.steps, chunk, head);
    scale_rows(decays_.delta.data(), chunk.size, P_, params_.x.at(chunk.begin) + head * P_,
               params_.x.token_stride, scaled_x_.data());
    std::fill_n(exponents_.data(), chunk.size, 0.0);
    inside_chunk(chunk, grad_out);
    if (has_grad_state) written_state(chunk, grad_state, partial_B);
    if (has_state && has_grad_state)
      exponents_[chunk.size - 1] += decays_.across * dot(grad_state, state_in.data);
    if (has_state || params_.grad_initial_state)
      read_state(chunk, grad_out, state_in, has_state, grad_state, partial_C);
    write_gradients(chunk, head, grad_out);
  }

  /// The part of the chunk's own tokens: out = mixing · scaled x.
  void inside_chunk(const SsdChunk& chunk, const MatrixView<T>& grad_out) {
    const int64_t Q = chunk.size;
    fill_decay_and_mixing(chunk);
    gemm<T>(Q, Q, P_, grad_out, MatrixView<T>{scaled_x_.data(), P_}.t(), 0, grad_mixing_.data(), Q);
    gemm<T>(Q, P_, Q, MatrixView<T>{mixing_.data(), Q}.t(), grad_out, 0, grad_scaled_x_.data(), P_);
    std::fill_n(columns_.data(), Q, T(0));
    for (int64_t i = 0; i < Q; ++i) mixing_row(i, Q);
    for (int64_t i = 0; i < Q; ++i) exponents_[i] -= columns_[i];
  }

  void fill_decay_and_mixing(const SsdChunk& chunk) {
    const T* products = pass_.products.of(chunk, block_.group);
    for (int64_t i = 0; i < chunk.size; ++i) {
      T *decay = &decay_[i * chunk.size], *mixing = &mixing_[i * chunk.size];
      const T* from = products + i * pass_.products.stride;
      for_each_pack<T>(i + 1, [&](int64_t j, int64_t n) {
        const Pack<T> between = decays_.between(i, j, n);
        store(decay + j, between, n);
        store(mixing + j, load(from + j, n) * between, n);
      });
      std::fill(mixing + i + 1, mixing + chunk.size, T(0));
    }
  }

  /// Row i of the gradients of the products C_i·B_j and of the exponents. The diagonal has decay 1 and no
  /// exponent: left out, it cannot drown the rest in rounding.
  void mixing_row(int64_t i, int64_t Q) {
    T *grad = &grad_mixing_[i * Q], *grad_products = &grad_products_[i * Q];
    const T *decay = &decay_[i * Q], *mixing = &mixing_[i * Q];
    grad_products[i] += grad[i];
    Pack<T> row{};
    for_each_pack<T>(i, [&](int64_t j, int64_t n) {
      const Pack<T> g = load(grad + j, n), of_exponent = g * load(mixing + j, n);
      store(grad_products + j, load(grad_products + j, n) + g * load(decay + j, n), n);
      store(&columns_[j], load(&columns_[j], n) + of_exponent, n);
      row += of_exponent;
    });
    exponents_[i] += sum_of_lanes(row);
  }

  /// The part of the state that leaves the chunk: Σ_j to_end_j (scaled x)_j B_jᵀ.
  void written_state(const SsdChunk& chunk, const T* grad_state, T* partial_B) {
    const MatrixView<T> grad{grad_state, N_};
    scale_rows(decays_.to_end.data(), chunk.size, P_, scaled_x_.data(), P_, weighted_.data());
    gemm<T>(chunk.size, N_, P_, {weighted_.data(), P_}, grad, 1, partial_B, N_);
    gemm<T>(chunk.size, P_, N_, B(chunk), grad.t(), 0, read_gradient_.data(), P_);
    double total = 0;
    for (int64_t j = 0; j < chunk.size; ++j) {
      Pack<T> of_exponent{};
      for_each_pack<T>(P_, [&](int64_t p, int64_t n) {
        const int64_t at = j * P_ + p;
        const Pack<T> read = load(&read_gradient_[at], n);
        of_exponent += load(&weighted_[at], n) * read;
        store(&grad_scaled_x_[at], load(&grad_scaled_x_[at], n) + decays_.to_end[j] * read, n);
      });
      const double sum = sum_of_lanes(of_exponent);
      exponents_[j] -= sum;
      total += sum;
    }
    exponents_[chunk.size - 1] += total;
  }

  /// The part of the state that enters the chunk: out_i += from_start_i · state C_i. Turns `grad_state` into
  /// its gradient.
  void read_state(const SsdChunk& chunk, const MatrixView<T>& grad_out, const MatrixView<T>& state_in,
                  bool has_state, T* grad_state, T* partial_C) {
    scale_rows(decays_.from_start.data(), chunk.size, P_, grad_out.data, grad_out.stride, weighted_.data());
    const MatrixView<T> weighted{weighted_.data(), P_};
    gemm<T>(P_, N_, chunk.size, weighted.t(), C(chunk), decays_.across, grad_state, N_);
    if (!has_state) return;
    gemm<T>(chunk.size, N_, P_, weighted, state_in, 0, grad_C_.data(), N_);
    for (int64_t i = 0; i < chunk.size; ++i) {
      const T* c = C(chunk).data + i * C(chunk).stride;
      Pack<T> of_exponent{};
      for_each_pack<T>(N_, [&](int64_t k, int64_t n) {
        const Pack<T> grad = load(&grad_C_[i * N_ + k], n);
        of_exponent += grad * load(c + k, n);
        store(partial_C + i * N_ + k, load(partial_C + i * N_ + k, n) + grad, n);
      });
      exponents_[i] += sum_of_lanes(of_exponent);
    }
  }

  /// From the gradients of Δ x and of the exponents A ΣΔ to those of x, dt and the head's parameters.
  void write_gradients(const SsdChunk& chunk, int64_t head, const MatrixView<T>& grad_out) {
    HeadGradients& of_head = pass_.head_gradients[sequence_ * params_.heads + head];
    double later = 0;  // Σ of exponents_ from this token on
    for (int64_t i = chunk.size - 1; i >= 0; --i) {
      const int64_t token = chunk.begin + i, at = token * params_.heads + head;
      later += exponents_[i];
      const double grad_delta = write_grad_x(token, i, head, grad_out.data + i * grad_out.stride, of_head.D) +
                                params_.A[head] * later;
      const double grad_dt = grad_delta * pass_.steps.slope[at];
      of_head.A += later * decays_.delta[i];
      of_head.dt_bias += grad_dt;
      if (params_.grad_dt) params_.grad_dt.at(token)[head] = static_cast<T>(grad_dt);
    }
  }

  /// @return the gradient of Δ through Δ x.
  double write_grad_x(int64_t token, int64_t i, int64_t head, const T* grad_out, double& grad_D) {
    const T* x = params_.x.at(token) + head * P_;
    T* grad_x = params_.grad_x ? params_.grad_x.at(token) + head * P_ : nullptr;
    const T skip = params_.D ? params_.D[head] : T(0);
    Pack<T> of_delta{}, of_skip{};
    for_each_pack<T>(P_, [&](int64_t p, int64_t n) {
      const Pack<T> grad = load(&grad_scaled_x_[i * P_ + p], n), g = load(grad_out + p, n),
                    x_pack = load(x + p, n);
      of_delta += grad * x_pack;
      of_skip += g * x_pack;
      if (grad_x) store(grad_x + p, decays_.delta[i] * grad + skip * g, n);
    });
    grad_D += sum_of_lanes(of_skip);
    return sum_of_lanes(of_delta);
  }

  double dot(const T* a, const T* b) const {
    double sum = 0;
    for (int64_t p = 0; p < P_; ++p) {
      Pack<T> products{};
      for_each_pack<T>(
          N_, [&](int64_t k, int64_t n) { products += load(a + p * N_ + k, n) * load(b + p * N_ + k, n); });
      sum += sum_of_lanes(products);
    }
    return sum;
  }

  MatrixView<T> B(const SsdChunk& chunk) const {
    return {params_.B.at(chunk.begin) + block_.group * N_, params_.B.token_stride};
  }
  MatrixView<T> C(const SsdChunk& chunk) const {
    return {params_.C.at(chunk.begin) + block_.group * N_, params_.C.token_stride};
  }

  SsdBackwardPass<T>& pass_;
  const SsdParams<T>& params_;
  const int64_t P_, N_;
  int64_t sequence_ = 0;
  HeadBlock block_{};
  HeadDecays<T> decays_;
  std::vector<T> decay_, mixing_, grad_mixing_, grad_products_;         // (Q, Q)
  std::vector<T> scaled_x_, weighted_, grad_scaled_x_, read_gradient_;  // (Q, P); scaled x = Δ x
  std::vector<T> grad_C_;                                               // (Q, N)
  std::vector<T> grad_state_;                                           // [head of the block] (P, N)
  std::vector<double> exponents_;  // [token] gradient of A ΣΔ up to this token
  std::vector<T> columns_;         // [token]
};

template <class T>
void add_parameter_gradients(const SsdBackwardPass<T>& pass) {
  const SsdParams<T>& params = pass.params;
  for (int64_t h = 0; h < params.heads; ++h) {
    HeadGradients sum;
    for (int64_t s = 0; s < params.sequence_count; ++s) {
      const HeadGradients& part = pass.head_gradients[s * params.heads + h];
      sum.A += part.A;
      sum.D += part.D;
      sum.dt_bias += part.dt_bias;
    }
    if (params.grad_A) params.grad_A[h] += static_cast<T>(sum.A);
    if (params.grad_D) params.grad_D[h] += static_cast<T>(sum.D);
    if (params.grad_dt_bias) params.grad_dt_bias[h] += static_cast<T>(sum.dt_bias);
  }
}

}  // namespace

template <class T>
void ssd_backward_cpu(const SsdParams<T>& params) {
  SsdBackwardPass<T> pass(params);
  const int64_t blocks = pass.blocks.size();
  at::parallel_for(0, params.sequence_count * blocks, grain_of(elements_per_head(params) * kHeadsPerBlock),
                   [&](int64_t begin, int64_t end) {
                     SsdBackwardTask<T> task(pass);
                     for (int64_t i = begin; i < end; ++i) task.run(i / blocks, i % blocks);
                   });
  sum_blocks_of_groups(pass.partial_B.get(), params.tokens, params.states, params.groups, blocks,
                       params.grad_B);
  sum_blocks_of_groups(pass.partial_C.get(), params.tokens, params.states, params.groups, blocks,
                       params.grad_C);
  add_parameter_gradients(pass);
}

template void ssd_backward_cpu(const SsdParams<float>&);
template void ssd_backward_cpu(const SsdParams<double>&);

}  // namespace exactmamba::ops
