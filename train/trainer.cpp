#include "train/trainer.h"

#include <algorithm>
#include <cmath>

#include <ATen/ops/all.h>
#include <ATen/ops/eq.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include "core/error.h"
#include "core/log.h"
#include "core/memory.h"
#include "core/stop_signal.h"
#include "models/checkpoint.h"
#include "train/validation.h"

namespace exactmamba::train {
namespace fs = std::filesystem;
namespace {

/// The same on every rank: the ranks share one file system.
ResumePoint common_resume_point(const fs::path& folder, core::Communicator& communicator) {
  ResumePoint point = resume_point(folder);
  const int64_t step = point.checkpoint ? load_train_state(*point.checkpoint).step : -1;
  const at::Tensor steps = at::zeros({communicator.size()}, at::kLong);
  steps[communicator.rank()] = step;
  communicator.all_reduce_sum(steps);
  core::require(
      steps.eq(steps[0]).all().item<bool>(),
      "{}: the processes see different checkpoints there, this one {}; choose a run.output on a file "
      "system that all share",
      folder.string(), step < 0 ? "none" : fmt::format("that of update {}", step));
  return point;
}

void require_same_ranks(const TrainState& state, const TrainSetup& setup, int64_t ranks,
                        const fs::path& checkpoint) {
  const int64_t rows = setup.options.batch_size * setup.options.grad_accumulation_steps;
  core::require(state.ranks == ranks,
                "{}: made by {} processes with {} rows in an update, and {} would make it {}; start as many "
                "as before, or choose another run.output",
                checkpoint.string(), state.ranks, rows * state.ranks, ranks, rows * ranks);
}

TrainState initial_state(const TrainSetup& setup, int64_t ranks, const std::optional<fs::path>& checkpoint) {
  TrainState state;
  state.options_hash = setup.options_hash;
  state.ranks = ranks;
  if (setup.options.scales_loss()) state.loss_scale.emplace();
  if (!checkpoint) return state;
  state = load_train_state(*checkpoint);
  core::require(state.options_hash == setup.options_hash,
                "{}: made with other options, data or starting model (hash {}, now {}); choose another "
                "output folder or "
                "delete this one",
                checkpoint->string(), state.options_hash, setup.options_hash);
  require_same_ranks(state, setup, ranks, *checkpoint);
  return state;
}

models::MambaLM initial_model(const TrainSetup& setup, const std::optional<fs::path>& checkpoint) {
  const models::Placement placement = training_placement(setup.options, setup.device);
  const at::ScalarType dtype = placement.dtype;
  models::LoadOptions load;
  load.dtype = dtype;
  models::MambaLM model = checkpoint ? models::load_model(*checkpoint, load) : setup.start();
  core::require(model.parameters().dtype() == dtype, "the starting model is {}, but train.dtype is {}",
                c10::toString(model.parameters().dtype()), setup.options.dtype);
  core::require(setup.training->vocab_size() <= model.config().vocab_size,
                "the training data '{}' has token ids below {}, but the model's vocabulary has {} entries",
                setup.training->name(), setup.training->vocab_size(), model.config().vocab_size);
  return placement.device.is_cpu() ? std::move(model) : model.to(placement);
}

Schedule schedule_of(const TrainOptions& o) {
  return {schedule_from_name(o.schedule), o.lr, o.min_lr_ratio, o.steps, o.warmup_steps};
}

data::LoaderOptions loader_options(const TrainSetup& setup, const core::Communicator& communicator) {
  data::LoaderOptions options;
  options.batch_size = setup.options.batch_size;
  options.shuffle = setup.shuffle;
  options.seed = setup.seed;
  options.prefetch = setup.prefetch;
  options.rank = communicator.rank();
  options.ranks = communicator.size();
  options.pad_id = setup.pad_id;
  return options;
}

data::BatchesInOrder validation_batches(const TrainSetup& setup) {
  return {*setup.validation, setup.options.batch_size, setup.validation_rows, setup.pad_id};
}

void require_validation_targets(const TrainSetup& setup) {
  const data::BatchesInOrder batches = validation_batches(setup);
  for (int64_t i = 0; i < batches.size(); ++i)
    if (batches[i].target_count > 0) return;
  throw core::InputError(fmt::format("the validation data '{}' has no target token: its loss is not defined",
                                     setup.validation->name()));
}

/// What takes less memory, but is another run.
std::string advice_to_begin_anew(const TrainOptions& o) {
  if (o.batch_size == 1) return "begin another run with a shorter data.context or a smaller model";
  return fmt::format(
      "begin another run with train.batch_size below {} and, to make up for it, "
      "train.grad_accumulation_steps "
      "above {}",
      o.batch_size, o.grad_accumulation_steps);
}

std::string advice_for_update(const TrainOptions& o) {
  if (o.recompute == "block") return advice_to_begin_anew(o);
  return fmt::format(
      "keep less, with train.recompute = {} instead of \"{}\", and run again to continue; or {}",
      o.recompute == "none" ? "\"mixer\" or \"block\"" : "\"block\"", o.recompute, advice_to_begin_anew(o));
}

/// Nothing is kept for a backward pass then.
std::string advice_for_evaluation(const TrainOptions& o) {
  return advice_to_begin_anew(o) + (o.eval_error ? ", or without train.eval_error" : "");
}

/// In a handler: if memory ran out, says with which batch, and what to change; any other exception goes on.
[[noreturn]] void explain_memory(const char* work, const models::MambaLM& model, const data::Batch& batch,
                                 const std::string& advice) {
  if (!core::out_of_memory()) throw;
  throw core::InputError(
      fmt::format("not enough memory for {} of {} with {:.1f} M parameters on {} rows × {} tokens ({}); {}",
                  work, models::architecture_name(model.config().architecture),
                  static_cast<double>(model.parameters().parameter_count()) / 1e6, batch.input_ids.size(0),
                  batch.input_ids.size(1), core::memory_of(model.placement().device), advice));
}

const data::Batch& largest(const std::vector<data::Batch>& batches) {
  return *std::max_element(batches.begin(), batches.end(), [](const data::Batch& a, const data::Batch& b) {
    return a.input_ids.numel() < b.input_ids.numel();
  });
}

std::string names_of(const core::Json& measures) {
  std::string names;
  for (const auto& item : measures.items()) names += (names.empty() ? "" : ", ") + item.key();
  return names;
}

}  // namespace

void require_not_diverged(const TrainState& state, const TrainOptions& options, const fs::path& folder) {
  const std::string clipping = options.max_grad_norm == 0
                                   ? "set train.max_grad_norm, which is 0 and clips nothing"
                                   : fmt::format("train.max_grad_norm = {}", options.max_grad_norm);
  core::require<core::NumericalError>(
      state.bad_updates_in_row < options.max_bad_steps,
      "loss or gradient was not finite in {} updates in a row, the last of them {}; {} has the weights "
      "before them. Lower train.lr = {} or {}, or raise train.max_bad_steps",
      state.bad_updates_in_row, state.step, checkpoint_path(folder, state.step).string(), options.lr,
      clipping);
}

Trainer::Trainer(TrainSetup setup, core::Communicator& communicator)
    : setup_(std::move(setup)),
      communicator_(communicator),
      resume_(common_resume_point(setup_.folder, communicator)),
      state_(initial_state(setup_, communicator.size(), resume_.checkpoint)),
      model_(initial_model(setup_, resume_.checkpoint)),
      optimizer_(model_.parameters(), {setup_.options.beta1, setup_.options.beta2, setup_.options.eps,
                                       setup_.options.weight_decay}),
      schedule_(schedule_of(setup_.options)),
      annealing_(annealing_from_name(setup_.options.annealing)),
      loader_(setup_.training, loader_options(setup_, communicator)) {
  set_recompute(setup_.options, model_);
  model_.set_regularisation(regularisation(setup_.options, setup_.seed));
  loader_.seek(state_.loader_position);
  share_weights();
  if (!resume_.checkpoint) return;
  load_moments(*resume_.checkpoint, state_, optimizer_);
  saved_step_ = state_.step;
}

/// Machines of different kinds may round a starting model differently.
void Trainer::share_weights() {
  for (const models::Decay group : {models::Decay::kYes, models::Decay::kNo})
    communicator_.broadcast(model_.parameters().flat(group), 0);
  model_.parameters().refresh_compute_copies();
}

void Trainer::run() {
  stop_if_diverged();              // an earlier run stopped there
  if (finished()) return prune();  // it may have been killed before it could
  begin();
  while (!finished()) {
    stop_if_asked();
    update();
    stop_if_diverged();
    evaluate_if_due();
    checkpoint_if_due();
  }
}

void Trainer::begin() {
  remove_damaged_checkpoints();
  if (is_writer()) open_log();
  if (setup_.validation) require_validation_targets(setup_);
  anneal();
  const bool at_start = !resume_.checkpoint && setup_.options.eval_every > 0;
  if (!at_start && !state_.evaluation_pending) return;
  evaluate();
  checkpoint_if_due();
}

/// They stand where new checkpoints will, and would count among the newest.
void Trainer::remove_damaged_checkpoints() {
  if (resume_.damaged.empty()) return;
  communicator_.barrier();  // all ranks have looked at them
  if (!is_writer()) return;
  for (const DamagedCheckpoint& damaged : resume_.damaged) {
    core::log_warning(
        fmt::format("{}; removing it and continuing from {}", damaged.problem, resume_.checkpoint->string()));
    remove_checkpoint(damaged.folder);
  }
}

void Trainer::open_log() {
  std::error_code error;
  fs::create_directories(setup_.folder, error);
  core::require<core::IoError>(!error, "cannot create {}: {}", setup_.folder.string(), error.message());
  log_ = std::make_unique<TrainingLog>(setup_.folder, setup_.options, state_, resume_.checkpoint.has_value());
}

/// All ranks stop after the same update, whichever of them got the signal.
void Trainer::stop_if_asked() {
  const at::Device device = exchange_device(model_, communicator_);
  at::Tensor asked =
      at::full({}, core::stop_requested(), at::TensorOptions().dtype(at::kLong).device(device));
  communicator_.all_reduce_sum(asked);
  if (asked.item<int64_t>() != 0) stop();
}

void Trainer::stop() {
  if (saved_step_ != state_.step) checkpoint();
  throw core::Interrupted(
      core::agreed_stop(),
      fmt::format("stopped after update {} of {}; run again to continue from {}", state_.step,
                  setup_.options.steps, checkpoint_path(setup_.folder, state_.step).string()));
}

void Trainer::update() {
  const double learning_rate = schedule_.learning_rate(state_.step + 1);
  const double alpha_used = alpha();
  const UpdateResult result = run_update_of(fetch(), learning_rate);
  count(result);
  anneal();
  if (log_) log_->update(state_, result, learning_rate, alpha_used);
}

UpdateResult Trainer::run_update_of(const std::vector<data::Batch>& micro_batches, double learning_rate) {
  try {
    return run_update(model_, optimizer_, micro_batches, learning_rate, setup_.options.max_grad_norm,
                      communicator_, state_.loss_scale ? &*state_.loss_scale : nullptr);
  } catch (...) {
    explain_memory("an update", model_, largest(micro_batches), advice_for_update(setup_.options));
  }
}

std::vector<data::Batch> Trainer::fetch() {
  std::vector<data::Batch> micro_batches;
  for (int64_t i = 0; i < setup_.options.grad_accumulation_steps; ++i)
    micro_batches.push_back(loader_.next());
  return micro_batches;
}

void Trainer::count(const UpdateResult& result) {
  const bool bad = result.outcome == Outcome::kNotFinite;
  ++state_.step;
  state_.loader_position = loader_.position();
  state_.optimizer_steps = optimizer_.steps();
  state_.tokens += result.tokens;
  state_.target_tokens += result.target_tokens;
  state_.updates_without_targets += result.outcome == Outcome::kWithoutTargets;
  state_.bad_updates += bad;
  if (result.outcome == Outcome::kOverflow) return;  // neither good nor bad: the next has a lower scale
  state_.bad_updates_in_row = bad ? state_.bad_updates_in_row + 1 : 0;
}

/// Between updates the model always has the α of the updates done, so a checkpoint says what it computes.
void Trainer::anneal() {
  if (annealing_ == AnnealingKind::kNone) return;
  models::ConvActivation activation = model_.config().activation;
  activation.alpha = annealing_alpha(annealing_, state_.step, setup_.options.steps);
  model_.set_activation(activation);
}

void Trainer::stop_if_diverged() {
  if (state_.bad_updates_in_row < setup_.options.max_bad_steps) return;
  if (saved_step_ != state_.step) checkpoint();
  require_not_diverged(state_, setup_.options, setup_.folder);
}

void Trainer::evaluate_if_due() {
  const int64_t every = setup_.options.eval_every;
  const bool last = finished();
  if (last) keep_before_last_evaluation();
  if (last || (every > 0 && state_.step % every == 0)) evaluate();
}

/// It may take long, and what ends the process meanwhile should lose nothing.
void Trainer::keep_before_last_evaluation() {
  if (!setup_.validation && !setup_.evaluation) return;
  state_.evaluation_pending = true;
  checkpoint();
}

void Trainer::evaluate() {
  state_.evaluation_pending = true;  // as a checkpoint says that a stop makes meanwhile
  const core::Json measures = measure();
  state_.evaluation_pending = false;
  if (measures.empty()) return;
  choose_best(measures);
  if (log_) log_->evaluation(state_, measures, alpha());
  if (log_ && out_of_patience()) tell_of_early_end();
}

core::Json Trainer::measure() {
  core::Json measures = core::Json::object();
  try {
    if (setup_.validation) measures = validate(model_, validation_batches(setup_), communicator_);
    if (setup_.evaluation) measures.update(setup_.evaluation(model_, state_.step));
  } catch (const core::Interrupted&) {
    stop();
  } catch (...) {
    if (!setup_.validation) throw;
    const data::BatchesInOrder batches = validation_batches(setup_);
    explain_memory("an evaluation", model_, batches[0], advice_for_evaluation(setup_.options));
  }
  return measures;
}

void Trainer::choose_best(const core::Json& measures) {
  const std::string& name = setup_.options.best_measure;
  core::require(measures.contains(name) && measures[name].is_number(),
                "train.best_measure is '{}', but the evaluation has no such number; it has: {}", name,
                names_of(measures));
  const double value = measures[name];
  if (!std::isfinite(value) && is_writer())
    core::log_warning(fmt::format("evaluation after update {}: {} is not finite, which counts as worst",
                                  state_.step, name));
  if (alpha() < 1) return;  // a half annealed model is not what was asked for
  ++state_.evaluations_since_best;
  const bool lowest = setup_.options.lowest_is_best();
  if (!std::isfinite(value)) return;
  if (state_.best && (lowest ? value >= state_.best->value : value <= state_.best->value)) return;
  state_.best = {state_.step, value};
  state_.evaluations_since_best = 0;
}

void Trainer::tell_of_early_end() const {
  const std::string measure = state_.best ? fmt::format("better {} than that of update {}",
                                                        setup_.options.best_measure, state_.best->step)
                                          : "finite " + setup_.options.best_measure;
  core::log_info(fmt::format("update {} of {} is the last: {} evaluations in a row had no {}", state_.step,
                             setup_.options.steps, state_.evaluations_since_best, measure));
}

void Trainer::checkpoint_if_due() {
  const int64_t every = setup_.options.checkpoint_every;
  const bool regular = state_.step > 0 && every > 0 && state_.step % every == 0;
  const bool best = state_.best && state_.best->step == state_.step;
  if (regular || best || finished()) checkpoint();
}

void Trainer::checkpoint() {
  communicator_.barrier();  // throws when a process is gone, whose part the last sums may lack
  if (is_writer()) {
    state_.elapsed_seconds = log_->elapsed_seconds();
    save_checkpoint(setup_.folder, model_, optimizer_, state_, setup_.model_files);
  }
  prune();
  saved_step_ = state_.step;
  communicator_.barrier();
}

void Trainer::prune() {
  if (is_writer()) prune_checkpoints(setup_.folder, setup_.options.keep_checkpoints, state_.best);
}

}  // namespace exactmamba::train
