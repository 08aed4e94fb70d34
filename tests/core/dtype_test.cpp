#include "core/dtype.h"

#include <gtest/gtest.h>

#include "core/error.h"

namespace exactmamba::core {
namespace {

TEST(Dtype, HasOneName) {
  EXPECT_EQ(dtype_from_name("float32", ""), at::kFloat);
  EXPECT_EQ(dtype_from_name("float16", ""), at::kHalf);
  EXPECT_EQ(dtype_from_name("bfloat16", ""), at::kBFloat16);
  EXPECT_EQ(dtype_from_name("float64", ""), at::kDouble);
  for (const char* name : kStorageDtypeNames) EXPECT_STREQ(dtype_name(dtype_from_name(name, "")), name);
  EXPECT_EQ(dtype_name(at::kLong), nullptr);
  EXPECT_STREQ(dtype_text(at::kFloat), "float32");
  EXPECT_STREQ(dtype_text(at::kLong), "int64");
  EXPECT_STREQ(dtype_text(at::kBool), "bool");
  EXPECT_STREQ(dtype_text(at::kQInt8), "QInt8");
  EXPECT_THROW(dtype_from_name("Float", "--dtype"), InputError);
}

}  // namespace
}  // namespace exactmamba::core
