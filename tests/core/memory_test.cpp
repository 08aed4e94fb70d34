#include "core/memory.h"

#include <new>
#include <stdexcept>

#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>
#include <gtest/gtest.h>

namespace exactmamba::core {
namespace {

template <class Function>
bool runs_out_of_memory(const Function& function) {
  try {
    function();
  } catch (...) {
    return out_of_memory();
  }
  ADD_FAILURE() << "nothing was thrown";
  return false;
}

TEST(Memory, ThatRanOutIsRecognised) {
  EXPECT_TRUE(runs_out_of_memory([] { throw std::bad_alloc(); }));
  EXPECT_TRUE(runs_out_of_memory([] { at::empty({int64_t{1} << 60}, at::kFloat); }));
  for (const char* text : {"CUDA out of memory. Tried to allocate 1.00 TiB.", "CUDA error: out of memory",
                           "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"})
    EXPECT_TRUE(runs_out_of_memory([text] { TORCH_CHECK(false, text); })) << text;
  EXPECT_FALSE(runs_out_of_memory([] { TORCH_CHECK(false, "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED"); }));
  EXPECT_FALSE(runs_out_of_memory([] { throw std::runtime_error("out of memory"); }));
}

}  // namespace
}  // namespace exactmamba::core
