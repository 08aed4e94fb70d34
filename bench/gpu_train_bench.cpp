// Whole training steps (forward, backward, finite check, clipping, AdamW) on a GPU: random models of the
// published sizes, 16 rows of 2048 tokens, vocabulary 50280. Median of the steps after a warm-up, and the
// peak of memory.
//   gpu_train_bench [model = all] [activation = silu] [packed = 0] [compute = bfloat16] [rows = 16] [steps =
//   12]
//                   [recompute = none]
#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

#include <ATen/Context.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/tensor.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <fmt/format.h>

#include "core/device.h"
#include "core/distributed/communicator.h"
#include "models/initialisation.h"
#include "train/train_options.h"
#include "train/update.h"

namespace {

using namespace exactmamba;

constexpr int64_t kLength = 2048, kVocabulary = 50280;

struct Size {
  const char* name;
  models::Architecture architecture;
  int64_t d_model, n_layer;
};
constexpr Size kSizes[] = {{"mamba1-130m", models::Architecture::kMamba1, 768, 24},
                           {"mamba1-370m", models::Architecture::kMamba1, 1024, 48},
                           {"mamba2-130m", models::Architecture::kMamba2, 768, 24},
                           {"mamba2-370m", models::Architecture::kMamba2, 1024, 48}};

models::ModelConfig config_of(const Size& size, const std::string& activation) {
  models::ModelConfig config;
  config.architecture = size.architecture;
  config.vocab_size = kVocabulary;
  config.vocab_rows = (kVocabulary + 15) / 16 * 16;
  config.d_model = size.d_model;
  config.n_layer = size.n_layer;
  config.d_state = size.architecture == models::Architecture::kMamba1 ? 16 : 128;
  config.dt_rank = models::default_dt_rank(size.d_model);
  config.headdim = 64;
  config.activation = {activation == "silu"   ? models::ActivationKind::kSilu
                       : activation == "relu" ? models::ActivationKind::kRelu
                                              : models::ActivationKind::kIdentity,
                       1.0};
  return config;
}

/// Random tokens; packed: eight sequences of random length in each row.
data::Batch batch_of(int64_t rows, bool packed) {
  const at::Tensor ids = at::randint(0, kVocabulary, {rows, kLength + 1}, at::kLong);
  data::Batch batch;
  batch.input_ids = ids.narrow(1, 0, kLength).contiguous();
  batch.targets = ids.narrow(1, 1, kLength).contiguous();
  batch.target_count = rows * kLength;
  std::vector<int32_t> boundaries = {0};
  for (int64_t row = 0; row < rows; ++row) {
    std::vector<int64_t> cuts = {kLength};
    while (packed && cuts.size() < 8) {
      const int64_t cut = at::randint(1, kLength, {1}, at::kLong).item<int64_t>();
      if (std::find(cuts.begin(), cuts.end(), cut) == cuts.end()) cuts.push_back(cut);
    }
    std::sort(cuts.begin(), cuts.end());
    for (const int64_t cut : cuts) boundaries.push_back(static_cast<int32_t>(row * kLength + cut));
  }
  batch.cu_seqlens = at::tensor(boundaries, at::kInt);
  return batch;
}

double median_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void measure(const Size& size, const train::TrainOptions& options, const std::string& activation, bool packed,
             int64_t rows, int steps) {
  const models::Placement placement = train::training_placement(options, {at::kCUDA, 0});
  models::MambaLM start(config_of(size, activation), at::kFloat);
  models::initialise(start, 1);
  models::MambaLM model = start.to(placement);
  train::set_recompute(options, model);
  train::AdamW optimizer(model.parameters(), {});
  const data::Batch batch = batch_of(rows, packed);
  const auto communicator = core::single_process_communicator();
  const c10::impl::VirtualGuardImpl gpu(at::kCUDA);
  c10::getDeviceAllocator(at::kCUDA)->resetPeakStats(0);
  std::vector<double> seconds;
  double loss = 0;
  for (int step = 0; step < steps + 3; ++step) {
    gpu.synchronizeDevice(0);
    const auto begin = std::chrono::steady_clock::now();
    loss = train::run_update(model, optimizer, {batch}, 1e-4, 1.0, *communicator).loss;
    gpu.synchronizeDevice(0);
    if (step >= 3)
      seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  const auto stats = c10::getDeviceAllocator(at::kCUDA)->getDeviceStats(0);
  const double median = median_of(seconds);
  fmt::print(
      "{:12} {:8} {} {:8} recompute {:5} {:8.0f} tok/s  step {:7.2f} ms [{:.2f} {:.2f}]  peak {:5.2f} GiB  "
      "loss {:.4f}\n",
      size.name, activation, packed ? "packed" : "rows  ", options.compute_dtype, options.recompute,
      static_cast<double>(rows * kLength) / median, 1e3 * median,
      1e3 * *std::min_element(seconds.begin(), seconds.end()),
      1e3 * *std::max_element(seconds.begin(), seconds.end()),
      static_cast<double>(stats.allocated_bytes[0].peak) / (1 << 30), loss);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  const auto argument = [&](int i, const char* otherwise) {
    return std::string(argc > i ? argv[i] : otherwise);
  };
  core::device_from_name("cuda");
  train::TrainOptions options;
  options.compute_dtype = argument(4, "bfloat16");
  options.recompute = argument(7, "none");
  for (const Size& size : kSizes) {
    if (argument(1, "all") != "all" && argument(1, "all") != size.name) continue;
    measure(size, options, argument(2, "silu"), argument(3, "0") == "1", std::stoll(argument(5, "16")),
            std::stoi(argument(6, "12")));
  }
}
