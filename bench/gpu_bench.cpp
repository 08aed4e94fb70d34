// What a GPU does with the operators, with training and with generation: bench/README.md.
//   gpu_bench ops|train|generate|all [--only TEXT] [--baseline REPORT.json] [--json REPORT.json]
#include <exception>
#include <map>
#include <optional>
#include <string>

#include <fmt/format.h>

#include "bench/gpu_report.h"
#include "core/device.h"
#include "core/error.h"

namespace {

using namespace exactmamba;

constexpr const char* kUsage =
    "usage: gpu_bench ops|train|generate|all [--only TEXT] [--baseline REPORT.json] [--json REPORT.json]";

struct Arguments {
  std::string subject;
  std::map<std::string, std::string> options = {{"--only", ""}, {"--baseline", ""}, {"--json", ""}};

  Arguments(int argc, char** argv) : subject(argc > 1 ? argv[1] : "") {
    for (int i = 2; i < argc; i += 2) {
      core::require<core::UsageError>(i + 1 < argc && options.count(argv[i]) == 1, "{}", kUsage);
      options[argv[i]] = argv[i + 1];
    }
  }
};

void run(const Arguments& arguments) {
  using Subject = void (*)(bench::Report&);
  const std::pair<const char*, Subject> subjects[] = {{"ops", bench::measure_operators},
                                                      {"train", bench::measure_training},
                                                      {"generate", bench::measure_generation}};
  std::vector<Subject> chosen;
  for (const auto& [name, subject] : subjects)
    if (arguments.subject == name || arguments.subject == "all") chosen.push_back(subject);
  core::require<core::UsageError>(!chosen.empty(), "{}", kUsage);

  core::device_from_name("cuda");
  const std::string& baseline = arguments.options.at("--baseline");
  bench::Report report(arguments.options.at("--only"),
                       baseline.empty() ? std::nullopt : std::optional(core::read_json(baseline)),
                       arguments.options.at("--json"));
  for (const Subject subject : chosen) subject(report);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    run(Arguments(argc, argv));
  } catch (const core::Error& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return error.exit_code();
  } catch (const std::exception& error) {  // LibTorch's, too
    fmt::print(stderr, "error: {}\n", error.what());
    return 1;
  }
}
