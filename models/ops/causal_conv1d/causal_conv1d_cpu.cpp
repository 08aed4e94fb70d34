// Each task owns a block of channels and walks over all sequences, so no result depends on the number of
// threads.
#include <algorithm>
#include <vector>

#include <ATen/Parallel.h>

#include "models/ops/causal_conv1d/causal_conv1d_params.h"
#include "models/ops/grain.h"
#include "models/ops/packed_activation.h"
#include "models/ops/vector_math.h"

namespace exactmamba::ops {
namespace {

constexpr int64_t kBlock = 64;  // channels of a task; buffers of a task have rows of this size

/// One task: the convolution of channels [first, first + count).
template <class T>
class ConvBlock {
 public:
  ConvBlock(const CausalConv1dParams<T>& params, int64_t first)
      : params_(params),
        first_(first),
        count_(std::min(kBlock, params.channels - first)),
        lags_(params.width),
        taps_(params.width * kBlock),
        history_((params.width - 1) * kBlock),
        activation_(params.activation) {
    for (int64_t k = 0; k < params.width; ++k)
      for (int64_t c = 0; c < count_; ++c)
        taps_[k * kBlock + c] = params.weight[(first + c + 1) * params.width - 1 - k];
  }

  void forward() {
    for (int64_t s = 0; s < params_.sequence_count; ++s) {
      load_history(s);
      const Sequence sequence = params_.sequences[s];
      for (int64_t t = sequence.begin; t < sequence.end; ++t) {
        find_lags(sequence, t);
        T* out = params_.out.at(t) + first_;
        for_each_pack<T>(count_, [&](int64_t c, int64_t n) {
          const Pack<T> a = convolved(c, n);
          store(out + c, a * activation_.gate(a), n);
        });
      }
      if (params_.final_states) store_final_state(s);
    }
  }

  void backward() {
    grad_taps_.assign(params_.width * kBlock, 0);
    grad_bias_.assign(kBlock, 0);
    ring_.resize(params_.width * kBlock);
    for (int64_t s = 0; s < params_.sequence_count; ++s) {
      load_history(s);
      backward(params_.sequences[s]);
    }
    add_parameter_gradients();
  }

 private:
  /// The inputs before sequence `s`, one row per position, oldest first.
  void load_history(int64_t s) {
    if (!params_.initial_states) return;
    const int64_t rows = params_.width - 1;
    const T* state = params_.initial_states + (s * params_.channels + first_) * rows;
    for (int64_t c = 0; c < count_; ++c)
      for (int64_t r = 0; r < rows; ++r) history_[r * kBlock + c] = state[c * rows + r];
  }

  /// Where x_{t-k} is, from the block's first channel on. `position` may lie before the sequence.
  const T* input(const Sequence& sequence, int64_t position) const {
    if (position >= sequence.begin) return params_.x.at(position) + first_;
    return history_.data() + (params_.width - 1 + position - sequence.begin) * kBlock;
  }
  void find_lags(const Sequence& sequence, int64_t t) {
    for (int64_t k = 0; k < params_.width; ++k) lags_[k] = input(sequence, t - k);
  }

  /// a_t of one pack of channels.
  Pack<T> convolved(int64_t c, int64_t n) const {
    Pack<T> a = params_.bias ? load(params_.bias + first_ + c, n) : Pack<T>{};
    for (int64_t k = 0; k < params_.width; ++k)
      a += load(taps_.data() + k * kBlock + c) * load(lags_[k] + c, n);
    return a;
  }

  void store_final_state(int64_t s) {
    const int64_t rows = params_.width - 1;
    const Sequence sequence = params_.sequences[s];
    T* state = params_.final_states + (s * params_.channels + first_) * rows;
    for (int64_t r = 0; r < rows; ++r) {
      const T* from = input(sequence, sequence.end - rows + r);
      for (int64_t c = 0; c < count_; ++c) state[c * rows + r] = from[c];
    }
  }

  /// The gradient of a_t waits in a ring of W rows until all that x_{t-W+1} reaches is known.
  void backward(const Sequence& sequence) {
    std::fill(ring_.begin(), ring_.end(), T(0));
    const int64_t width = params_.width;
    for (int64_t t = sequence.begin; t < sequence.end + width - 1; ++t) {
      T* slot = ring_.data() + (t % width) * kBlock;
      if (t < sequence.end)
        differentiate(sequence, t, slot);
      else
        std::fill_n(slot, kBlock, T(0));
      const int64_t complete = t - width + 1;
      if (complete >= sequence.begin && params_.grad_x) write_grad_x(complete);
    }
  }

  void differentiate(const Sequence& sequence, int64_t t, T* slot) {
    find_lags(sequence, t);
    const T* grad_out = params_.grad_out.at(t) + first_;
    for_each_pack<T>(count_, [&](int64_t c, int64_t n) {
      const Pack<T> g = load(grad_out + c, n) * activation_.derivative(convolved(c, n));
      store(slot + c, g);
      store(grad_bias_.data() + c, load(grad_bias_.data() + c) + g);
      for (int64_t k = 0; k < params_.width; ++k) {
        T* grad_tap = grad_taps_.data() + k * kBlock + c;
        store(grad_tap, load(grad_tap) + g * load(lags_[k] + c, n));
      }
    });
  }

  void write_grad_x(int64_t t) {
    T* grad_x = params_.grad_x.at(t) + first_;
    for_each_pack<T>(count_, [&](int64_t c, int64_t n) {
      Pack<T> sum{};
      for (int64_t k = 0; k < params_.width; ++k)
        sum +=
            load(taps_.data() + k * kBlock + c) * load(ring_.data() + ((t + k) % params_.width) * kBlock + c);
      store(grad_x + c, sum, n);
    });
  }

  void add_parameter_gradients() {
    const int64_t width = params_.width;
    for (int64_t c = 0; c < count_; ++c) {
      if (params_.grad_bias) params_.grad_bias[first_ + c] += grad_bias_[c];
      if (!params_.grad_weight) continue;
      for (int64_t k = 0; k < width; ++k)
        params_.grad_weight[(first_ + c + 1) * width - 1 - k] += grad_taps_[k * kBlock + c];
    }
  }

  const CausalConv1dParams<T>& params_;
  const int64_t first_, count_;
  std::vector<const T*> lags_;            // [lag] x_{t-lag}
  std::vector<T> taps_, history_;         // [lag][channel], [row][channel]
  std::vector<T> grad_taps_, grad_bias_;  // [lag][channel], [channel]
  std::vector<T> ring_;                   // [t mod W][channel]
  PackedActivation<T> activation_;
};

int64_t block_count(int64_t channels) { return (channels + kBlock - 1) / kBlock; }

}  // namespace

template <class T>
void causal_conv1d_forward_cpu(const CausalConv1dParams<T>& params) {
  at::parallel_for(0, block_count(params.channels), grain_of(params.tokens * kBlock),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t b = begin; b < end; ++b) ConvBlock<T>(params, b * kBlock).forward();
                   });
}

template <class T>
void causal_conv1d_backward_cpu(const CausalConv1dParams<T>& params) {
  at::parallel_for(0, block_count(params.channels), grain_of(params.tokens * kBlock),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t b = begin; b < end; ++b) ConvBlock<T>(params, b * kBlock).backward();
                   });
}

template void causal_conv1d_forward_cpu(const CausalConv1dParams<float>&);
template void causal_conv1d_forward_cpu(const CausalConv1dParams<double>&);
template void causal_conv1d_backward_cpu(const CausalConv1dParams<float>&);
template void causal_conv1d_backward_cpu(const CausalConv1dParams<double>&);

}  // namespace exactmamba::ops
