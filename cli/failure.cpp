#include "cli/failure.h"

#include <cstdio>
#include <exception>
#include <filesystem>
#include <sstream>
#include <string>

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include "core/error.h"
#include "core/memory.h"

namespace exactmamba::cli {
namespace {

struct Teller {
  std::string rank;     // before a message; "" in the first process
  bool silent = false;  // another process tells what is wrong with recipe and files
};
Teller teller;

void print(const std::string& message) {
  const std::string before = message.starts_with("rank ") ? "" : teller.rank;
  std::istringstream lines(message);
  std::string all;
  for (std::string line; std::getline(lines, line);) all += "exactmamba: error: " + before + line + "\n";
  std::fflush(stdout);
  std::fputs(all.c_str(), stderr);
}

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

int input_failure(const std::string& message) {
  print(message);
  return static_cast<int>(core::ExitCode::kInput);
}

int other_failure(const std::string& message) {
  return input_failure(core::out_of_memory() ? "not enough memory; use a smaller model, batch or context"
                                             : message);
}

}  // namespace

void tell_failures_of(const core::Job& job, bool alike) {
  teller.rank = job.rank == 0 ? "" : fmt::format("rank {} of {}: ", job.rank, job.size);
  teller.silent = alike && job.local_rank > 0;
}

int report_failure() {
  try {
    throw;
  } catch (const core::Error& error) {
    if (!teller.silent) print(error.what());
    return error.exit_code();
  } catch (const std::filesystem::filesystem_error& error) {
    const std::string place = error.path1().string();
    print(place.empty() ? error.what() : fmt::format("{}: {}", place, error.code().message()));
    return static_cast<int>(core::ExitCode::kIo);
  } catch (const c10::Error& error) {
    return other_failure("LibTorch: " + first_line(error.what_without_backtrace()));
  } catch (const std::exception& error) {
    return other_failure("internal error: " + first_line(error.what()));
  }
}

}  // namespace exactmamba::cli
