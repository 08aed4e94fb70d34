#include "decomp/approximation.h"

#include "decomp/names.h"

namespace exactmamba::decomp {
namespace {

constexpr std::array kApproximationNames = {"activation", "identity", "relu", "taylor", "ratio"};
constexpr std::array kBiasRuleNames = {"own", "separate"};

}  // namespace

const char* approximation_name(Approximation approximation) {
  return kApproximationNames[static_cast<size_t>(approximation)];
}

const char* bias_rule_name(BiasRule bias) { return kBiasRuleNames[static_cast<size_t>(bias)]; }

Approximation approximation_from_name(const std::string& name, const std::string& where) {
  return enum_from_name<Approximation>(kApproximationNames, name, where);
}

BiasRule bias_rule_from_name(const std::string& name, const std::string& where) {
  return enum_from_name<BiasRule>(kBiasRuleNames, name, where);
}

}  // namespace exactmamba::decomp
