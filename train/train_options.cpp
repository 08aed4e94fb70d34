#include "train/train_options.h"

#include <fmt/format.h>

#include "core/dtype.h"
#include "models/mamba_lm.h"
#include "train/annealing.h"
#include "train/schedule.h"

namespace exactmamba::train {
namespace {

constexpr double kManySteps = 1e9;
constexpr double kMostRegularisation = 0.99;

void bind_loop(core::Schema& schema, TrainOptions& o) {
  schema.option("train.steps", &o.steps).range(1, kManySteps).unit("updates").help("Length of the training.");
  schema.option("train.batch_size", &o.batch_size)
      .range(1, 1e6)
      .unit("rows")
      .help(
          "Rows of a micro-batch, in each process: an update has batch_size · grad_accumulation_steps · "
          "processes rows.");
  schema.option("train.grad_accumulation_steps", &o.grad_accumulation_steps)
      .range(1, 1e6)
      .unit("micro-batches")
      .help("Micro-batches of one update; the loss is the mean over the targets of all of them.");
  schema.option("train.dtype", &o.dtype)
      .choices(core::choices_of(core::kComputeDtypeNames))
      .help("Type of weights, gradients and moments.");
  schema.option("train.compute_dtype", &o.compute_dtype)
      .choices(core::choices_of(models::kGpuComputeNames))
      .help(
          "What a GPU multiplies and keeps activations in; sums, states, the residual stream and the weights "
          "themselves stay float32; float16 scales the loss. A CPU computes in train.dtype and refuses "
          "others than float32.");
  schema.option("train.recompute", &o.recompute)
      .choices({"none", "mixer", "block"})
      .cosmetic()
      .help(
          "What backward computes again instead of keeping it, with less memory and the same results (those "
          "of Mamba-1 on a GPU but for rounding): each mixer, or eight blocks at a time and their mixers "
          "once more. With none a CPU keeps all, and a GPU what fits into train.keep_gib.");
  schema.option("train.keep_gib", &o.keep_gib)
      .range(0, 1e6)
      .unit("GiB")
      .only_with("train.recompute", {"none"})
      .cosmetic()
      .help(
          "What forward may leave for backward, in each process; the rest is computed again, with the same "
          "results as train.recompute. 0 = 24.9 % of a GPU's memory, all on a CPU.");
  schema.option("train.max_bad_steps", &o.max_bad_steps)
      .range(1, kManySteps)
      .unit("updates")
      .cosmetic()
      .help(
          "Updates in a row with a loss or gradient that is not finite before the training stops; each is "
          "skipped.");
  schema.option("train.log_every", &o.log_every)
      .range(1, kManySteps)
      .unit("updates")
      .cosmetic()
      .help("Distance of the training lines in metrics.jsonl.");
}

void bind_optimizer(core::Schema& schema, TrainOptions& o) {
  schema.option("train.lr", &o.lr).range(0, 10).help("Peak learning rate.");
  schema.option("train.min_lr_ratio", &o.min_lr_ratio)
      .range(0, 1)
      .only_with("train.schedule", {"cosine", "linear", "inverse_sqrt"})
      .help("Floor of the learning rate, as a fraction of train.lr.");
  schema.option("train.schedule", &o.schedule)
      .choices(core::choices_of(kScheduleNames))
      .help("Learning rate after the warm-up; cosine and linear end exactly at the floor.");
  schema.option("train.warmup_steps", &o.warmup_steps)
      .range(0, kManySteps)
      .unit("updates")
      .help("Linear warm-up; the first update has lr / warmup_steps.");
  schema.option("train.weight_decay", &o.weight_decay)
      .range(0, 10)
      .help("AdamW's decoupled weight decay; never on A_log, D, time-step biases, biases and norm weights.");
  schema.option("train.beta1", &o.beta1).range(0, 0.999999).help("AdamW: decay of the first moment.");
  schema.option("train.beta2", &o.beta2).range(0, 0.99999999).help("AdamW: decay of the second moment.");
  schema.option("train.eps", &o.eps).range(1e-30, 1).help("AdamW: added to the root of the second moment.");
  schema.option("train.max_grad_norm", &o.max_grad_norm)
      .range(0, 1e9)
      .help("Gradients are scaled down to this global norm; 0 = no clipping.");
  schema.option("train.annealing", &o.annealing)
      .choices(core::choices_of(kAnnealingNames))
      .help(
          "How the activation goes from SiLU to the model's conv_activation; the last 10 % of the updates "
          "run without SiLU.");
  schema.option("train.dropout", &o.dropout)
      .range(0, kMostRegularisation)
      .help(
          "Share of the numbers of every mixer's output that is dropped before it is added to the residual "
          "stream, in training only.");
  schema.option("train.label_smoothing", &o.label_smoothing)
      .range(0, kMostRegularisation)
      .help(
          "Share of every target that is spread evenly over all rows of the vocabulary, in training only: "
          "the training's loss has it, the validation's has not.");
}

/// Not cosmetic, though without effect on the weights: curves and best checkpoint are results of the training
/// too, and updates already made cannot be evaluated afterwards.
void bind_evaluation(core::Schema& schema, TrainOptions& o) {
  schema.option("train.eval_every", &o.eval_every)
      .range(0, kManySteps)
      .unit("updates")
      .only_with("data.valid")
      .help("Distance of evaluations, the first before update 1; 0 = only after the last update.");
  schema.option("train.eval_error", &o.eval_error)
      .only_with("data.valid")
      .help(fmt::format(
          "Evaluations measure the approximation error of every layer too, as [decompose] has it, on the "
          "first {} validation rows.",
          kErrorRows));
  schema.option("train.best_measure", &o.best_measure)
      .choices({"validation_loss", "validation_accuracy", "bleu"})
      .only_with("data.valid")
      .help(
          "Measure of the evaluation that chooses the best checkpoint: the lowest loss, the highest "
          "accuracy, the highest BLEU of the validation pairs in greedy translation (which evaluations then "
          "measure); with annealing, only evaluations at alpha = 1 count.");
  schema.option("train.patience", &o.patience)
      .range(0, kManySteps)
      .unit("evaluations")
      .only_with("data.valid")
      .help(
          "The training ends early after so many evaluations in a row without a better train.best_measure; "
          "0 = never.");
  schema.option("train.result", &o.result)
      .choices({"last", "best"})
      .only_with("data.valid")
      .help(
          "The checkpoint that is decomposed and evaluated: the last, or the best by train.best_measure (the "
          "last where no evaluation counted).");
  schema.option("train.checkpoint_every", &o.checkpoint_every)
      .range(0, kManySteps)
      .unit("updates")
      .cosmetic()
      .help("Distance of checkpoints; 0 = only the best, the last and on a signal.");
  schema.option("train.keep_checkpoints", &o.keep_checkpoints)
      .range(1, kManySteps)
      .cosmetic()
      .help("Newest checkpoints that stay; the best one always stays.");
}

void add_rules(core::Schema& schema, const TrainOptions& o) {
  schema.rule({"train.warmup_steps", "train.steps"}, [&o]() -> std::string {
    if (o.warmup_steps <= o.steps) return "";
    return fmt::format("train.warmup_steps = {} is larger than train.steps = {}", o.warmup_steps, o.steps);
  });
  schema.rule({"train.patience", "train.eval_every"}, [&o]() -> std::string {
    if (o.patience == 0 || o.eval_every > 0) return "";
    return "train.patience counts evaluations on the way, and train.eval_every = 0 makes none";
  });
}

}  // namespace

void bind(core::Schema& schema, TrainOptions& options) {
  schema.table(
      "train",
      "How the weights change: length, optimizer, evaluation, checkpoints. What is measured on the way "
      "belongs to the result: changing eval_* or best_measure trains anew.");
  bind_loop(schema, options);
  bind_optimizer(schema, options);
  bind_evaluation(schema, options);
  add_rules(schema, options);
}

at::ScalarType training_dtype(const TrainOptions& options) {
  return core::dtype_from_name(options.dtype, "train.dtype");
}

models::Placement training_placement(const TrainOptions& options, at::Device device) {
  return models::placement_from_names(training_dtype(options), device, options.compute_dtype, "train.dtype",
                                      "train.compute_dtype");
}

models::Regularisation regularisation(const TrainOptions& options, uint64_t seed) {
  return {options.label_smoothing, options.dropout, seed};
}

void set_recompute(const TrainOptions& options, models::MambaLM& model) {
  if (options.keep_gib > 0) model.set_keep_within(static_cast<int64_t>(options.keep_gib * (1 << 30)));
  if (options.recompute == "mixer") model.set_keep(models::Keep::kMixerInput);
  if (options.recompute == "block") model.set_keep(models::Keep::kBlockInput);
}

}  // namespace exactmamba::train
