// The loop: learning, skipped updates, evaluation, best and kept checkpoints, annealing.
#include "train/trainer.h"

#include <cmath>
#include <set>

#include <ATen/ops/empty.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "models/checkpoint.h"
#include "tests/support/files.h"
#include "tests/support/tensors.h"
#include "tests/train/tiny_training.h"
#include "train/training_checkpoint.h"

namespace exactmamba::train {
namespace {

using testing::TemporaryFolder;
using testing::tiny_setup;
using testing::train_tiny;

std::vector<core::Json> lines_of(const std::filesystem::path& run, const std::string& kind) {
  std::vector<core::Json> lines;
  for (core::Json& line : core::read_metrics(run / "metrics.jsonl"))
    if (line["kind"] == kind) lines.push_back(std::move(line));
  return lines;
}

/// As the newest checkpoint knows it.
std::filesystem::path best_checkpoint(const std::filesystem::path& run) {
  return checkpoint_path(run, load_train_state(last_checkpoint(run).value()).best.value().step);
}

std::set<std::string> checkpoint_names(const std::filesystem::path& run) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(run / "checkpoints"))
    names.insert(entry.path().filename().string());
  return names;
}

/// `count` rows, of which those that `chosen` picks are changed by `change`.
std::shared_ptr<data::Dataset> rows_with(int64_t count, const std::function<bool(int64_t)>& chosen,
                                         const std::function<void(data::Row&)>& change) {
  std::vector<data::Row> rows;
  for (int64_t i = 0; i < count; ++i) {
    rows.push_back(testing::echo_row(i, 13, testing::kTinyVocabulary));
    if (chosen(i)) change(rows.back());
  }
  return std::make_shared<testing::ListedRows>(std::move(rows), testing::kTinyVocabulary);
}

void without_targets(data::Row& row) { row.targets.assign(row.targets.size(), data::kIgnoredTarget); }
/// One row per update, no evaluation.
TrainSetup row_by_row(const std::filesystem::path& folder, int64_t steps) {
  TrainSetup setup = tiny_setup(folder);
  setup.options.steps = steps;
  setup.options.batch_size = setup.options.grad_accumulation_steps = 1;
  setup.options.schedule = "constant";
  setup.options.warmup_steps = 0;
  setup.options.eval_every = 0;
  setup.validation = nullptr;
  setup.shuffle = false;
  return setup;
}

TEST(Trainer, LearnsATaskThatCanBeLearned) {
  const TemporaryFolder folder;
  TrainSetup setup = tiny_setup(folder.path());
  setup.options.steps = 150;
  setup.options.eval_every = 150;
  train_tiny(setup);
  const auto evaluations = lines_of(folder.path(), "evaluation");
  ASSERT_EQ(evaluations.size(), 2u);  // before the first update and after the last
  EXPECT_NEAR(evaluations[0]["validation_loss"].get<double>(), std::log(16.0), 0.3);  // chance among 16 rows
  EXPECT_LT(evaluations[1]["validation_loss"].get<double>(), 1.0);
  EXPECT_GT(evaluations[1]["validation_accuracy"].get<double>(), 0.6);
}

TEST(Trainer, WritesOneTrainingLineForEveryUpdateAsked) {
  const TemporaryFolder folder;
  TrainSetup setup = tiny_setup(folder.path());
  setup.options.log_every = 5;
  train_tiny(setup);
  std::vector<int64_t> steps;
  for (const core::Json& line : lines_of(folder.path(), "train")) {
    steps.push_back(line["step"]);
    EXPECT_EQ(line["target_tokens"], 2 * 3 * 12);
    EXPECT_EQ(line["total_tokens"], line["step"].get<int64_t>() * 2 * 3 * 13);
    EXPECT_GT(line["tokens_per_second"].get<double>(), 0.0);
  }
  EXPECT_EQ(steps, (std::vector<int64_t>{5, 10, 15, 20, 24}));
}

TEST(Trainer, TrainsTheSameModelWhateverIsRecomputed) {
  std::set<std::string> weights;
  for (const char* recompute : {"none", "mixer", "block"}) {
    const TemporaryFolder folder;
    TrainSetup setup = tiny_setup(folder.path());
    setup.options.recompute = recompute;
    setup.options.dropout = 0.2;
    weights.insert(train_tiny(setup));
  }
  const TemporaryFolder folder;
  TrainSetup setup = tiny_setup(folder.path());
  setup.options.keep_gib = 1e-6;
  setup.options.dropout = 0.2;
  weights.insert(train_tiny(setup));
  EXPECT_EQ(weights.size(), 1u);
}

TEST(Trainer, ReturnsAtOnceWhenTheEndWasReachedBefore) {
  const TemporaryFolder folder;
  const std::string weights = train_tiny(tiny_setup(folder.path()));
  TrainSetup again = tiny_setup(folder.path());
  again.start = []() -> models::MambaLM { throw std::logic_error("must not be called"); };
  again.evaluation = [](const models::MambaLM&, int64_t) -> core::Json {
    throw std::logic_error("must not be called");
  };
  EXPECT_EQ(train_tiny(again), weights);
}

TEST(Trainer, AMicroBatchWithoutTargetsAddsNothing) {
  const TemporaryFolder folder;
  TrainSetup mixed = row_by_row(folder / "mixed", 10);
  mixed.options.grad_accumulation_steps = 2;
  mixed.training = rows_with(
      20, [](int64_t i) { return i % 2 == 1; }, without_targets);
  TrainSetup plain = row_by_row(folder / "plain", 10);
  std::vector<data::Row> even;
  for (int64_t i = 0; i < 20; i += 2) even.push_back(mixed.training->row(i));
  plain.training = std::make_shared<testing::ListedRows>(even, testing::kTinyVocabulary);
  EXPECT_EQ(train_tiny(mixed), train_tiny(plain));
}

TEST(Trainer, AnUpdateWithoutTargetsIsSkippedAndCounted) {
  const TemporaryFolder folder;
  TrainSetup setup = row_by_row(folder.path(), 10);
  setup.training = rows_with(
      10, [](int64_t i) { return i == 3 || i == 7; }, without_targets);
  const auto communicator = core::single_process_communicator();
  Trainer trainer(setup, *communicator);
  trainer.run();
  EXPECT_EQ(trainer.state().updates_without_targets, 2);
  EXPECT_EQ(trainer.state().optimizer_steps, 8);
  EXPECT_EQ(trainer.state().bad_updates, 0);
  const auto skipped = lines_of(folder.path(), "skipped");
  ASSERT_EQ(skipped.size(), 2u);
  EXPECT_EQ(skipped[0]["step"], 4);
  EXPECT_EQ(skipped[0]["reason"], "no target");

  TrainSetup others = row_by_row(folder / "others", 8);
  others.training = rows_with(
      10, [](int64_t) { return false; }, without_targets);
  std::vector<data::Row> rows;
  for (int64_t i : {0, 1, 2, 4, 5, 6, 8, 9}) rows.push_back(others.training->row(i));
  others.training = std::make_shared<testing::ListedRows>(rows, testing::kTinyVocabulary);
  EXPECT_EQ(trainer.model().parameters().checksum(), train_tiny(others));
}

/// Evaluations after every update that change the weights when their turn comes; no checkpoint but the first
/// and the last.
TrainSetup with_spoiler(TrainSetup setup,
                        std::function<void(const models::ParameterStore&, int64_t step)> spoil) {
  setup.options.eval_every = 1;
  setup.options.checkpoint_every = 0;
  setup.options.max_bad_steps = 3;
  setup.evaluation = [spoil = std::move(spoil)](const models::MambaLM& model, int64_t step) {
    spoil(model.parameters(), step);
    return core::Json{{"validation_loss", step}};
  };
  return setup;
}

TEST(Trainer, UpdatesThatAreNotFiniteAreSkippedAndCounted) {
  const TemporaryFolder folder;
  at::Tensor good;
  const auto spoil = [&good](const models::ParameterStore& store, int64_t step) {
    const at::Tensor weight = store.parameter("backbone.norm_f.weight");
    if (step == 2 || step == 8) good = weight.clone(), weight[1].fill_(HUGE_VAL);
    if (step == 4 || step == 9) weight.copy_(good);
  };
  TrainSetup setup = with_spoiler(row_by_row(folder.path(), 12), spoil);
  const auto communicator = core::single_process_communicator();
  Trainer trainer(setup, *communicator);
  trainer.run();
  EXPECT_EQ(trainer.state().bad_updates, 3);
  EXPECT_EQ(trainer.state().bad_updates_in_row, 0);
  EXPECT_EQ(trainer.state().optimizer_steps, 9);
  const auto skipped = lines_of(folder.path(), "skipped");
  ASSERT_EQ(skipped.size(), 3u);
  EXPECT_EQ(skipped[2]["step"], 9);
  EXPECT_EQ(skipped[2]["reason"], "not finite");

  TrainSetup undisturbed = row_by_row(folder / "others", 9);
  std::vector<data::Row> rows;
  for (int64_t i : {0, 1, 4, 5, 6, 7, 9, 10, 11}) rows.push_back(setup.training->row(i));
  undisturbed.training = std::make_shared<testing::ListedRows>(rows, testing::kTinyVocabulary);
  EXPECT_EQ(trainer.model().parameters().checksum(), train_tiny(undisturbed));
}

/// Weights after which no logit is finite, though they are.
void blow_up(const models::ParameterStore& store) {
  for (const char* name : {"backbone.norm_f.weight", "backbone.embeddings.weight"})
    store.parameter(name).fill_(3e38);
}

TEST(Trainer, StopsAfterTooManyBadUpdatesInARowAndKeepsTheWeightsBeforeThem) {
  const TemporaryFolder folder;
  std::string before;
  const TrainSetup setup = with_spoiler(row_by_row(folder.path(), 20),
                                        [&before](const models::ParameterStore& store, int64_t step) {
                                          if (step != 5) return;
                                          blow_up(store);
                                          before = store.checksum();
                                        });
  const std::string message = testing::error_of<core::NumericalError>([&] { train_tiny(setup); });
  EXPECT_CONTAINS(message, "3 updates in a row");
  EXPECT_CONTAINS(message, "step-00000008");
  EXPECT_EQ(models::load_model(*last_checkpoint(folder.path())).parameters().checksum(), before);
}

/// Nothing is finite after update `last_good`; 3 bad updates are too many.
TrainSetup diverging(const std::filesystem::path& folder, int64_t steps, int64_t last_good) {
  return with_spoiler(row_by_row(folder, steps),
                      [last_good](const models::ParameterStore& store, int64_t step) {
                        if (step == last_good) blow_up(store);
                      });
}

TEST(Trainer, ADivergedTrainingStaysDiverged) {
  for (const int64_t steps : {8, 9}) {  // the last bad update is the last of all, or the one before
    const TemporaryFolder folder;
    const TrainSetup setup = diverging(folder.path(), steps, 5);
    const std::string first = testing::error_of<core::NumericalError>([&] { train_tiny(setup); });
    const auto lines = core::read_metrics(folder.path() / "metrics.jsonl");
    EXPECT_EQ(testing::error_of<core::NumericalError>([&] { train_tiny(setup); }), first);
    EXPECT_EQ(core::read_metrics(folder.path() / "metrics.jsonl"), lines);
    EXPECT_EQ(last_checkpoint(folder.path()), checkpoint_path(folder.path(), 8));
  }
}

TEST(Trainer, ADivergedTrainingGoesOnWhenMoreBadUpdatesAreAllowed) {
  const TemporaryFolder folder;
  TrainSetup setup = diverging(folder.path(), 12, 5);
  testing::error_of<core::NumericalError>([&] { train_tiny(setup); });
  setup.options.max_bad_steps = 20;
  train_tiny(setup);
  EXPECT_EQ(load_train_state(*last_checkpoint(folder.path())).bad_updates, 7);
}

TEST(Trainer, TheNewestAndTheBestCheckpointsStay) {
  const TemporaryFolder folder;
  TrainSetup setup = tiny_setup(folder.path());
  setup.options.best_measure = "score";
  setup.evaluation = [](const models::MambaLM&, int64_t step) {
    return core::Json{{"score", step == 6 ? 2 : 1}};
  };
  train_tiny(setup);
  EXPECT_EQ(checkpoint_names(folder.path()),
            (std::set<std::string>{"step-00000006", "step-00000020", "step-00000024"}));
  EXPECT_EQ(last_checkpoint(folder.path()), checkpoint_path(folder.path(), 24));
  EXPECT_EQ(best_checkpoint(folder.path()), checkpoint_path(folder.path(), 6));
  const auto evaluations = lines_of(folder.path(), "evaluation");
  ASSERT_EQ(evaluations.size(), 5u);
  EXPECT_EQ(evaluations[1]["score"], 2);
  EXPECT_TRUE(evaluations[1].contains("validation_loss"));
}

TEST(Trainer, TheLowestValidationLossIsTheBest) {
  const TemporaryFolder folder;
  train_tiny(tiny_setup(folder.path()));
  int64_t best_step = -1;
  double best = HUGE_VAL;
  for (const core::Json& line : lines_of(folder.path(), "evaluation"))
    if (line["validation_loss"] < best) best = line["validation_loss"], best_step = line["step"];
  EXPECT_EQ(best_checkpoint(folder.path()), checkpoint_path(folder.path(), best_step));
}

TEST(Trainer, TheHighestValidationAccuracyIsTheBest) {
  const TemporaryFolder folder;
  TrainSetup setup = tiny_setup(folder.path());
  setup.options.best_measure = "validation_accuracy";
  setup.evaluation = [](const models::MambaLM&, int64_t step) {
    return core::Json{{"validation_accuracy", step == 12 ? 0.9 : 0.01 * static_cast<double>(step)}};
  };
  train_tiny(setup);
  EXPECT_EQ(best_checkpoint(folder.path()), checkpoint_path(folder.path(), 12));
}

TEST(Trainer, AHalfAnnealedModelIsNeverTheBest) {
  const TemporaryFolder folder;
  TrainSetup setup = tiny_setup(folder.path());
  setup.options.steps = 20;
  setup.options.eval_every = 1;
  setup.options.annealing = "linear";
  setup.options.best_measure = "score";
  setup.start = [] {
    models::ModelConfig config = testing::tiny_config();
    config.activation.kind = models::ActivationKind::kIdentity;
    return testing::tiny_model(config);
  };
  setup.evaluation = [](const models::MambaLM&, int64_t step) { return core::Json{{"score", -step}}; };
  train_tiny(setup);
  EXPECT_EQ(best_checkpoint(folder.path()), checkpoint_path(folder.path(), 18));  // the first with alpha = 1
}

TEST(Trainer, EndsEarlyWhenNothingBetterComes) {
  const TemporaryFolder folder;
  TrainSetup setup = tiny_setup(folder.path());
  setup.options.eval_every = 2;
  setup.options.patience = 3;
  setup.options.best_measure = "score";
  const std::map<int64_t, double> scores = {{0, 1}, {2, NAN}, {4, 1}, {6, 2}, {8, 2}, {10, 0}};  // then none
  setup.evaluation = [&](const models::MambaLM&, int64_t step) {
    const auto found = scores.find(step);
    return core::Json{{"score", found == scores.end() ? 1.5 : found->second}};
  };
  const std::string weights = train_tiny(setup);
  EXPECT_EQ(last_checkpoint(folder.path()), checkpoint_path(folder.path(), 12));
  EXPECT_EQ(best_checkpoint(folder.path()), checkpoint_path(folder.path(), 6));
  EXPECT_EQ(lines_of(folder.path(), "evaluation").size(), 7u);
  setup.evaluation = [](const models::MambaLM&, int64_t) -> core::Json {
    throw std::logic_error("must not be called");
  };
  EXPECT_EQ(train_tiny(setup), weights);  // stays ended

  std::filesystem::remove_all(checkpoint_path(folder.path(), 12));  // back to update 8, with one of three
  setup.evaluation = [](const models::MambaLM&, int64_t) { return core::Json{{"score", 1}}; };
  EXPECT_EQ(train_tiny(setup), weights);
}

/// A single process that asks for more memory than an address has bits for, once it has summed `sums` times.
class Greedy final : public core::Communicator {
 public:
  explicit Greedy(int sums) : sums_(sums) {}
  int rank() const override { return 0; }
  int size() const override { return 1; }
  std::unique_ptr<core::PendingSum> start_sum(const at::Tensor&) override {
    if (sums_-- == 0) at::empty({int64_t{1} << 60}, at::kFloat);
    return std::make_unique<core::CompleteSum>();
  }
  void broadcast(const at::Tensor&, int) override {}
  void barrier() override {}

 private:
  int sums_;
};

std::string memory_error(const TrainSetup& setup, int sums) {
  at::set_num_threads(1);
  Greedy communicator(sums);
  return testing::error_of<core::InputError>([&] { Trainer(setup, communicator).run(); });
}

TEST(Trainer, WhereMemoryEndsTheBatchIsNamedAndCheckpointsStay) {
  const TemporaryFolder folder;
  TrainSetup setup = tiny_setup(folder.path());
  setup.options.checkpoint_every = 1;
  const std::string message = memory_error(setup, 40);
  EXPECT_CONTAINS(message, "not enough memory for an update of mamba1 with 0.0 M parameters on 3 rows × 13");
  EXPECT_CONTAINS(message, "GiB of cpu");
  EXPECT_TRUE(last_checkpoint(folder.path()));
  const std::string continued = train_tiny(setup);
  EXPECT_EQ(train_tiny(tiny_setup(folder / "undisturbed")), continued);
}

TEST(Trainer, WhereMemoryEndsWhatContinuesTheRunIsNamedFirst) {
  const TemporaryFolder folder;
  constexpr int kToValidate = 1, kToUpdate = 5;  // sums over the ranks before the first of each
  const std::string smaller_batch =
      "begin another run with train.batch_size below 3 and, to make up for it, train.grad_accumulation_steps "
      "above 2";
  TrainSetup setup = tiny_setup(folder.path());
  EXPECT_CONTAINS(memory_error(setup, kToUpdate),
                  "; keep less, with train.recompute = \"mixer\" or \"block\" instead of \"none\", and run "
                  "again to continue; or " +
                      smaller_batch);
  setup.options.recompute = "mixer";
  EXPECT_CONTAINS(memory_error(setup, kToUpdate), "train.recompute = \"block\" instead of \"mixer\"");
  setup.options.recompute = "block";
  EXPECT_CONTAINS(memory_error(setup, kToUpdate), "); " + smaller_batch);
  setup.options.batch_size = 1;
  EXPECT_CONTAINS(memory_error(setup, kToUpdate), "); begin another run with a shorter data.context");

  setup = tiny_setup(folder / "first");
  EXPECT_CONTAINS(memory_error(setup, kToValidate), "an evaluation of mamba1 with 0.0 M");
  EXPECT_CONTAINS(memory_error(setup, kToValidate), "); " + smaller_batch);
  setup.evaluation = [](const models::MambaLM&, int64_t) -> core::Json { throw std::bad_alloc(); };
  setup.options.eval_error = true;
  EXPECT_CONTAINS(memory_error(setup, 100), smaller_batch + ", or without train.eval_error");
}

TEST(Trainer, AnUnknownBestMeasureIsRefusedWithTheNamesThatExist) {
  const TemporaryFolder folder;
  TrainSetup setup = tiny_setup(folder.path());
  setup.options.best_measure = "bleu";
  const std::string message = testing::error_of<core::InputError>([&] { train_tiny(setup); });
  EXPECT_CONTAINS(message, "'bleu'");
  EXPECT_CONTAINS(message, "validation_loss");
}

TEST(Trainer, ACheckpointIsAModelFolderOfTheTrainingDtype) {
  for (const char* dtype : {"float32", "float64"}) {
    const TemporaryFolder folder;
    TrainSetup setup = tiny_setup(folder.path());
    setup.options.dtype = dtype;
    models::LoadOptions load;
    load.dtype = training_dtype(setup.options);
    setup.start = [&load] { return testing::tiny_model(testing::tiny_config(), load.dtype); };
    const std::string weights = train_tiny(setup);
    const models::MambaLM loaded = models::load_model(*last_checkpoint(folder.path()), load);
    EXPECT_EQ(loaded.parameters().checksum(), weights) << dtype;
  }
}

TEST(Trainer, AnnealsFromSiluAndSavesTheModelWithItsAlpha) {
  const TemporaryFolder folder;
  const std::string silu = (folder / "silu").string();
  train_tiny(tiny_setup(silu));

  TrainSetup setup = tiny_setup(folder / "identity");
  setup.options.steps = 20;
  setup.options.annealing = "power";
  setup.options.keep_checkpoints = 10;
  setup.start = [&silu] {
    models::MambaLM model = models::load_model(*last_checkpoint(silu));
    model.set_activation({models::ActivationKind::kIdentity, 1.0});
    return model;
  };
  train_tiny(setup);

  const auto config = [&](int64_t step) { return models::load_config(checkpoint_path(setup.folder, step)); };
  EXPECT_EQ(config(8).activation.kind, models::ActivationKind::kIdentity);
  EXPECT_NEAR(config(8).activation.alpha, std::pow(8.0 / 18.0, 2), 1e-15);
  EXPECT_EQ(config(20).activation.alpha, 1.0);

  const auto first = lines_of(setup.folder, "evaluation").front();
  EXPECT_EQ(first["alpha"], 0.0);  // still the SiLU model
  EXPECT_EQ(first["validation_loss"], lines_of(silu, "evaluation").back()["validation_loss"]);
  const auto training = lines_of(setup.folder, "train");
  EXPECT_EQ(training[0]["alpha"], 0.0);
  EXPECT_EQ(training[18]["alpha"], 1.0);
  EXPECT_EQ(training[19]["alpha"], 1.0);
}

TEST(Trainer, AWrongDtypeOrVocabularyIsRefused) {
  const TemporaryFolder folder;
  TrainSetup setup = tiny_setup(folder.path());
  setup.options.dtype = "float64";
  EXPECT_CONTAINS(testing::error_of<core::InputError>([&] { train_tiny(setup); }), "float64");
  setup = tiny_setup(folder.path());
  setup.training =
      std::make_shared<testing::ListedRows>(std::vector<data::Row>(6, testing::echo_row(0, 5, 4)), 300);
  EXPECT_CONTAINS(testing::error_of<core::InputError>([&] { train_tiny(setup); }), "300");
}

TEST(Trainer, ValidationDataWithoutTargetsIsRefused) {
  const TemporaryFolder folder;
  TrainSetup setup = tiny_setup(folder.path());
  setup.options.eval_every = 0;
  setup.validation = rows_with(
      3, [](int64_t) { return true; }, without_targets);
  EXPECT_CONTAINS(testing::error_of<core::InputError>([&] { train_tiny(setup); }), "no target");
  EXPECT_FALSE(last_checkpoint(folder.path()));  // before the first update
}

}  // namespace
}  // namespace exactmamba::train
