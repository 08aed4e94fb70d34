#include "decomp/approximation.h"

namespace exactmamba::decomp {
const char* approximation_name(Approximation approximation) {
  return kApproximationNames[static_cast<size_t>(approximation)];
}

const char* bias_rule_name(BiasRule bias) { return kBiasRuleNames[static_cast<size_t>(bias)]; }

Approximation approximation_from_name(const std::string& name, const std::string& where) {
  return core::enum_from_name<Approximation>(kApproximationNames, name, where);
}

BiasRule bias_rule_from_name(const std::string& name, const std::string& where) {
  return core::enum_from_name<BiasRule>(kBiasRuleNames, name, where);
}

}  // namespace exactmamba::decomp
