// Dtypes of models and weights by the names that options, files and results use.
#pragma once

#include <string>

#include <c10/core/ScalarType.h>

#include "core/names.h"

namespace exactmamba::core {

/// What models compute in, and what their weights are stored in.
inline constexpr Names<2> kComputeDtypeNames = {"float32", "float64"};
inline constexpr Names<4> kStorageDtypeNames = {"float32", "float16", "bfloat16", "float64"};

/// `name` is one of kStorageDtypeNames. @throws InputError naming `where`
at::ScalarType dtype_from_name(const std::string& name, const std::string& where);

/// One of kStorageDtypeNames; null for another dtype.
const char* dtype_name(at::ScalarType dtype);

/// For messages and listings: the name of any dtype, as Python's libraries have it ("int64"), or LibTorch's
/// where they have none.
const char* dtype_text(at::ScalarType dtype);

}  // namespace exactmamba::core
