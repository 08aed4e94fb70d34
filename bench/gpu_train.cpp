// Whole training steps (forward, backward, finite check, clipping, AdamW): 16 rows of 2048 tokens, vocabulary
// 50280.
#include <algorithm>

#include <ATen/ops/full.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/tensor.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <fmt/format.h>

#include "bench/gpu_models.h"
#include "bench/gpu_report.h"
#include "core/distributed/communicator.h"
#include "train/train_options.h"
#include "train/update.h"

namespace exactmamba::bench {
namespace {

constexpr int64_t kRows = 16, kLength = 2048;

/// Random tokens; packed: eight sequences of random length in each row.
data::Batch batch_of(bool packed) {
  const at::Tensor ids = at::randint(0, kVocabulary, {kRows, kLength + 1}, at::kLong);
  data::Batch batch;
  batch.input_ids = ids.narrow(1, 0, kLength).contiguous();
  batch.targets = ids.narrow(1, 1, kLength).contiguous();
  batch.target_count = kRows * kLength;
  std::vector<int32_t> boundaries = {0};
  for (int64_t row = 0; row < kRows; ++row) {
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

struct Variant {
  models::ActivationKind activation = models::ActivationKind::kSilu;
  bool packed = false;
  std::string compute_dtype = "bfloat16", recompute = "none";
  double keep_gib = 0;
};

std::string name_of(const ModelSize& size, const Variant& v) {
  return fmt::format("train {} {} {}{}{}{}", size.name, v.compute_dtype,
                     models::activation_name(v.activation), v.packed ? ", packed" : "",
                     v.recompute == "none" ? "" : fmt::format(", recompute {}", v.recompute),
                     v.keep_gib == 0 ? "" : fmt::format(", keep {:.0f} GiB", v.keep_gib));
}

void measure(Report& report, const ModelSize& size, const Variant& variant) {
  if (!report.wants(name_of(size, variant))) return;
  train::TrainOptions options;
  options.compute_dtype = variant.compute_dtype;
  options.recompute = variant.recompute;
  options.keep_gib = variant.keep_gib;
  models::ModelConfig config = config_of(size);
  config.activation = {variant.activation, 1.0};
  models::MambaLM model = random_model(config, train::training_placement(options, at::Device(at::kCUDA, 0)));
  train::set_recompute(options, model);
  train::AdamW optimizer(model.parameters(), {});
  const data::Batch batch = batch_of(variant.packed);
  const auto communicator = core::single_process_communicator();
  c10::getDeviceAllocator(at::kCUDA)->resetPeakStats(0);
  Measurement m{
      name_of(size, variant),
      time_work([&] { train::run_update(model, optimizer, {batch}, 1e-4, 1.0, *communicator); }, 12, 3)};
  m.tokens = kRows * kLength;
  m.operations = 3 * m.tokens * product_operations(config);
  m.peak_bytes =
      static_cast<double>(c10::getDeviceAllocator(at::kCUDA)->getDeviceStats(0).allocated_bytes[0].peak);
  report.add(m);
}

/// A model trained by this process, alone or with the others.
class Training {
 public:
  Training(const ModelSize& size, core::Communicator& together)
      : model_(random_model(config_of(size), train::training_placement(options(), at::Device(at::kCUDA, 0)))),
        optimizer_(model_.parameters(), {}),
        together_(together) {
    train::set_recompute(options(), model_);
  }
  /// Times of updates with and without the others; all processes begin at once.
  Times time(bool with_others) {
    together_.barrier();
    core::Communicator& communicator = with_others ? together_ : *alone_;
    return time_work([&] { train::run_update(model_, optimizer_, {batch_}, 1e-4, 1.0, communicator); }, 4, 1);
  }

 private:
  static train::TrainOptions options() {
    train::TrainOptions options;
    options.compute_dtype = Variant().compute_dtype;
    return options;
  }
  models::MambaLM model_;
  train::AdamW optimizer_;
  core::Communicator& together_;
  std::unique_ptr<core::Communicator> alone_ = core::single_process_communicator();
  data::Batch batch_ = batch_of(false);
};

/// Tokens a second of all GPUs, when each takes the median of its own `times`.
double rate_of_all(const Times& times, core::Communicator& communicator) {
  const at::Tensor rate = at::full({}, kRows * kLength / times.median(), at::kDouble);
  communicator.all_reduce_sum(rate);
  return rate.item<double>();
}

void append(std::vector<double>& seconds, const Times& times) {
  seconds.insert(seconds.end(), times.seconds.begin(), times.seconds.end());
}

/// Turn by turn, since a card's speed drifts with its temperature.
void measure_scaling_of(const ModelSize& size, Report& report, core::Communicator& communicator) {
  const std::string name = name_of(size, {});
  if (!report.wants(name)) return;
  constexpr int kTurns = 6;
  Training training(size, communicator);
  std::vector<double> alone, together;
  for (int turn = 0; turn < kTurns; ++turn) {
    append(alone, training.time(false));
    append(together, training.time(true));
  }
  const double of_alone = rate_of_all(Times(alone), communicator),
               of_together = rate_of_all(Times(together), communicator);
  Measurement each{name + ", each GPU alone", Times(alone)}, all{name + ", all GPUs", Times(together)};
  each.tokens = kRows * kLength;
  all.tokens = static_cast<double>(kRows * kLength * communicator.size());
  all.scaling = of_together / of_alone;
  report.add(each);
  report.add(all);
}

}  // namespace

void measure_scaling(Report& report, core::Communicator& communicator) {
  for (const ModelSize& size : kModelSizes) measure_scaling_of(size, report, communicator);
}

void measure_training(Report& report) {
  for (const ModelSize& size : kModelSizes) measure(report, size, {});
  for (const ModelSize& size : {kModelSizes[0], kModelSizes[2]}) {
    measure(report, size, {models::ActivationKind::kRelu});
    measure(report, size, {models::ActivationKind::kIdentity});
    measure(report, size, {models::ActivationKind::kSilu, true});
  }
  for (const ModelSize& size : {kModelSizes[1], kModelSizes[3]}) {
    for (const char* recompute : {"mixer", "block"})
      measure(report, size, {models::ActivationKind::kSilu, false, "bfloat16", recompute});
    measure(report, size, {models::ActivationKind::kSilu, false, "bfloat16", "none", 50});
  }
  for (const char* compute_dtype : {"tf32", "float32"})
    measure(report, kModelSizes[0], {models::ActivationKind::kSilu, false, compute_dtype});
}

}  // namespace exactmamba::bench
