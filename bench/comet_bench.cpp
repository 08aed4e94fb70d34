// Scores translations with a COMET model: comet_bench MODEL SEGMENTS.jsonl THREADS. Prints a JSON object: the
// seconds, those of the CPU (of all threads) and the scores. comet_bench.py compares it with unbabel-comet.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <vector>

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/error.h"
#include "core/json.h"
#include "data/line_reader.h"
#include "eval/comet/comet_model.h"

namespace {

using namespace exactmamba;

std::vector<eval::CometSegment> read_segments(const std::string& file) {
  std::vector<eval::CometSegment> segments;
  data::LineReader reader(file);
  for (std::string line; reader.next(line);) {
    const core::Json row = core::parse_json(line, file);
    segments.push_back({row["src"], row["mt"], row["ref"]});
  }
  return segments;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return std::fputs("usage: comet_bench MODEL SEGMENTS.jsonl THREADS\n", stderr), 2;
  try {
    at::set_num_threads(std::atoi(argv[3]));
    const eval::CometModel model(argv[1], at::kCPU, at::kFloat);
    const std::vector<eval::CometSegment> segments = read_segments(argv[2]);
    const std::clock_t cpu_begin = std::clock();
    const auto begin = std::chrono::steady_clock::now();
    const std::vector<double> scores = model.scores(segments);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    const double cpu_seconds = static_cast<double>(std::clock() - cpu_begin) / CLOCKS_PER_SEC;
    fmt::print("{{\"seconds\": {:.3f}, \"cpu_seconds\": {:.3f}, \"scores\": [{}]}}\n", seconds.count(),
               cpu_seconds, fmt::join(scores, ", "));
    return 0;
  } catch (const core::Error& error) {
    std::fprintf(stderr, "comet_bench: %s\n", error.what());
    return error.exit_code();
  }
}
