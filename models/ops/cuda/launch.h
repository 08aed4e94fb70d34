// What launch functions need to know of the device and of their pointers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cuda_runtime_api.h>

#include "models/ops/rows.h"

namespace exactmamba::ops {

inline int device_attribute(cudaDeviceAttr attribute) {
  int device = 0, value = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&value, attribute, device);
  return value;
}

inline int multiprocessors() { return device_attribute(cudaDevAttrMultiProcessorCount); }

inline bool is_aligned(const void* pointer, size_t bytes) {
  return reinterpret_cast<uintptr_t>(pointer) % bytes == 0;
}

/// Whether accesses of `elements` neighbours are aligned in every token. True of a null pointer.
template <class T>
bool allows_packs(const Rows<T>& rows, int64_t elements) {
  return !rows.data || (is_aligned(rows.data, sizeof(T) * elements) && rows.token_stride % elements == 0 &&
                        rows.batch_stride % elements == 0);
}

/// Whether the rows lie one behind the other, so that position p is at p · token_stride.
template <class T>
bool is_flat(const Rows<T>& rows, int64_t tokens) {
  return !rows.data || rows.length == tokens || rows.batch_stride == rows.length * rows.token_stride;
}

template <class Integer>
constexpr Integer ceil_divide(Integer a, Integer b) {
  return (a + b - 1) / b;
}

}  // namespace exactmamba::ops
