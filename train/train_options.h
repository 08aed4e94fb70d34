// The options of [train], declared once.
#pragma once

#include <string>

#include <c10/core/ScalarType.h>

#include "core/names.h"
#include "core/schema.h"
#include "models/placement.h"

namespace exactmamba::models {
class MambaLM;
struct Regularisation;
}  // namespace exactmamba::models

namespace exactmamba::train {

/// Validation rows whose approximation error train.eval_error measures.
inline constexpr int64_t kErrorRows = 8;

struct TrainOptions {
  int64_t steps = 1000;
  int64_t batch_size = 8;  // rows per micro-batch and rank
  int64_t grad_accumulation_steps = 1;
  std::string dtype = "float32";
  std::string compute_dtype = "float32";
  std::string recompute = "none";
  double keep_gib = 0;

  double lr = 1e-3;
  double min_lr_ratio = 0.1;
  std::string schedule = "cosine";
  int64_t warmup_steps = 0;
  double weight_decay = 0.1;
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8;
  double max_grad_norm = 1.0;
  std::string annealing = "none";
  double dropout = 0, label_smoothing = 0;

  int64_t eval_every = 100;
  bool eval_error = false;
  std::string best_measure = "validation_loss";
  int64_t patience = 0;  // evaluations; 0: trains to the end
  std::string result = "last";

  int64_t checkpoint_every = 100;
  int64_t keep_checkpoints = 2;
  int64_t max_bad_steps = 10;
  int64_t log_every = 10;

  bool scales_loss() const { return compute_dtype == "float16"; }
  /// Of a loss the lowest value is best, of every other measure the highest.
  bool lowest_is_best() const { return best_measure == "validation_loss"; }
};

/// Declares every member under "train." with the rules between them; both arguments must outlive the loading.
void bind(core::Schema& schema, TrainOptions& options);

/// float32 → kFloat, float64 → kDouble. @throws InputError
at::ScalarType training_dtype(const TrainOptions& options);
/// Of a training on `device`; "tf32" lets float products on a GPU round their operands to it.
/// @throws InputError when the device does not compute in what is asked for
models::Placement training_placement(const TrainOptions& options, at::Device device);
models::Regularisation regularisation(const TrainOptions& options, uint64_t seed);
/// Tells the model what train.recompute and train.keep_gib let it keep.
void set_recompute(const TrainOptions& options, models::MambaLM& model);

}  // namespace exactmamba::train
