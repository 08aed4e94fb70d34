#include "core/dtype.h"

#include <algorithm>
#include <utility>

namespace exactmamba::core {
namespace {

constexpr at::ScalarType kStorageDtypes[] = {at::kFloat, at::kHalf, at::kBFloat16, at::kDouble};

constexpr std::pair<at::ScalarType, const char*> kOtherDtypes[] = {
    {at::kLong, "int64"},
    {at::kInt, "int32"},
    {at::kShort, "int16"},
    {at::kChar, "int8"},
    {at::kByte, "uint8"},
    {at::kBool, "bool"},
    {at::kUInt16, "uint16"},
    {at::kUInt32, "uint32"},
    {at::kUInt64, "uint64"},
    {at::kComplexFloat, "complex64"},
    {at::kComplexDouble, "complex128"},
    {at::kFloat8_e4m3fn, "float8_e4m3fn"},
    {at::kFloat8_e5m2, "float8_e5m2"},
};

}  // namespace

at::ScalarType dtype_from_name(const std::string& name, const std::string& where) {
  return kStorageDtypes[enum_from_name<size_t>(kStorageDtypeNames, name, where)];
}

const char* dtype_name(at::ScalarType dtype) {
  const auto found = std::find(std::begin(kStorageDtypes), std::end(kStorageDtypes), dtype);
  return found == std::end(kStorageDtypes) ? nullptr : kStorageDtypeNames[found - std::begin(kStorageDtypes)];
}

const char* dtype_text(at::ScalarType dtype) {
  if (const char* name = dtype_name(dtype)) return name;
  for (const auto& [other, name] : kOtherDtypes)
    if (other == dtype) return name;
  return at::toString(dtype);
}

}  // namespace exactmamba::core
