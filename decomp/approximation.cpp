#include "decomp/approximation.h"

#include <algorithm>
#include <array>
#include <iterator>

#include "core/error.h"

namespace exactmamba::decomp {
namespace {

constexpr std::array kApproximationNames = {"activation", "identity", "relu", "taylor", "ratio"};
constexpr std::array kBiasRuleNames = {"own", "separate"};

template <class Enum, size_t n>
Enum from_name(const std::array<const char*, n>& names, const std::string& name, const std::string& where) {
  const auto found = std::find(names.begin(), names.end(), name);
  std::string known;
  for (const char* each : names) known += (known.empty() ? "" : ", ") + std::string(each);
  core::require(found != names.end(), "{}: unknown name '{}'; use one of: {}", where, name, known);
  return static_cast<Enum>(std::distance(names.begin(), found));
}

}  // namespace

const char* approximation_name(Approximation approximation) {
  return kApproximationNames[static_cast<size_t>(approximation)];
}

const char* bias_rule_name(BiasRule bias) { return kBiasRuleNames[static_cast<size_t>(bias)]; }

Approximation approximation_from_name(const std::string& name, const std::string& where) {
  return from_name<Approximation>(kApproximationNames, name, where);
}

BiasRule bias_rule_from_name(const std::string& name, const std::string& where) {
  return from_name<BiasRule>(kBiasRuleNames, name, where);
}

}  // namespace exactmamba::decomp
