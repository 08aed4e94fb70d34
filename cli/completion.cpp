#include "cli/completion.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

namespace exactmamba::cli {
namespace {

/// Its commands and long options.
std::string words_after(const CLI::App& command) {
  std::vector<std::string> words = subcommands_of(command);
  const std::vector<std::string> options = options_of(command);
  words.insert(words.end(), options.begin(), options.end());
  return fmt::format("{}", fmt::join(words, " "));
}

/// What may follow the words of `path` ("score bleu"), for it and for all commands below it.
std::string cases_of(const CLI::App& command, const std::string& path) {
  std::string cases;
  for (const std::string& name : subcommands_of(command)) {
    const std::string longer = path.empty() ? name : path + " " + name;
    cases += cases_of(*command.get_subcommand(name), longer);
  }
  const char* place = subcommands_of(command).empty() ? "options" : "commands";
  return cases + fmt::format("    \"{}{}\"*) place={} words=\"{}\" ;;\n", path, path.empty() ? "" : " ",
                             place, words_after(command));
}

}  // namespace

std::vector<std::string> options_of(const CLI::App& command) {
  std::vector<std::string> options;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) options.push_back("--" + name);
  }
  return options;
}

std::vector<std::string> subcommands_of(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::App* each : command.get_subcommands([](const CLI::App*) { return true; }))
    names.push_back(each->get_name());
  return names;
}

std::string bash_completion(const CLI::App& program) {
  return fmt::format(R"(_exactmamba() {{
  local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[*]:1:COMP_CWORD-1}} " place words
  case "$before" in
{}  esac
  if [[ "$word" == -* || $place == commands ]]; then
    COMPREPLY=($(compgen -W "$words" -- "$word"))
  else
    COMPREPLY=($(compgen -f -- "$word"))
  fi
}}
complete -o filenames -F _exactmamba exactmamba
)",
                     cases_of(program, ""));
}

}  // namespace exactmamba::cli
