// The contract of the CUDA kernels of one token of generation, all sequences at once: a few fused kernels a
// layer, each of which loads its weights while its predecessor still runs. B sequences, d model size, D inner
// size, N states, H heads, P head size; rows lie one behind the other. T: float, __nv_bfloat16 or
// __half.
//
// The residual stream stays in float. A norm is split over two kernels: the one that makes its input leaves
// x · weight · (the factor that carried the input before) in T, and parts of Σ x²; the one that multiplies it
// puts in what is missing of 1/rms(x). So no kernel only normalises, and T holds numbers near one.
#pragma once

#include <cstdint>
#include <cuda_runtime_api.h>
#include <limits>

#include "models/ops/conv_activation.h"

namespace exactmamba::ops {

/// What the kernels below ask for.
inline constexpr int kStepMostConvWidth = 4, kStepScanStates = 16, kStepMostDtRank = 256, kStepHeadRows = 16,
                     kStepMostStates = 128;
/// Up to so many sequences a step is made of latencies, for more of traffic.
inline constexpr int64_t kStepFew = 8;

/// The norm of a product's input.
struct StepNorm {
  const float* squares = nullptr;  // (B, parts) parts of Σ x² [nullable: nothing is normalised]
  int64_t parts = 0, size = 0;
  float eps = 0;
  const float* carried = nullptr;  // (B) the factor that the input carries [nullable: one]
  float* rstd = nullptr;           // (B) 1/rms(x), written [nullable]
};

/// Weights of a later kernel, moved nearer meanwhile: a multiple of 16 bytes.
struct StepAhead {
  const void* data = nullptr;
  int64_t bytes = 0;
};

/// x Wᵀ + bias: x (B, inner), weight (rows, inner), both aligned to 16 bytes, inner a multiple of 16 bytes.
template <class T>
struct StepProduct {
  int64_t batch = 0, rows = 0, inner = 0;
  const T* x = nullptr;
  const T* weight = nullptr;
  const T* bias = nullptr;  // (rows) [nullable]
  StepNorm norm;
  StepAhead ahead[2];  // up to kStepFew sequences
  cudaStream_t stream = nullptr;
};

/// in_proj, and the causal convolution of the rows [conv_begin, conv_begin + conv_channels). W ≤
/// kStepMostConvWidth.
template <class T>
struct StepIn {
  StepProduct<T> product;
  T* projected = nullptr;  // (B, rows); what is convolved is left out
  int64_t conv_begin = 0, conv_channels = 0, conv_width = 0;
  models::ConvActivation activation;
  const float* conv_weight = nullptr;  // (C, W)
  const float* conv_bias = nullptr;    // (C) [nullable]
  float* conv_state = nullptr;         // (B, W-1, C), shifted in place
  T* convolved = nullptr;              // (B, C)
};

/// x_proj.
template <class T>
struct StepRows {
  StepProduct<T> product;
  float* out = nullptr;  // (B, rows)
};

/// out_proj, the addition to the stream and the input of the norm that follows.
template <class T>
struct StepOut {
  StepProduct<T> product;
  float* residual = nullptr;           // (B, d), added to
  const float* next_weight = nullptr;  // (d) of the next norm
  const float* factor = nullptr;       // (B) that its input shall carry
  T* normed = nullptr;                 // (B, d)
  float* squares = nullptr;            // (B, parts), parts of step_out_parts()
};

/// The head, and of every part of the vocabulary the best token.
template <class T>
struct StepHead {
  StepProduct<T> product;
  int64_t vocab_size = 0;       // rows from here on are padding
  float* best_value = nullptr;  // (B, parts), parts of step_head_parts()
  int32_t* best_token = nullptr;
};

/// Mamba-1: dt_proj and the scan of one token with its gate. N = kStepScanStates, R ≤ kStepMostDtRank and a
/// multiple of 4.
template <class T, class State>
struct StepScan1 {
  int64_t batch = 0, channels = 0, dt_rank = 0;
  const float* dt_B_C = nullptr;                                      // (B, R + 2N)
  const T* dt_weight = nullptr;                                       // (D, R)
  const float *dt_bias = nullptr, *A_log = nullptr, *skip = nullptr;  // (D), (D, N), (D)
  const T *convolved = nullptr, *projected = nullptr;                 // (B, D), (B, 2D)
  State* state = nullptr;                                             // (B, D, N), in place
  T* inner = nullptr;                                                 // (B, D)
  cudaStream_t stream = nullptr;
};

/// Mamba-2: the scan of one token with its gate and the input of the gated norm. P a multiple of
/// kStepHeadRows, one group, N ≤ kStepMostStates and a multiple of 8.
template <class T, class State>
struct StepScan2 {
  int64_t batch = 0, heads = 0, head_size = 0, states = 0;
  float dt_min = 0, dt_max = std::numeric_limits<float>::infinity();
  const float *A_log = nullptr, *skip = nullptr, *dt_bias = nullptr, *norm_weight = nullptr;  // (H) …, (D)
  const T *convolved = nullptr, *projected = nullptr;  // (B, D + 2N), (B, 2D + 2N + H)
  State* state = nullptr;                              // (B, H, P, N), in place
  T* normed = nullptr;                                 // (B, D)
  float* squares = nullptr;                            // (B, D / kStepHeadRows)
  cudaStream_t stream = nullptr;
};

/// The embedding of `tokens` and the input of the first norm.
template <class T>
struct StepEmbed {
  int64_t batch = 0, size = 0, parts = 0;
  const int64_t* tokens = nullptr;  // (B); a negative one counts as 0 [of a StepNext: null]
  const T* embedding = nullptr;
  const float* norm_weight = nullptr;  // (d)
  float eps = 0;
  float *residual = nullptr, *factor = nullptr, *squares = nullptr;  // (B, d), (B), (B, parts)
  T* normed = nullptr;                                               // (B, d)
  cudaStream_t stream = nullptr;
};

/// The best token of all parts, of equal ones the lowest, −1 where a logit was not finite; and its embedding.
template <class T>
struct StepNext {
  int64_t parts = 0;
  const float* best_value = nullptr;
  const int32_t* best_token = nullptr;
  int32_t* position = nullptr;  // (B) into history, counted up
  int64_t* history = nullptr;   // (positions, B)
  StepEmbed<T> embed;
};

template <class T>
int64_t step_out_parts(int64_t batch, int64_t rows);
template <class T>
int64_t step_head_parts(int64_t batch, int64_t rows, int64_t inner);

template <class T>
cudaError_t launch_step_embed(const StepEmbed<T>& params);
template <class T>
cudaError_t launch_step_next(const StepNext<T>& params);
template <class T>
cudaError_t launch_step_in(const StepIn<T>& params);
template <class T>
cudaError_t launch_step_rows(const StepRows<T>& params);
template <class T>
cudaError_t launch_step_out(const StepOut<T>& params);
template <class T>
cudaError_t launch_step_head(const StepHead<T>& params);
template <class T, class State>
cudaError_t launch_step_scan1(const StepScan1<T, State>& params);
template <class T, class State>
cudaError_t launch_step_scan2(const StepScan2<T, State>& params);

}  // namespace exactmamba::ops
