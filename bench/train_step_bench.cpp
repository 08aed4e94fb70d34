// A whole training step (forward, backward, finite check, clipping, AdamW) of random 130M models on 1×512
// tokens, fp32, against its matrix products alone: every projection and the head, forward and both gradients,
// by at::mm in the same run. The best of several alternating repeats. bench/train_step.sh compares it with
// transformers.
//   train_step_bench [threads = 2] [repeats = 5]
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <limits>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/randn.h>
#include <fmt/format.h>

#include "core/distributed/communicator.h"
#include "models/initialisation.h"
#include "train/update.h"

namespace {

using namespace exactmamba;

constexpr int64_t kTokens = 512;
constexpr double kMaxGradNorm = 1;

models::ModelConfig config_130m(models::Architecture architecture) {
  models::ModelConfig config;
  config.architecture = architecture;
  config.vocab_size = config.vocab_rows = 50280;
  config.d_model = 768;
  config.n_layer = 24;
  config.d_state = architecture == models::Architecture::kMamba1 ? 16 : 128;
  config.dt_rank = 48;
  config.headdim = 64;
  return config;
}

data::Batch next_token_batch(int64_t vocab_size) {
  const at::Tensor ids = at::arange(kTokens + 1, at::kLong).mul(7919).remainder(vocab_size).unsqueeze(0);
  data::Batch batch;
  batch.input_ids = ids.narrow(1, 0, kTokens).contiguous();
  batch.targets = ids.narrow(1, 1, kTokens).contiguous();
  batch.cu_seqlens = at::arange(2, at::kInt).mul_(kTokens);
  batch.target_count = kTokens;
  return batch;
}

double seconds_of(const auto& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// The three products of one projection (out, in), with the memory that they need.
class Projection {
 public:
  Projection(int64_t out, int64_t in, int64_t count)
      : x_(at::randn({kTokens, in})),
        weight_(at::randn({out, in})),
        y_(at::empty({kTokens, out})),
        grad_x_(at::empty({kTokens, in})),
        grad_weight_(at::empty({out, in})),
        count_(count) {}
  void run() {
    for (int64_t i = 0; i < count_; ++i) {
      at::mm_out(y_, x_, weight_.t());
      at::mm_out(grad_x_, y_, weight_);
      at::mm_out(grad_weight_, y_.t(), x_);
    }
  }

 private:
  at::Tensor x_, weight_, y_, grad_x_, grad_weight_;
  int64_t count_;
};

std::vector<Projection> projections(const models::ModelConfig& config) {
  std::vector<Projection> all;
  for (const models::ParameterSpec& spec : models::parameter_specs(config)) {
    const bool is_head = spec.name == "backbone.embeddings.weight";
    const bool in_first_layer = spec.name.find(".layers.0.") != std::string::npos;
    if (spec.shape.size() != 2 || spec.decay == models::Decay::kNo || !(is_head || in_first_layer)) continue;
    all.emplace_back(spec.shape[0], spec.shape[1], is_head ? 1 : config.n_layer);
  }
  return all;
}

void measure(models::Architecture architecture, int repeats) {
  const models::ModelConfig config = config_130m(architecture);
  models::MambaLM model(config, at::kFloat);
  models::initialise(model, 1);
  train::AdamW optimizer(model.parameters(), {});
  const data::Batch batch = next_token_batch(config.vocab_size);
  std::vector<Projection> products = projections(config);

  const auto communicator = core::single_process_communicator();
  double step = std::numeric_limits<double>::infinity(), bound = step;
  for (int i = 0; i < repeats; ++i) {
    bound = std::min(bound, seconds_of([&] {
                       for (Projection& projection : products) projection.run();
                     }));
    step = std::min(step, seconds_of([&] {
                      train::run_update(model, optimizer, {batch}, 1e-4, kMaxGradNorm, *communicator);
                    }));
  }
  fmt::print("{}: {:.1f} tok/s a step ({:.3f} s), matrix products alone {:.1f} tok/s ({:.3f} s): {:.1f} %\n",
             models::architecture_name(architecture), kTokens / step, step, kTokens / bound, bound,
             100 * bound / step);
}

}  // namespace

int main(int argc, char** argv) {
  at::set_num_threads(argc > 1 ? std::atoi(argv[1]) : 2);
  const int repeats = argc > 2 ? std::atoi(argv[2]) : 5;
  measure(models::Architecture::kMamba1, repeats);
  measure(models::Architecture::kMamba2, repeats);
}
