// The launches of the Mamba-1 scan's backward pass: which kernel, how the rows are cut, the last sums.
#pragma once

#include "models/ops/selective_scan/selective_scan_backward_kernel.cuh"
#include "models/ops/selective_scan/selective_scan_backward_team.cuh"

namespace exactmamba::ops::scan {

/// The gradients of B and C: sums over the blocks of a group. A thread takes kWidth states of one token.
template <class T, int kWidth>
__global__ void sum_blocks_kernel(const float* partials, Rows<T> grad_B, Rows<T> grad_C, int first_row,
                                  int rows, int length, int states, int blocks_per_group) {
  const int kind = blockIdx.y, group = blockIdx.z, vectors = states / kWidth;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= static_cast<int64_t>(rows) * length * vectors) return;
  const Rows<T>& to = kind == 0 ? grad_B : grad_C;
  if (!to.data) return;
  const int64_t kind_size = static_cast<int64_t>(rows) * length * states;
  const float* from =
      partials + (static_cast<int64_t>(group) * blocks_per_group * 2 + kind) * kind_size + index * kWidth;
  float sum[kWidth] = {};
#pragma unroll 8
  for (int b = 0; b < blocks_per_group; ++b) {
    const DevicePack<float, kWidth> pack =
        *reinterpret_cast<const DevicePack<float, kWidth>*>(from + b * 2 * kind_size);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) sum[i] += pack.values[i];
  }
  const int64_t token = index / vectors;
  const int n = static_cast<int>(index % vectors) * kWidth;
  T* const at = to.data + (first_row + token / length) * to.batch_stride + token % length * to.token_stride +
                static_cast<int64_t>(group) * states + n;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) at[i] = from_float<T>(sum[i]);
}

/// The gradients of A (n < N of a channel), D and the bias of Δ (one thread each): sums over rows and
/// segments.
template <class P>
__global__ void sum_rows_kernel(const __grid_constant__ P p, BackwardPartials partials, int parts) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x, channels = p.channels,
                states = p.states;
  const auto add = [&](float* to, const float* from, int64_t at, int64_t size, auto factor) {
    if (!to) return;
    float sum = 0.f;
#pragma unroll 8
    for (int part = 0; part < parts; ++part) sum += from[part * size + at];
    to[at] += factor(sum);
  };
  const auto itself = [](float sum) { return sum; };
  if (i < channels * states)
    add(p.grad_A, partials.A, i, channels * states, [&](float sum) {
      return p.A_is_log ? sum * A_of(p, p.A[i]) : sum;  // dA/dA_log = A
    });
  else if (i < channels * (states + 1))
    add(p.grad_D, partials.D, i - channels * states, channels, itself);
  else if (i < channels * (states + 2))
    add(p.grad_delta_bias, partials.bias, i - channels * (states + 1), channels, itself);
}

// ---- launch ----

/// Who does it, and how the workspace is laid out.
struct BackwardPlan {
  bool team;  // backward_team_kernel
  int warps;  // of a block, that walk
  ScanGrid grid;
  int64_t rows;  // of the batch at a time
  bool chained;  // the segments of a row are chained within the launch
  size_t segment_bytes, BC_bytes, A_bytes, channel_bytes, queue_bytes;

  size_t bytes() const { return segment_bytes + BC_bytes + A_bytes + 2 * channel_bytes + queue_bytes; }
};

/// How evenly blocks fill a device that holds `slots` of them at once, and in how many segments one after the
/// other they should do their rows' tiles.
struct WaveFill {
  double busy = 0;
  int segments = 1;
};
inline WaveFill fill_waves(int64_t blocks, int64_t slots, int tiles) {
  if (blocks <= slots) return {1, 1};
  constexpr int kMostSegments = 8;
  constexpr double kStart = 0.5;  // tiles that a segment's beginning and end cost
  WaveFill best;
  for (int segments = 1; segments <= std::min(kMostSegments, std::max(tiles / 2, 1)); ++segments) {
    const int64_t waves = (blocks * segments + slots - 1) / slots, length = (tiles + segments - 1) / segments;
    const double busy = static_cast<double>(blocks * tiles) / slots / (waves * (length + kStart));
    if (busy > best.busy + 0.01) best = {busy, segments};
  }
  return best;
}

/// What backward_team_kernel is made for.
template <class T, class Shape, bool kVector>
constexpr bool kTeams = kVector && sizeof(T) == 2 && std::is_same_v<Shape, TeamShape>;

template <class Shape, bool kVector, class T>
BackwardPlan backward_plan(const SelectiveScanCudaParams<T>& p) {
  using Memory = BackwardMemory<Shape>;
  constexpr int kResidentWarps = kMostWarps;  // of a multiprocessor: 168 registers a thread
  constexpr size_t kMostPartials = size_t{256} << 20;
  const int64_t per_group = p.channels / p.groups;
  const int needed = static_cast<int>((per_group + Shape::kWarpChannels - 1) / Shape::kWarpChannels);
  int device = 0, shared = 0, shared_of_processor = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  cudaDeviceGetAttribute(&shared_of_processor, cudaDevAttrMaxSharedMemoryPerMultiprocessor, device);

  BackwardPlan plan{};
  plan.warps = 1;
  int segments = 1;
  double best = 0;
  // Large blocks leave fewer partial sums of ∂B and ∂C, small ones fill the device more evenly.
  const auto consider = [&](bool team, int warps, size_t bytes, double speed) {
    if (bytes + 1024 > static_cast<size_t>(shared)) return;
    const ScanGrid grid = grid_of<Shape>(p, warps);
    const int resident =
        team ? 1 : std::max(1, std::min<int>(kResidentWarps / warps, shared_of_processor / (bytes + 1024)));
    const WaveFill fill =
        fill_waves(p.batch * grid.channel_blocks, multiprocessors() * resident, grid.segment_tiles);
    const double used = static_cast<double>(per_group) /
                        (static_cast<double>(grid.blocks_per_group) * warps * Shape::kWarpChannels);
    const double worth = fill.busy * used * speed;
    if (worth > best + 0.08) best = worth, plan.team = team, plan.warps = warps, segments = fill.segments;
  };
  if constexpr (kTeams<T, Shape, kVector>) {
    constexpr int kWalkers = TeamMemory::kWalkers;
    const ScanGrid grid = grid_of<Shape>(p, kWalkers);
    const bool resets = !p.cu_seqlens || (!p.initial_state && !p.grad_last_state);
    if (p.states == Shape::kPadded && grid.vector_bc && grid.vector_states && resets)
      consider(true, kWalkers, TeamMemory::kBytes, 1.1);
  }
  for (const int warps : {12, 6, 4, 2})
    if (warps <= std::max(needed, 2)) consider(false, warps, Memory::template bytes<T>(warps), 1);
  plan.grid = grid_of<Shape>(p, plan.warps);
  plan.chained = segments > 1;
  if (plan.chained)
    cut(plan.grid, segments);
  else
    cut_into_segments(plan.grid, p.batch * plan.grid.channel_blocks,
                      int64_t{multiprocessors()} * (plan.team ? plan.warps : kResidentWarps) / plan.warps);

  const auto padded = [](size_t bytes) { return (bytes + 255) / 256 * 256; };
  const size_t row_bytes = sizeof(float) * 2 * plan.grid.channel_blocks * p.length * p.states;
  plan.rows = std::clamp<int64_t>(kMostPartials / std::max<size_t>(row_bytes, 1), 1, p.batch);
  const size_t parts = p.batch * plan.grid.segments;
  plan.segment_bytes = padded(segment_bytes(p, plan.grid));
  plan.BC_bytes = padded(row_bytes * plan.rows);
  plan.A_bytes = padded(sizeof(float) * parts * p.channels * p.states);
  plan.channel_bytes = padded(sizeof(float) * parts * p.channels);
  plan.queue_bytes = plan.chained ? padded(sizeof(int) * (1 + plan.rows * plan.grid.channel_blocks)) : 0;
  return plan;
}

template <class T>
cudaError_t launch_block_sums(const SelectiveScanCudaParams<T>& p, const ScanGrid& grid, int64_t rows,
                              const float* partials) {
  constexpr int kThreads = 256;
  const int width = p.states % 4 == 0 ? 4 : 1;
  const int64_t threads = rows * p.length * (p.states / width);
  const dim3 blocks(static_cast<unsigned>((threads + kThreads - 1) / kThreads), 2,
                    static_cast<unsigned>(p.groups));
  const auto kernel = width == 4 ? sum_blocks_kernel<T, 4> : sum_blocks_kernel<T, 1>;
  kernel<<<blocks, kThreads, 0, p.stream>>>(partials, p.grad_B, p.grad_C, grid.first_row,
                                            static_cast<int>(rows), static_cast<int>(p.length),
                                            static_cast<int>(p.states), grid.blocks_per_group);
  return cudaGetLastError();
}

/// Rare shapes have one kernel for all cases.
template <class T, class Shape, bool kVector>
auto backward_kernel_for(const BackwardPlan& plan, bool packed, bool writes_out) {
  if constexpr (kTeams<T, Shape, kVector>)
    if (plan.team) return packed ? backward_team_kernel<T, true> : backward_team_kernel<T, false>;
  if constexpr (kVector) {
    if (!plan.chained)
      return writes_out ? backward_kernel<T, Shape, true, false, true>
                        : backward_kernel<T, Shape, true, false, false>;
    if (!writes_out) return backward_kernel<T, Shape, true, true, false>;
  }
  return backward_kernel<T, Shape, kVector, true, true>;
}

template <class T, class Shape, bool kVector>
cudaError_t launch_backward(const SelectiveScanCudaParams<T>& p) {
  BackwardPlan plan = backward_plan<Shape, kVector>(p);
  char* const workspace = static_cast<char*>(p.workspace);
  BackwardPartials partials{};
  partials.BC = reinterpret_cast<float*>(workspace + plan.segment_bytes);
  partials.A = partials.BC + plan.BC_bytes / sizeof(float);
  partials.D = partials.A + plan.A_bytes / sizeof(float);
  partials.bias = partials.D + plan.channel_bytes / sizeof(float);

  float* const carry = plan.grid.segments > 1 ? reinterpret_cast<float*>(workspace) : nullptr;
  int* const queue =
      plan.chained ? reinterpret_cast<int*>(workspace + plan.bytes() - plan.queue_bytes) : nullptr;
  if (carry && !queue) {
    // The same segments, by smaller blocks.
    const int warps = forward_warps<Shape>(p);
    ScanGrid grid = grid_of<Shape>(p, warps);
    grid.segments = plan.grid.segments, grid.segment_tiles = plan.grid.segment_tiles;
    if (const cudaError_t error = launch_segments<T, Shape, kVector, true>(p, grid, warps, carry))
      return error;
  }
  const auto kernel = backward_kernel_for<T, Shape, kVector>(plan, p.cu_seqlens, p.out.data);
  const size_t bytes = plan.team ? TeamMemory::kBytes : BackwardMemory<Shape>::template bytes<T>(plan.warps);
  const int threads_of_block = (plan.team ? 64 : 32) * plan.warps;
  if (const cudaError_t error = allow_shared(kernel, bytes)) return error;
  for (int64_t row = 0; row < p.batch; row += plan.rows) {
    const int64_t rows = std::min(plan.rows, p.batch - row);
    plan.grid.first_row = static_cast<int>(row);
    if (queue)
      if (const cudaError_t error = cudaMemsetAsync(queue, 0, plan.queue_bytes, p.stream)) return error;
    const dim3 blocks(static_cast<unsigned>(rows * plan.grid.channel_blocks), plan.grid.segments);
    kernel<<<blocks, threads_of_block, bytes, p.stream>>>(p, plan.grid, partials, carry, queue);
    if (const cudaError_t error = cudaGetLastError()) return error;
    if (p.grad_B.data || p.grad_C.data)
      if (const cudaError_t error = launch_block_sums(p, plan.grid, rows, partials.BC)) return error;
  }
  const int64_t threads = p.channels * (p.states + 2);
  sum_rows_kernel<<<static_cast<unsigned>((threads + 127) / 128), 128, 0, p.stream>>>(
      p, partials, static_cast<int>(p.batch * plan.grid.segments));
  return cudaGetLastError();
}

}  // namespace exactmamba::ops::scan

namespace exactmamba::ops {

template <class T>
size_t selective_scan_backward_workspace(const SelectiveScanCudaParams<T>& p) {
  size_t bytes = 0;
  scan::dispatch_shape(p, [&]<class Shape, bool kVector>() {
    bytes = scan::backward_plan<Shape, kVector>(p).bytes();
    return cudaSuccess;
  });
  return bytes;
}

template <class T>
cudaError_t launch_selective_scan_backward(const SelectiveScanCudaParams<T>& p) {
  if (!scan::valid(p)) return cudaErrorInvalidValue;
  if (p.batch * p.length * p.channels == 0) return cudaSuccess;
  return scan::dispatch_shape(
      p, [&]<class Shape, bool kVector>() { return scan::launch_backward<T, Shape, kVector>(p); });
}

}  // namespace exactmamba::ops
