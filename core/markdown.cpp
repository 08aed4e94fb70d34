#include "core/markdown.h"

#include <fmt/format.h>

namespace exactmamba::core {

std::string fenced_block(std::string_view text, std::string_view language) {
  std::string fence = "```";
  while (text.find(fence) != std::string_view::npos) fence += '`';
  return fmt::format("{}{}\n{}{}{}\n", fence, language, text, text.ends_with('\n') ? "" : "\n", fence);
}

}  // namespace exactmamba::core
