#include "core/dtype.h"

#include <algorithm>

namespace exactmamba::core {
namespace {

constexpr at::ScalarType kStorageDtypes[] = {at::kFloat, at::kHalf, at::kBFloat16, at::kDouble};

}  // namespace

at::ScalarType dtype_from_name(const std::string& name, const std::string& where) {
  return kStorageDtypes[enum_from_name<size_t>(kStorageDtypeNames, name, where)];
}

const char* dtype_name(at::ScalarType dtype) {
  const auto found = std::find(std::begin(kStorageDtypes), std::end(kStorageDtypes), dtype);
  return found == std::end(kStorageDtypes) ? nullptr : kStorageDtypeNames[found - std::begin(kStorageDtypes)];
}

}  // namespace exactmamba::core
