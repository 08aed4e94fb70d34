#include "data/token_label.h"

#include <fmt/format.h>

#include "core/utf8.h"

namespace exactmamba::data {
namespace {

std::string hexadecimal(char byte) { return fmt::format("<0x{:02X}>", static_cast<unsigned char>(byte)); }

std::string label_of_valid(std::string_view text) {
  std::string label;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == ' ')
      label += "␣";
    else if (c == '\n')
      label += "\\n";
    else if (c == '\t')
      label += "\\t";
    else if (byte < 0x20 || byte == 0x7F)
      label += hexadecimal(c);
    else
      label.push_back(c);
  }
  return label;
}

}  // namespace

std::string token_label(std::string_view bytes) {
  std::string label;
  while (const std::optional<size_t> invalid = core::find_invalid_utf8(bytes)) {
    label += label_of_valid(bytes.substr(0, *invalid)) + hexadecimal(bytes[*invalid]);
    bytes.remove_prefix(*invalid + 1);
  }
  return label + label_of_valid(bytes);
}

}  // namespace exactmamba::data
