// One run of a recipe, stage by stage: train → decompose → the parts of the evaluation, each in its folder
// under the run's output. A finished stage is reused, an interrupted one continues (train, decompose) or
// starts again.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/evaluation_data.h"
#include "cli/recipe.h"
#include "cli/trained_tokenizer.h"
#include "core/distributed/communicator.h"
#include "core/stage.h"
#include "data/datasets.h"
#include "decomp/row_file.h"
#include "eval/translation_scores.h"
#include "models/mamba_lm.h"

namespace exactmamba::cli {

/// In the evaluation lines of metrics.jsonl with train.eval_error: {measure: {approximation: [per layer]}}.
inline constexpr const char* kErrorKey = "approximation_error";

/// There too with train.best_measure = "bleu", 0 to 100.
inline constexpr const char* kBleuKey = "bleu";

/// Inputs of the train stage, which its result calls by the names of the data sets: data {input: name}.
inline constexpr const char *kTrainingData = "training data", *kValidationData = "validation data";

/// The model of a finished training, loaded when it is first asked for.
using TrainedModel = std::function<const models::MambaLM&()>;

/// What an evaluation consists of: stages that know nothing of each other's options.
struct EvaluationPart {
  core::Stage stage;
  std::function<core::Json(const core::Stage& own, const TrainedModel& model)> work;  // returns the result
  bool measures = true;  // that is the result: numbers by name, and alignments
};

class RunStages {
 public:
  /// `run` must outlive this. `tokenizer`: of trained_tokenizer(). [nullable] `base`: of run.base. [nullable]
  RunStages(const RecipeRun& run, std::shared_ptr<const TrainedTokenizer> tokenizer, data::Datasets datasets,
            std::shared_ptr<const EvaluationData> evaluation, std::shared_ptr<const RunStages> base);

  /// @throws InputError when the training is not done and this machine cannot do it
  void require_trainable() const;
  /// @throws InputError when it is not done and has too few rows for one batch of `processes`
  void require_a_batch(int processes) const;
  /// Every process of the job calls it; the first alone keeps the record.
  void train(core::Communicator& communicator);
  /// @throws InputError with what to do first; NumericalError when the training ended because it diverged
  void require_trained() const;
  void decompose();  // needs the trained model
  void evaluate();   // needs the trained model

  /// Whether the training that it continues, if it does, is done.
  bool has_start() const { return !base_ || base_->train_stage().done(); }
  /// Whether all stages are done. @throws NumericalError when one of them ended with numbers that are not
  /// finite
  bool finished() const;
  /// @throws InputError with what to do first, unless they are; NumericalError as above
  void require_finished() const;

  const RecipeRun& run() const { return run_; }
  const data::Datasets& datasets() const { return datasets_; }
  /// A run that continues another is named by the weights that it starts with, once there are any.
  core::Stage train_stage() const;
  /// Known when the training is done: they are named by its weights. @throws InputError before
  core::Stage decompose_stage() const;
  std::vector<core::Stage> evaluation_stages() const;
  /// What the finished evaluation measured, all its parts in one.
  core::Json measures() const;
  /// The same of a model that no run made; nothing is kept.
  core::Json measures_of(const models::MambaLM& model) const;
  /// Of data.valid and the test sets, as the finished evaluation has translated them.
  std::vector<eval::TranslatedSet> translations() const;
  /// The label in the sweep, or the run's name.
  std::string label() const;
  /// The checkpoint that is the result of the finished training (train.result). @throws InputError, saying
  /// what to delete, when it is gone
  std::filesystem::path checkpoint() const;
  /// The checkpoint of the training's best evaluation, if there was one that counts (train.best_measure).
  struct BestCheckpoint {
    std::filesystem::path folder;
    int64_t step;
    double value;  // of train.best_measure
  };
  std::optional<BestCheckpoint> best_checkpoint() const;

 private:
  /// Does the work of a stage unless it is done; `work` looks at core::stop_requested() and returns the
  /// stage's result. @throws Interrupted
  void complete(const core::Stage& stage, const std::function<core::Json()>& work) const;
  /// The same, and a failure that running again cannot mend is kept for require_done().
  void complete_later(const core::Stage& stage, const std::function<core::Json()>& work) const;
  /// @throws NumericalError when the stage cannot be done
  bool is_done(const core::Stage& stage) const;
  void require_not_diverged() const;
  /// @throws InputError with what to do first, unless the stage is done; NumericalError when it cannot be
  void require_done(const core::Stage& stage) const;
  using Inputs = std::vector<std::pair<std::string, std::string>>;
  /// `options`: tables and keys that it reads.
  core::Stage later_stage(const std::string& kind, int algorithm, const std::vector<std::string>& options,
                          const Inputs& more = {}) const;
  core::Stage translate_stage(const eval::TestSet& set) const;
  eval::TranslatedSet kept_translations(const eval::TestSet& set) const;
  /// Test sets are, where there is a model; data.valid is not.
  bool scored_by_comet(const eval::TestSet& set) const;
  core::Stage comet_stage(const eval::TestSet& set) const;
  void add_comet_parts(std::vector<EvaluationPart>& parts) const;
  std::vector<EvaluationPart> evaluation_parts() const;
  void add_alignment_parts(const AlignmentData& data, std::vector<EvaluationPart>& parts) const;
  /// @throws InputError, IoError, saying what to delete, when its files are damaged
  models::MambaLM trained_model(at::ScalarType dtype) const;
  /// What training starts with: a new model, or the result of run.continues or model.from.
  models::MambaLM starting_model() const;
  /// Of a training that continues a model.
  core::Json measures_before() const;
  core::Json run_training(core::Communicator& communicator) const;
  core::Json run_decomposition(const core::Stage& stage) const;
  /// From `file` of an earlier attempt if it has this row, else by decomposing it into that file.
  decomp::ErrorTable decompose_row(const models::MambaLM& model, const std::string& checksum,
                                   const decomp::Row& row, const std::filesystem::path& file) const;

  const RecipeRun& run_;
  std::shared_ptr<const TrainedTokenizer> tokenizer_;  // [nullable]
  data::Datasets datasets_;
  std::shared_ptr<const RunStages> base_;             // [nullable] the run that this one continues
  Inputs train_inputs_;                               // but for the starting weights of run.continues
  std::shared_ptr<const EvaluationData> evaluation_;  // [not null]
  std::vector<eval::TestSet> sets_;                   // to translate
};

/// What [evaluate] has translated: data.valid, called "validation", and the test sets. Nothing for other
/// tasks than translation, or without evaluate.bleu.
std::vector<eval::TestSet> translated_sets(const Recipe& recipe, const data::Datasets& datasets,
                                           const EvaluationData& data);

/// Where a decompose stage keeps its rows, each in a file of its own (decomp/row_file.h).
std::filesystem::path row_folder(const core::Stage& decompose);
/// A row of a finished decomposition. @throws IoError, InputError (with what to delete) when it is gone or
/// damaged
decomp::DecomposedRow decomposed_row(const core::Stage& decompose, int64_t index);

/// The stages of every run, but of those that are to make a tokenizer for which `missing` gives none; runs
/// with the same data share it. Reads the data: what evaluations read before all tokenizers and what they
/// encode. @throws IoError, InputError
std::vector<std::shared_ptr<RunStages>> stages_of(const RecipeFile& file,
                                                  const MissingTokenizer& missing = refuse_to_make);

/// Takes out of `stages` the runs for which `work` diverges, so that they do not keep the others from theirs;
/// a line about each, for throw_if_diverged() when the others are done.
std::string without_diverged(std::vector<std::shared_ptr<RunStages>>& stages,
                             const std::function<void(RunStages&)>& work);
/// @throws NumericalError unless there are no such lines
void throw_if_diverged(const std::string& diverged);

}  // namespace exactmamba::cli
