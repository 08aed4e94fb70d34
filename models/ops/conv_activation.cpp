#include "models/ops/conv_activation.h"

#include "core/names.h"

namespace exactmamba::models {

namespace {

constexpr core::Names<3> kActivationNames = {"silu", "relu", "identity"};

}  // namespace

const char* activation_name(ActivationKind kind) { return kActivationNames[static_cast<size_t>(kind)]; }

ActivationKind activation_from_name(const std::string& name, const std::string& where) {
  return core::enum_from_name<ActivationKind>(kActivationNames, name, where);
}

}  // namespace exactmamba::models
