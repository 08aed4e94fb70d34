#include "decomp/interaction_map.h"

#include <fmt/format.h>

namespace exactmamba::decomp {

std::string InteractionMap::name() const {
  const std::string of_layer = layer == kWholeModel ? "" : fmt::format("layer{}.", layer);
  const std::string of_approximation = approximation.empty() ? "" : approximation + ".";
  return fmt::format("row{}.{}{}{}", row.index, of_layer, of_approximation, method);
}

std::string InteractionMap::title() const { return map_title(method, approximation); }

std::string map_title(const std::string& method, const std::string& approximation) {
  return approximation.empty() ? method : fmt::format("{} · {}", method, approximation);
}

}  // namespace exactmamba::decomp
