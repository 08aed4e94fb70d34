// Small data, models and set-ups for tests of the training loop.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <ATen/Parallel.h>

#include "core/random.h"
#include "data/dataset.h"
#include "models/initialisation.h"
#include "models/mamba_lm.h"
#include "train/trainer.h"

namespace exactmamba::testing {

/// Rows given one by one.
class ListedRows final : public data::Dataset {
 public:
  ListedRows(std::vector<data::Row> rows, int64_t vocab_size)
      : rows_(std::move(rows)), vocab_size_(vocab_size) {}
  std::string name() const override { return "listed rows"; }
  int64_t size() const override { return static_cast<int64_t>(rows_.size()); }
  data::Row row(int64_t index) const override { return rows_[index]; }
  int64_t vocab_size() const override { return vocab_size_; }
  std::string token_text(int64_t) const override { return ""; }
  std::string fingerprint() const override { return "listed"; }

 private:
  std::vector<data::Row> rows_;
  int64_t vocab_size_;
};

/// Random tokens; the target is the token before, so a model can learn it.
inline data::Row echo_row(int64_t index, int64_t length, int64_t vocab_size) {
  core::RandomStream random(5, "echo", 0, static_cast<uint64_t>(index));
  data::Row row;
  for (int64_t t = 0; t < length; ++t) {
    row.input_ids.push_back(random.uniform_int(0, vocab_size - 1));
    row.targets.push_back(t == 0 ? data::kIgnoredTarget : row.input_ids[t - 1]);
  }
  row.starts = {0};
  return row;
}

inline constexpr int64_t kTinyVocabulary = 11;

inline std::shared_ptr<data::Dataset> echo_data(int64_t rows, int64_t first = 0) {
  std::vector<data::Row> list;
  for (int64_t i = 0; i < rows; ++i) list.push_back(echo_row(first + i, 13, kTinyVocabulary));
  return std::make_shared<ListedRows>(std::move(list), kTinyVocabulary);
}

inline models::ModelConfig tiny_config(models::Architecture architecture = models::Architecture::kMamba1) {
  models::ModelConfig config;
  config.architecture = architecture;
  config.vocab_size = kTinyVocabulary;
  config.vocab_rows = 16;
  config.d_model = 8;
  config.n_layer = 2;
  config.d_state = 4;
  config.dt_rank = 1;
  config.headdim = 4;
  config.chunk_size = 8;
  return config;
}

inline models::MambaLM tiny_model(const models::ModelConfig& config, at::ScalarType dtype = at::kFloat) {
  models::MambaLM model(config, dtype);
  models::initialise(model, 17);
  return model;
}

/// 24 updates of 2 micro-batches with 3 rows, an evaluation every 6 and a checkpoint every 4.
inline train::TrainSetup tiny_setup(const std::filesystem::path& folder) {
  train::TrainSetup setup;
  setup.options.steps = 24;
  setup.options.batch_size = 3;
  setup.options.grad_accumulation_steps = 2;
  setup.options.warmup_steps = 3;
  setup.options.lr = 1e-2;
  setup.options.eval_every = 6;
  setup.options.checkpoint_every = 4;
  setup.options.log_every = 1;
  setup.options_hash = "tiny";
  setup.folder = folder;
  setup.start = [] { return tiny_model(tiny_config()); };
  setup.training = echo_data(40);
  setup.validation = echo_data(5, 1000);
  setup.seed = 23;
  return setup;
}

/// Trains to the end, on one thread: there is nothing to share out. The checksum of the final weights.
inline std::string train_tiny(const train::TrainSetup& setup) {
  at::set_num_threads(1);
  const auto communicator = core::single_process_communicator();
  train::Trainer trainer(setup, *communicator);
  trainer.run();
  return trainer.model().parameters().checksum();
}

}  // namespace exactmamba::testing
