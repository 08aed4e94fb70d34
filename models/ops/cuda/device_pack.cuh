// Neighbouring elements of one thread, moved in one access. Arithmetic is fp32 whatever the elements are.
#pragma once

#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <type_traits>

namespace exactmamba::ops {

template <class T, int kSize>
struct alignas(sizeof(T) * kSize) DevicePack {
  static_assert(sizeof(T) * kSize <= 16, "one access moves 16 bytes at most");
  T values[kSize];
};

/// Elements of an access of 16 bytes.
template <class T>
inline constexpr int kWidestPack = 16 / static_cast<int>(sizeof(T));

__device__ __forceinline__ float to_float(float value) { return value; }
__device__ __forceinline__ float to_float(__half value) { return __half2float(value); }
__device__ __forceinline__ float to_float(__nv_bfloat16 value) { return __bfloat162float(value); }

template <class T>
__device__ __forceinline__ T from_float(float value) {
  if constexpr (sizeof(T) == 4)
    return value;
  else if constexpr (std::is_same_v<T, __half>)
    return __float2half_rn(value);
  else
    return __float2bfloat16_rn(value);
}

template <int kSize, class T>
__device__ __forceinline__ DevicePack<T, kSize> load_pack(const T* from) {
  return *reinterpret_cast<const DevicePack<T, kSize>*>(from);
}

template <class T, int kSize>
__device__ __forceinline__ void unpack(const DevicePack<T, kSize>& pack, float (&to)[kSize]) {
#pragma unroll
  for (int i = 0; i < kSize; ++i) to[i] = to_float(pack.values[i]);
}

template <int kSize, class T>
__device__ __forceinline__ void load_floats(const T* from, float (&to)[kSize]) {
  unpack(load_pack<kSize>(from), to);
}

/// Rounds to T; pairs take one instruction.
template <class T, int kSize>
__device__ __forceinline__ DevicePack<T, kSize> pack_floats(const float (&from)[kSize]) {
  DevicePack<T, kSize> pack;
  if constexpr (sizeof(T) == 2 && kSize % 2 == 0) {
#pragma unroll
    for (int i = 0; i < kSize; i += 2) {
      if constexpr (std::is_same_v<T, __half>)
        *reinterpret_cast<__half2*>(pack.values + i) = __floats2half2_rn(from[i], from[i + 1]);
      else
        *reinterpret_cast<__nv_bfloat162*>(pack.values + i) = __floats2bfloat162_rn(from[i], from[i + 1]);
    }
  } else {
#pragma unroll
    for (int i = 0; i < kSize; ++i) pack.values[i] = from_float<T>(from[i]);
  }
  return pack;
}

template <class T, int kSize>
__device__ __forceinline__ void store_floats(T* to, const float (&from)[kSize]) {
  *reinterpret_cast<DevicePack<T, kSize>*>(to) = pack_floats<T>(from);
}

/// Starts a copy into shared memory that only the copying thread may read, behind wait_for_copies(). A pack
/// of less than four bytes is copied at once.
template <class T, int kSize>
__device__ __forceinline__ void start_copy(DevicePack<T, kSize>& to, const T* from) {
  constexpr int kBytes = sizeof(T) * kSize;
  if constexpr (kBytes < 4) {
    to = load_pack<kSize>(from);
  } else {
    const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(&to));
    if constexpr (kBytes == 16)
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(from) : "memory");
    else
      asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(address), "l"(from), "n"(kBytes)
                   : "memory");
  }
}
/// Closes a group of copies.
__device__ __forceinline__ void close_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Waits until at most kGroups groups are under way.
template <int kGroups>
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroups) : "memory");
}

__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(~0u, value, offset);
  return value;
}

}  // namespace exactmamba::ops
