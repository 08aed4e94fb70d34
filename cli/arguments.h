// The command line, parsed: a struct of arguments and a function per subcommand (cli/commands/).
#pragma once

#include <functional>

namespace exactmamba::cli {

/// What the arguments ask for, ready to be called; --help and --version are commands that print. @throws
/// UsageError
std::function<void()> parse_arguments(int argc, const char* const* argv);

}  // namespace exactmamba::cli
