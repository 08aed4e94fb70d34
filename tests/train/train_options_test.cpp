#include "train/train_options.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "data/data_options.h"
#include "tests/support/files.h"

namespace exactmamba::train {
namespace {

struct Loaded {
  data::DataOptions data;  // for the conditions on data.valid
  TrainOptions options;
  core::Schema schema;
  explicit Loaded(const std::string& toml) {
    data::bind(schema, data);
    bind(schema, options);
    schema.load(toml, "recipe.toml", {});
    for (const core::Schema::Unused& unused : schema.unused()) throw core::InputError(unused.message);
  }
};

std::string refusal(const std::string& toml) {
  return testing::error_of<core::InputError>([&] { Loaded loaded(toml); });
}

TEST(TrainOptions, AreReadFromTheTable) {
  const Loaded loaded(
      "[train]\nsteps = 300\nlr = 3e-3\nschedule = \"linear\"\nannealing = \"power\"\neval_error = true\n");
  EXPECT_EQ(loaded.options.steps, 300);
  EXPECT_EQ(loaded.options.lr, 3e-3);
  EXPECT_EQ(loaded.options.schedule, "linear");
  EXPECT_EQ(loaded.options.annealing, "power");
  EXPECT_TRUE(loaded.options.eval_error);
  EXPECT_EQ(training_dtype(loaded.options), at::kFloat);
}

TEST(TrainOptions, ContradictionsAreRefusedWithTheirPlace) {
  const std::string warmup = refusal("[train]\nsteps = 10\nwarmup_steps = 11\n");
  EXPECT_CONTAINS(warmup, "recipe.toml:3");
  EXPECT_CONTAINS(warmup, "warmup_steps = 11 is larger than train.steps = 10");
  EXPECT_CONTAINS(refusal("[train]\nschedule = \"constant\"\nmin_lr_ratio = 0.1\n"), "min_lr_ratio");
  EXPECT_CONTAINS(refusal("[train]\npatience = 3\neval_every = 0\n"), "train.patience counts evaluations");
}

TEST(TrainOptions, ValuesOutOfRangeAreRefused) {
  EXPECT_CONTAINS(refusal("[train]\nsteps = 0\n"), "train.steps");
  EXPECT_CONTAINS(refusal("[train]\nbeta2 = 1.0\n"), "train.beta2");
  EXPECT_CONTAINS(refusal("[train]\nschedule = \"cosinus\"\n"), "cosine");
  EXPECT_CONTAINS(refusal("[train]\nbest_measure = \"ter\"\n"), "validation_loss, validation_accuracy, bleu");
  EXPECT_CONTAINS(refusal("[train]\nkeep_checkpoints = 0\n"), "train.keep_checkpoints");
}

TEST(TrainOptions, WhatDoesNotChangeTheWeightsDoesNotChangeTheHash) {
  const Loaded plain(""), chatty("[train]\nlog_every = 1\ncheckpoint_every = 7\nkeep_checkpoints = 5\n");
  const Loaded faster("[train]\nlr = 2e-3\n");
  EXPECT_EQ(plain.schema.canonical({"train"}), chatty.schema.canonical({"train"}));
  EXPECT_NE(plain.schema.canonical({"train"}), faster.schema.canonical({"train"}));
}

}  // namespace
}  // namespace exactmamba::train
