// The training loop: fetch the micro-batches of an update, run it, write metrics, evaluate, checkpoint. A run
// that was killed at any moment continues from its newest checkpoint and ends with the same weights, bit by
// bit.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/distributed/communicator.h"
#include "core/json.h"
#include "data/loader.h"
#include "models/mamba_lm.h"
#include "train/annealing.h"
#include "train/optimizer.h"
#include "train/schedule.h"
#include "train/train_options.h"
#include "train/train_state.h"
#include "train/training_checkpoint.h"
#include "train/training_log.h"
#include "train/update.h"

namespace exactmamba::train {

/// Further measures of an evaluation, as one JSON object; called on every rank with the same model and must
/// give each the same. It may throw Interrupted, on all of them: a continued training evaluates again.
using EvaluationHook = std::function<core::Json(const models::MambaLM& model, int64_t step)>;

struct TrainSetup {
  TrainOptions options;
  std::string options_hash;      // of everything that affects the weights: recipe, data, starting model
  std::filesystem::path folder;  // of the run: metrics.jsonl and checkpoints/ go there

  at::Device device = at::kCPU;

  /// The starting model, on the CPU in training_dtype(options): initialised or loaded. Not called when a
  /// checkpoint is there. With annealing its activation is the one to arrive at, and α starts at 0 whatever
  /// the model says.
  std::function<models::MambaLM()> start;

  std::shared_ptr<const data::Dataset> training;    // [not null]
  std::shared_ptr<const data::Dataset> validation;  // [nullable]
  int64_t validation_rows = 0;                      // 0: all
  bool shuffle = true;
  uint64_t seed = 0;     // of the order of the data and of dropout
  int64_t prefetch = 2;  // batches prepared ahead
  int64_t pad_id = 0;
  EvaluationHook evaluation;                       // [nullable]
  std::map<std::string, std::string> model_files;  // by name: what checkpoints carry beside the weights
};

/// @throws NumericalError, saying what to change, when a training in `folder` that is in `state` has
/// diverged: its last max_bad_steps updates were not finite
void require_not_diverged(const TrainState& state, const TrainOptions& options,
                          const std::filesystem::path& folder);

class Trainer {
 public:
  /// Loads the newest checkpoint in the folder, or starts. When that one is damaged (core/checksums.h), the
  /// newest that is whole; run() then warns and removes the damaged ones, whose updates it makes again.
  /// `communicator` must outlive the trainer.
  /// @throws InputError when the checkpoint was made with other options or by another number of ranks, when
  /// the ranks see different ones, or none is whole; IoError
  Trainer(TrainSetup setup, core::Communicator& communicator);

  /// Trains to the end, where the last checkpoint is: after options.steps updates, or earlier when
  /// options.patience evaluations brought nothing better. Returns at once when an earlier run got there.
  /// @throws Interrupted when a stop was asked for (core/stop_signal.h): the update is finished and a
  /// checkpoint committed
  /// @throws NumericalError after max_bad_steps updates in a row that are not finite: a checkpoint has the
  /// last good weights; so does every later run, at once, unless max_bad_steps is raised
  /// @throws InputError when memory runs out, with the batch's shape: earlier checkpoints stay
  /// @throws IoError when a checkpoint cannot be written: earlier ones stay
  void run();

  const models::MambaLM& model() const { return model_; }
  const TrainState& state() const { return state_; }

 private:
  bool finished() const {
    return !state_.evaluation_pending && (state_.step == setup_.options.steps || out_of_patience());
  }
  bool out_of_patience() const {
    return setup_.options.patience > 0 && state_.evaluations_since_best >= setup_.options.patience;
  }
  bool is_writer() const { return communicator_.rank() == 0; }
  double alpha() const { return model_.config().activation.alpha; }

  void share_weights();
  void begin();
  void remove_damaged_checkpoints();
  void open_log();
  void stop_if_asked();
  [[noreturn]] void stop();
  void update();
  UpdateResult run_update_of(const std::vector<data::Batch>& micro_batches, double learning_rate);
  std::vector<data::Batch> fetch();
  void count(const UpdateResult& result);
  void anneal();
  void stop_if_diverged();
  void evaluate_if_due();
  void keep_before_last_evaluation();
  void evaluate();
  core::Json measure();
  void choose_best(const core::Json& measures);
  void tell_of_early_end() const;
  void checkpoint_if_due();
  void checkpoint();
  void prune();

  TrainSetup setup_;
  core::Communicator& communicator_;
  ResumePoint resume_;
  TrainState state_;
  models::MambaLM model_;
  AdamW optimizer_;
  Schedule schedule_;
  AnnealingKind annealing_;
  data::Loader loader_;
  std::unique_ptr<TrainingLog> log_;  // [null on ranks that do not write]
  int64_t saved_step_ = -1;           // of the newest checkpoint
};

}  // namespace exactmamba::train
