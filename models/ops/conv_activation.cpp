#include "models/ops/conv_activation.h"

#include "core/error.h"

namespace exactmamba::models {

const char* activation_name(ActivationKind kind) {
  switch (kind) {
    case ActivationKind::kSilu:
      return "silu";
    case ActivationKind::kRelu:
      return "relu";
    case ActivationKind::kIdentity:
      break;
  }
  return "identity";
}

ActivationKind activation_from_name(const std::string& name, const std::string& where) {
  for (auto kind : {ActivationKind::kSilu, ActivationKind::kRelu, ActivationKind::kIdentity})
    if (name == activation_name(kind)) return kind;
  throw core::InputError(fmt::format("{}: '{}' is no activation; use silu, relu or identity", where, name));
}

}  // namespace exactmamba::models
