// A bash completion script made from the declared commands and options.
#pragma once

#include <string>

namespace CLI {
class App;
}

namespace exactmamba::cli {

std::string bash_completion(const CLI::App& program);

}  // namespace exactmamba::cli
