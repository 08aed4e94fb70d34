// Channels lie in the vector lanes. A task owns a block of channels of one group and walks over all sequences
// in chunks, so that no result depends on the number of threads; the gradients of B and C, sums over
// channels, are kept per block and added in order of the blocks. Buffers of a task are rows of kBlock
// channels; channels beyond the block's are 0.
#include <algorithm>
#include <memory>
#include <vector>

#include <ATen/Parallel.h>

#include "models/ops/grain.h"
#include "models/ops/packed_activation.h"
#include "models/ops/partial_sums.h"
#include "models/ops/selective_scan/selective_scan_params.h"
#include "models/ops/vector_math.h"

namespace exactmamba::ops {
namespace {

constexpr int64_t kBlock = 64;

struct ChannelBlock {
  int64_t group, first, count;
};

/// All blocks, group by group.
template <class T>
std::vector<ChannelBlock> blocks_of(const SelectiveScanParams<T>& params) {
  const int64_t per_group = params.channels / params.groups;
  std::vector<ChannelBlock> blocks;
  for (int64_t g = 0; g < params.groups; ++g)
    for (int64_t c = 0; c < per_group; c += kBlock)
      blocks.push_back({g, g * per_group + c, std::min(kBlock, per_group - c)});
  return blocks;
}

int64_t chunks_of(const Sequence& sequence) {
  return (sequence.end - sequence.begin + kScanChunk - 1) / kScanChunk;
}

/// Tokens of one chunk, positions in the flattened B·L.
struct Chunk {
  int64_t begin, size;
};
Chunk chunk_of(const Sequence& sequence, int64_t index) {
  const int64_t begin = sequence.begin + index * kScanChunk;
  return {begin, std::min(kScanChunk, sequence.end - begin)};
}

/// What both passes share: the block's A and state, and Δ and Δ·u of the current chunk.
template <class T>
class ScanBlock {
 public:
  ScanBlock(const SelectiveScanParams<T>& params, const ChannelBlock& block)
      : params_(params),
        block_(block),
        states_(params.states),
        A_(states_ * kBlock),
        state_(states_ * kBlock),
        delta_(kScanChunk * kBlock),
        delta_u_(kScanChunk * kBlock) {
    gather(params.A, A_);
  }

 protected:
  /// (D, N) in memory ↔ [state][channel] here.
  void gather(const T* from, std::vector<T>& to) const {
    for (int64_t c = 0; c < block_.count; ++c)
      for (int64_t n = 0; n < states_; ++n) to[n * kBlock + c] = from[(block_.first + c) * states_ + n];
  }
  void scatter(const std::vector<T>& from, T* to) const {
    for (int64_t c = 0; c < block_.count; ++c)
      for (int64_t n = 0; n < states_; ++n) to[(block_.first + c) * states_ + n] = from[n * kBlock + c];
  }
  /// The same for one sequence of an (S, D, N) tensor.
  T* of_sequence(T* tensor, int64_t s) const { return tensor + s * params_.channels * states_; }
  const T* of_sequence(const T* tensor, int64_t s) const { return tensor + s * params_.channels * states_; }

  /// delta + delta_bias of one pack of channels.
  Pack<T> biased_delta(int64_t token, int64_t c, int64_t n) const {
    const Pack<T> delta = load(params_.delta.at(token) + block_.first + c, n);
    return params_.delta_bias ? delta + load(params_.delta_bias + block_.first + c, n) : delta;
  }

  void prepare(const Chunk& chunk) {
    for (int64_t t = 0; t < chunk.size; ++t) {
      const T* u = params_.u.at(chunk.begin + t) + block_.first;
      for_each_pack<T>(block_.count, [&](int64_t c, int64_t n) {
        const Pack<T> biased = biased_delta(chunk.begin + t, c, n);
        const Pack<T> delta = params_.delta_softplus ? softplus(biased) : biased;
        store(&delta_[t * kBlock + c], delta);
        store(&delta_u_[t * kBlock + c], delta * load(u + c, n));
      });
    }
  }

  const T* B(int64_t token) const { return params_.B.at(token) + block_.group * states_; }
  const T* C(int64_t token) const { return params_.C.at(token) + block_.group * states_; }
  Pack<T> skip_weight(int64_t c, int64_t n) const {
    return params_.D ? load(params_.D + block_.first + c, n) : Pack<T>{};
  }
  /// The output from the sum over states and the skip.
  Pack<T> gated(const Pack<T>& ungated, int64_t token, int64_t c, int64_t n) const {
    return params_.z ? ungated * silu(load(params_.z.at(token) + block_.first + c, n)) : ungated;
  }

  const SelectiveScanParams<T>& params_;
  const ChannelBlock block_;
  const int64_t states_;
  std::vector<T> A_, state_;        // [state][channel]
  std::vector<T> delta_, delta_u_;  // [token][channel]
};

template <class T>
class ForwardBlock : ScanBlock<T> {
 public:
  ForwardBlock(const SelectiveScanParams<T>& params, const ChannelBlock& block)
      : ScanBlock<T>(params, block), y_(kScanChunk * kBlock) {}

  void run() {
    int64_t chunk_index = 0;
    for (int64_t s = 0; s < params_.sequence_count; ++s) {
      const Sequence sequence = params_.sequences[s];
      std::fill(state_.begin(), state_.end(), T(0));
      if (params_.initial_state) this->gather(this->of_sequence(params_.initial_state, s), state_);
      for (int64_t i = 0; i < chunks_of(sequence); ++i, ++chunk_index) {
        if (params_.chunk_states) save_state(chunk_index);
        run_chunk(chunk_of(sequence, i));
      }
      if (params_.last_state) this->scatter(state_, this->of_sequence(params_.last_state, s));
    }
  }

 private:
  using ScanBlock<T>::params_;
  using ScanBlock<T>::block_;
  using ScanBlock<T>::states_;
  using ScanBlock<T>::state_;

  void save_state(int64_t chunk_index) {
    T* to = params_.chunk_states + chunk_index * states_ * params_.channels + block_.first;
    for (int64_t n = 0; n < states_; ++n)
      std::copy_n(&state_[n * kBlock], block_.count, to + n * params_.channels);
  }

  void run_chunk(const Chunk& chunk) {
    this->prepare(chunk);
    for (int64_t c = 0; c < block_.count; c += kLanes<T>) scan(chunk, c);
    for (int64_t t = 0; t < chunk.size; ++t) write_output(chunk.begin + t, &y_[t * kBlock]);
  }

  /// The recurrence for one pack of channels over the chunk.
  void scan(const Chunk& chunk, int64_t c) {
    for (int64_t t = 0; t < chunk.size; ++t) {
      const T *b = this->B(chunk.begin + t), *readout = this->C(chunk.begin + t);
      const Pack<T> delta = load(&this->delta_[t * kBlock + c]),
                    delta_u = load(&this->delta_u_[t * kBlock + c]);
      Pack<T> y{};
      for (int64_t n = 0; n < states_; ++n) {
        T* state = &state_[n * kBlock + c];
        const Pack<T> next = exp(delta * load(&this->A_[n * kBlock + c])) * load(state) + delta_u * b[n];
        y += next * readout[n];
        store(state, next);
      }
      store(&y_[t * kBlock + c], y);
    }
  }

  void write_output(int64_t token, const T* y) {
    T* out = params_.out.at(token) + block_.first;
    const T* u = params_.u.at(token) + block_.first;
    for_each_pack<T>(block_.count, [&](int64_t c, int64_t n) {
      const Pack<T> ungated = load(y + c) + this->skip_weight(c, n) * load(u + c, n);
      store(out + c, this->gated(ungated, token, c, n), n);
    });
  }

  std::vector<T> y_;  // [token][channel]
};

template <class T>
class BackwardBlock : ScanBlock<T> {
 public:
  /// `partial_B`, `partial_C` (B·L, N): this block's part of the gradients of its group's B and C.
  BackwardBlock(const SelectiveScanParams<T>& params, const ChannelBlock& block, T* partial_B, T* partial_C)
      : ScanBlock<T>(params, block),
        partial_B_(partial_B),
        partial_C_(partial_C),
        decays_(kScanChunk * states_),
        trace_((kScanChunk + 1) * states_),
        grad_B_(kScanChunk * states_),
        grad_C_(kScanChunk * states_),
        grad_state_(states_ * kBlock),
        grad_A_(states_ * kBlock),
        grad_D_(kBlock),
        grad_bias_(kBlock),
        y_(kScanChunk * kBlock),
        grad_y_(kScanChunk * kBlock),
        grad_delta_(kScanChunk * kBlock),
        grad_delta_u_(kScanChunk * kBlock) {}

  void run() {
    int64_t chunk_index = 0;
    for (int64_t s = 0; s < params_.sequence_count; ++s) chunk_index += chunks_of(params_.sequences[s]);
    for (int64_t s = params_.sequence_count - 1; s >= 0; --s) {
      const Sequence sequence = params_.sequences[s];
      std::fill(grad_state_.begin(), grad_state_.end(), T(0));
      if (params_.grad_last_state) this->gather(this->of_sequence(params_.grad_last_state, s), grad_state_);
      for (int64_t i = chunks_of(sequence) - 1; i >= 0; --i) run_chunk(chunk_of(sequence, i), --chunk_index);
    }
    add_parameter_gradients();
  }

 private:
  using ScanBlock<T>::params_;
  using ScanBlock<T>::block_;
  using ScanBlock<T>::states_;
  using ScanBlock<T>::state_;

  void run_chunk(const Chunk& chunk, int64_t chunk_index) {
    load_state(chunk_index);
    this->prepare(chunk);
    for (int64_t t = 0; t < chunk.size; ++t) prepare_grad_y(chunk.begin + t, &grad_y_[t * kBlock]);
    std::fill(grad_B_.begin(), grad_B_.end(), Pack<T>{});
    std::fill(grad_C_.begin(), grad_C_.end(), Pack<T>{});
    for (int64_t c = 0; c < block_.count; c += kLanes<T>) {
      recompute(chunk, c);
      for (int64_t t = chunk.size - 1; t >= 0; --t) step_back(chunk.begin + t, t, c);
    }
    for (int64_t t = 0; t < chunk.size; ++t) write_token(chunk.begin + t, t);
  }

  void load_state(int64_t chunk_index) {
    const T* from = params_.saved_states + chunk_index * states_ * params_.channels + block_.first;
    for (int64_t n = 0; n < states_; ++n)
      std::copy_n(from + n * params_.channels, block_.count, &state_[n * kBlock]);
  }

  /// The gradient of the sum before the gate.
  void prepare_grad_y(int64_t token, T* grad_y) {
    const T* grad_out = params_.grad_out.at(token) + block_.first;
    const T* z = params_.z ? params_.z.at(token) + block_.first : nullptr;
    for_each_pack<T>(block_.count, [&](int64_t c, int64_t n) {
      const Pack<T> grad = load(grad_out + c, n);
      store(grad_y + c, z ? grad * silu(load(z + c, n)) : grad);
    });
  }

  /// The chunk's decays and states for one pack of channels; row t of trace_ is the state before token t.
  void recompute(const Chunk& chunk, int64_t c) {
    for (int64_t n = 0; n < states_; ++n) trace_[n] = load(&state_[n * kBlock + c]);
    for (int64_t t = 0; t < chunk.size; ++t) {
      const T *b = this->B(chunk.begin + t), *readout = this->C(chunk.begin + t);
      const Pack<T> delta = load(&this->delta_[t * kBlock + c]),
                    delta_u = load(&this->delta_u_[t * kBlock + c]);
      const Pack<T>* before = &trace_[t * states_];
      Pack<T>*after = &trace_[(t + 1) * states_], *decay = &decays_[t * states_];
      Pack<T> y{};
      for (int64_t n = 0; n < states_; ++n) {
        decay[n] = exp(delta * load(&this->A_[n * kBlock + c]));
        after[n] = decay[n] * before[n] + delta_u * b[n];
        y += after[n] * readout[n];
      }
      store(&y_[t * kBlock + c], y);
    }
  }

  /// One token of the adjoint recurrence for one pack of channels.
  void step_back(int64_t token, int64_t t, int64_t c) {
    const T *b = this->B(token), *readout = this->C(token);
    const Pack<T>*before = &trace_[t * states_], *after = &trace_[(t + 1) * states_],
          *decay = &decays_[t * states_];
    Pack<T>*grad_b = &grad_B_[t * states_], *grad_c = &grad_C_[t * states_];
    const Pack<T> grad_y = load(&grad_y_[t * kBlock + c]);
    const Pack<T> delta = load(&this->delta_[t * kBlock + c]),
                  delta_u = load(&this->delta_u_[t * kBlock + c]);
    Pack<T> grad_delta{}, grad_delta_u{};
    for (int64_t n = 0; n < states_; ++n) {
      T *carried = &grad_state_[n * kBlock + c], *grad_A = &grad_A_[n * kBlock + c];
      const Pack<T> grad = load(carried) + grad_y * readout[n];
      grad_c[n] += grad_y * after[n];
      grad_b[n] += grad * delta_u;
      grad_delta_u += grad * b[n];
      const Pack<T> passed = grad * decay[n], grad_exponent = passed * before[n];
      grad_delta += grad_exponent * load(&this->A_[n * kBlock + c]);
      store(grad_A, load(grad_A) + grad_exponent * delta);
      store(carried, passed);
    }
    store(&grad_delta_[t * kBlock + c], grad_delta);
    store(&grad_delta_u_[t * kBlock + c], grad_delta_u);
  }

  void write_token(int64_t token, int64_t t) {
    for (int64_t n = 0; n < states_; ++n) {
      partial_B_[token * states_ + n] = sum_of_lanes(grad_B_[t * states_ + n]);
      partial_C_[token * states_ + n] = sum_of_lanes(grad_C_[t * states_ + n]);
    }
    for_each_pack<T>(block_.count, [&](int64_t c, int64_t n) { write_pack(token, t, c, n); });
  }

  void write_pack(int64_t token, int64_t t, int64_t c, int64_t n) {
    const int64_t at = t * kBlock + c, channel = block_.first + c;
    const Pack<T> u = load(params_.u.at(token) + channel, n), skip = this->skip_weight(c, n);
    const Pack<T> grad_y = load(&grad_y_[at]), grad_delta_u = load(&grad_delta_u_[at]);
    Pack<T> grad_delta = load(&grad_delta_[at]) + grad_delta_u * u;
    if (params_.delta_softplus) grad_delta *= softplus_slope(this->biased_delta(token, c, n));
    if (params_.grad_delta) store(params_.grad_delta.at(token) + channel, grad_delta, n);
    if (params_.grad_u)
      store(params_.grad_u.at(token) + channel, grad_delta_u * load(&this->delta_[at]) + grad_y * skip, n);
    const Pack<T> ungated = load(&y_[at]) + skip * u;
    if (params_.out) store(params_.out.at(token) + channel, this->gated(ungated, token, c, n), n);
    if (params_.grad_z) {
      const Pack<T> slope = silu_derivative(load(params_.z.at(token) + channel, n));
      store(params_.grad_z.at(token) + channel,
            load(params_.grad_out.at(token) + channel, n) * ungated * slope, n);
    }
    store(&grad_D_[c], load(&grad_D_[c]) + grad_y * u);
    store(&grad_bias_[c], load(&grad_bias_[c]) + grad_delta);
  }

  void add_parameter_gradients() {
    for (int64_t c = 0; c < block_.count; ++c) {
      if (params_.grad_D) params_.grad_D[block_.first + c] += grad_D_[c];
      if (params_.grad_delta_bias) params_.grad_delta_bias[block_.first + c] += grad_bias_[c];
      if (!params_.grad_A) continue;
      for (int64_t n = 0; n < states_; ++n)
        params_.grad_A[(block_.first + c) * states_ + n] += grad_A_[n * kBlock + c];
    }
  }

  T *partial_B_, *partial_C_;                              // [token][state]
  std::vector<Pack<T>> decays_, trace_, grad_B_, grad_C_;  // [token][state], lanes: channels
  std::vector<T> grad_state_, grad_A_;                     // [state][channel]
  std::vector<T> grad_D_, grad_bias_;                      // [channel]
  std::vector<T> y_, grad_y_, grad_delta_, grad_delta_u_;  // [token][channel]
};

}  // namespace

template <class T>
void selective_scan_forward_cpu(const SelectiveScanParams<T>& params) {
  const auto blocks = blocks_of(params);
  at::parallel_for(0, blocks.size(), grain_of(params.tokens * params.states * kBlock),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t b = begin; b < end; ++b) ForwardBlock<T>(params, blocks[b]).run();
                   });
}

template <class T>
void selective_scan_backward_cpu(const SelectiveScanParams<T>& params) {
  const auto blocks = blocks_of(params);
  const int64_t partial_size = params.tokens * params.states, block_count = blocks.size();
  const auto partial_B = std::make_unique_for_overwrite<T[]>(block_count * partial_size);
  const auto partial_C = std::make_unique_for_overwrite<T[]>(block_count * partial_size);
  at::parallel_for(0, block_count, grain_of(params.tokens * params.states * kBlock),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t b = begin; b < end; ++b)
                       BackwardBlock<T>(params, blocks[b], partial_B.get() + b * partial_size,
                                        partial_C.get() + b * partial_size)
                           .run();
                   });
  sum_blocks_of_groups(partial_B.get(), params.tokens, params.states, params.groups, block_count,
                       params.grad_B);
  sum_blocks_of_groups(partial_C.get(), params.tokens, params.states, params.groups, block_count,
                       params.grad_C);
}

template void selective_scan_forward_cpu(const SelectiveScanParams<float>&);
template void selective_scan_forward_cpu(const SelectiveScanParams<double>&);
template void selective_scan_backward_cpu(const SelectiveScanParams<float>&);
template void selective_scan_backward_cpu(const SelectiveScanParams<double>&);

}  // namespace exactmamba::ops
