// What a GPU does with the operators, with training and with generation: bench/README.md.
//   gpu_bench ops|train|generate|all|scale [--only TEXT] [--baseline REPORT.json] [--json REPORT.json]
#include <cstdio>
#include <exception>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "bench/gpu_report.h"
#include "core/device.h"
#include "core/distributed/job.h"
#include "core/distributed/launcher.h"
#include "core/error.h"
#include "core/gpu.h"

namespace {

using namespace exactmamba;

constexpr const char* kUsage =
    "usage: gpu_bench ops|train|generate|all|scale [--only TEXT] [--baseline REPORT.json] [--json "
    "REPORT.json]";

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

/// Starts this program once for each GPU.
void launch_on_all_gpus(int argc, char** argv) {
  core::Launch launch;
  launch.command.assign(argv, argv + argc);
  launch.command.front() = "/proc/self/exe";
  launch.processes = core::find_gpus().count;
  core::require(launch.processes > 1, "scale needs several GPUs, and {} was found", launch.processes);
  core::launch(launch);
}

std::vector<void (*)(bench::Report&)> subjects_of(const std::string& subject) {
  using Subject = void (*)(bench::Report&);
  const std::pair<const char*, Subject> subjects[] = {{"ops", bench::measure_operators},
                                                      {"train", bench::measure_training},
                                                      {"generate", bench::measure_generation}};
  std::vector<Subject> chosen;
  for (const auto& [name, measure] : subjects)
    if (subject == name || subject == "all") chosen.push_back(measure);
  core::require<core::UsageError>(!chosen.empty(), "{}", kUsage);
  return chosen;
}

bench::Report report_of(const Arguments& arguments, const std::string& file) {
  const std::string& baseline = arguments.options.at("--baseline");
  return {arguments.options.at("--only"),
          baseline.empty() ? std::nullopt : std::optional(core::read_json(baseline)), file};
}

void measure(const Arguments& arguments) {
  const auto subjects = subjects_of(arguments.subject);
  core::device_from_name("cuda");
  bench::Report report = report_of(arguments, arguments.options.at("--json"));
  for (const auto subject : subjects) subject(report);
}

/// In one process of a job. All measure, the first reports.
void measure_scaling(const Arguments& arguments, const core::Job& job) {
  core::require<core::IoError>(job.rank == 0 || std::freopen("/dev/null", "w", stdout) != nullptr,
                               "cannot open /dev/null");
  const auto communicator = core::join(job, core::device_from_name("cuda"));
  bench::Report report = report_of(arguments, job.rank == 0 ? arguments.options.at("--json") : "");
  bench::measure_scaling(report, *communicator);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const Arguments arguments(argc, argv);
    const core::Job job = core::job_of_this_process();
    if (arguments.subject != "scale")
      measure(arguments);
    else if (job.size > 1)
      measure_scaling(arguments, job);
    else
      launch_on_all_gpus(argc, argv);
  } catch (const core::Error& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return error.exit_code();
  } catch (const std::exception& error) {  // LibTorch's, too
    fmt::print(stderr, "error: {}\n", error.what());
    return 1;
  }
}
