#include "decomp/interaction_map.h"

#include <fmt/format.h>

namespace exactmamba::decomp {

std::string InteractionMap::name() const {
  const std::string of_layer = layer == kWholeModel ? "" : fmt::format("layer{}.", layer);
  return fmt::format("row{}.{}{}.{}", row.index, of_layer, approximation, method);
}

}  // namespace exactmamba::decomp
