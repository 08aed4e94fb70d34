#include "bench/gpu_report.h"

#include <algorithm>
#include <chrono>
#include <ctime>
#include <cuda_runtime_api.h>

#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/randn.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>

#include "core/error.h"

namespace exactmamba::bench {
namespace {

void check(cudaError_t error) { core::require(error == cudaSuccess, "CUDA: {}", cudaGetErrorString(error)); }

cudaStream_t current_stream() {
  const c10::impl::VirtualGuardImpl guard(at::kCUDA);
  return static_cast<cudaStream_t>(guard.getStream({at::kCUDA, 0}).native_handle());
}

std::string device_name() {
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, 0));
  return properties.name;
}

/// Seconds of a launch, `launches` between two events.
std::vector<double> seconds_between_events(const std::function<void()>& launch, int intervals, int launches) {
  const cudaStream_t stream = current_stream();
  std::vector<cudaEvent_t> events(static_cast<size_t>(intervals) + 1);
  for (cudaEvent_t& event : events) check(cudaEventCreate(&event));
  check(cudaEventRecord(events[0], stream));
  for (size_t i = 1; i < events.size(); ++i) {
    for (int k = 0; k < launches; ++k) launch();
    check(cudaEventRecord(events[i], stream));
  }
  check(cudaStreamSynchronize(stream));
  std::vector<double> seconds;
  for (size_t i = 1; i < events.size(); ++i) {
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, events[i - 1], events[i]));
    seconds.push_back(1e-3 * milliseconds / launches);
  }
  for (const cudaEvent_t event : events) check(cudaEventDestroy(event));
  return seconds;
}

/// "12 %" of `whole`, or blanks.
std::string share(double part, double whole) {
  return part > 0 ? fmt::format("{:3.0f} %", 100 * part / whole) : "     ";
}

}  // namespace

Times::Times(std::vector<double> values) : seconds(std::move(values)) {
  std::sort(seconds.begin(), seconds.end());
}

Times time_kernels(const std::function<void()>& launch, int repetitions) {
  constexpr double kInterval = 2e-3;
  const double once = seconds_between_events(launch, 3, 1).back();
  const int launches = std::clamp(static_cast<int>(kInterval / once), 1, 20);
  return Times(seconds_between_events(launch, repetitions, launches));
}

Times time_work(const std::function<void()>& work, int repetitions, int warm_up) {
  std::vector<double> seconds;
  for (int i = 0; i < warm_up + repetitions; ++i) {
    check(cudaDeviceSynchronize());
    const auto begin = std::chrono::steady_clock::now();
    work();
    check(cudaDeviceSynchronize());
    if (i >= warm_up)
      seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  return Times(seconds);
}

Report::Report(std::string filter, std::optional<core::Json> baseline, std::string file)
    : filter_(std::move(filter)), baseline_(std::move(baseline)), file_(std::move(file)) {
  const at::TensorOptions options = at::TensorOptions().device(at::kCUDA).dtype(at::kBFloat16);
  constexpr int64_t kSize = 8192, kElements = int64_t{1} << 29;
  const at::Tensor a = at::randn({kSize, kSize}, options), b = at::randn({kSize, kSize}, options);
  at::Tensor product = at::empty({kSize, kSize}, options);
  product_rate_ = 2.0 * kSize * kSize * kSize / time_kernels([&] { at::mm_out(product, a, b); }).median();
  const at::Tensor from = at::empty({kElements}, options);
  at::Tensor to = at::empty({kElements}, options);
  copy_rate_ = 2.0 * from.nbytes() / time_kernels([&] { to.copy_(from); }).median();
  fmt::print("{}: matrix product {:.0f} TFLOP/s (bfloat16, {}³), copy {:.2f} TB/s\n", device_name(),
             1e-12 * product_rate_, kSize, 1e-12 * copy_rate_);
  fmt::print("{:46} {:>9} {:>19}  {:>16} {:>18} {:>13} {:>9}\n", "", "median ms", "least, most",
             "TB/s, of copy", "TFLOP/s, of product", "tokens/s", "peak GiB");
}

void Report::add(const Measurement& m) {
  const double seconds = m.times.median(), bytes = m.bytes / seconds, operations = m.operations / seconds;
  const auto number = [](double value, const char* format) {
    return value > 0 ? fmt::format(fmt::runtime(format), value) : std::string();
  };
  fmt::print("{:46} {:9.4f} {:9.4f} {:9.4f}  {:>9} {} {:>12} {} {:>13} {:>9}", m.name, 1e3 * seconds,
             1e3 * m.times.least(), 1e3 * m.times.most(), number(1e-12 * bytes, "{:.2f}"),
             share(bytes, copy_rate_), number(1e-12 * operations, "{:.0f}"), share(operations, product_rate_),
             number(m.tokens / seconds, "{:.0f}"), number(m.peak_bytes / (1 << 30), "{:.2f}"));
  core::Json result = {{"name", m.name},
                       {"milliseconds", 1e3 * seconds},
                       {"least", 1e3 * m.times.least()},
                       {"most", 1e3 * m.times.most()},
                       {"repetitions", m.times.seconds.size()}};
  const auto note = [&](const char* key, double value) {
    if (value > 0) result[key] = value;
  };
  note("bytes", m.bytes);
  note("operations", m.operations);
  note("of_copy", bytes / copy_rate_);
  note("of_product", operations / product_rate_);
  note("tokens_per_second", m.tokens / seconds);
  note("peak_gib", m.peak_bytes / (1 << 30));
  if (m.scaling > 0) {
    fmt::print("  {:.1f} % of GPUs that work alone", 100 * m.scaling);
    result["scaling"] = m.scaling;
  }
  if (baseline_)
    for (const core::Json& other : baseline_->at("results")) {
      if (other.at("name") != m.name) continue;
      const double ratio = other.at("milliseconds").get<double>() / (1e3 * seconds);
      fmt::print("  {:.2f} × baseline", ratio);
      result["times_baseline"] = ratio;
    }
  fmt::print("\n");
  std::fflush(stdout);
  results_.push_back(result);
  if (!file_.empty()) core::write_json(file_, json());
}

core::Json Report::json() const {
  return {{"device", device_name()},
          {"date", fmt::format("{:%Y-%m-%d}", fmt::gmtime(std::time(nullptr)))},
          {"matrix_product_tflops", 1e-12 * product_rate_},
          {"copy_tb_per_second", 1e-12 * copy_rate_},
          {"results", results_}};
}

}  // namespace exactmamba::bench
