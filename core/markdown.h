// What reports and model cards share of writing Markdown.
#pragma once

#include <string>
#include <string_view>

namespace exactmamba::core {

/// `text` as a code block, ending with one newline; the fence is longer than every run of backticks inside.
std::string fenced_block(std::string_view text, std::string_view language);

}  // namespace exactmamba::core
