// A bash completion script made from the declared commands and options.
#pragma once

#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace exactmamba::cli {

/// The names of a command's own commands.
std::vector<std::string> subcommands_of(const CLI::App& command);

/// "--beam", … of a command.
std::vector<std::string> options_of(const CLI::App& command);

std::string bash_completion(const CLI::App& program);

}  // namespace exactmamba::cli
