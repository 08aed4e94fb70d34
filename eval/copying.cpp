#include "eval/copying.h"

#include <ATen/ops/full.h>

#include "core/error.h"
#include "core/stop_signal.h"
#include "data/loader.h"
#include "models/generation.h"

namespace exactmamba::eval {

using data::CopyExample;
using data::CopyTask;

namespace {

/// `predicted` for the characters of the copy and the end sign.
void count(CopyAccuracy& accuracy, const std::vector<int64_t>& predicted,
           const std::vector<int64_t>& expected) {
  const size_t characters = expected.size() - 1;
  bool all_right = true;
  for (size_t m = 0; m < expected.size(); ++m) {
    const bool right = m < predicted.size() && predicted[m] == expected[m];
    all_right &= right;
    if (m < characters) accuracy.characters_right += right;
  }
  accuracy.characters += static_cast<int64_t>(characters);
  accuracy.strings += 1;
  accuracy.strings_right += all_right;
}

/// The ids of the copy and the end sign.
std::vector<int64_t> expected_ids(const CopyTask& task, const CopyExample& example) {
  return task.tokenizer().encode(example.text + ".");
}

int64_t rows_of(const CopyTask& task, int64_t max_rows) {
  return max_rows > 0 ? std::min(max_rows, task.size()) : task.size();
}

}  // namespace

CopyAccuracy teacher_forced_accuracy(const models::MambaLM& model, const CopyTask& task, int64_t batch_size,
                                     int64_t max_rows, bool stoppable) {
  CopyAccuracy accuracy;
  int64_t row = 0;
  const data::BatchesInOrder batches(task, batch_size, max_rows, data::CopyTokenizer::kPad);
  for (int64_t i = 0; i < batches.size(); ++i) {
    if (stoppable) core::stop_if_asked("evaluating");
    const data::Batch batch = batches[i];
    const at::Tensor predictions = model.loss(batch).predictions.cpu();
    for (int64_t b = 0; b < batch.input_ids.size(0); ++b, ++row) {
      const int64_t* predicted_row = predictions.data_ptr<int64_t>() + b * predictions.size(1);
      for (const CopyExample& example : task.examples(task.row(row))) {
        const int64_t* first = predicted_row + example.outputs.front();
        count(accuracy, {first, first + example.text.size() + 1}, expected_ids(task, example));
      }
    }
  }
  return accuracy;
}

CopyAccuracy free_running_accuracy(const models::MambaLM& model, const CopyTask& task, int64_t batch_size,
                                   int64_t max_rows) {
  CopyAccuracy accuracy;
  std::vector<CopyExample> examples;
  for (int64_t row = 0; row < rows_of(task, max_rows); ++row) {
    for (CopyExample& example : task.examples(task.row(row))) examples.push_back(std::move(example));
  }
  for (size_t begin = 0; begin < examples.size(); begin += static_cast<size_t>(batch_size)) {
    const size_t end = std::min(begin + static_cast<size_t>(batch_size), examples.size());
    std::vector<std::vector<int64_t>> prompts;
    size_t longest = 0;
    for (size_t k = begin; k < end; ++k) {
      prompts.push_back(task.tokenizer().encode("$" + examples[k].text + "|"));
      longest = std::max(longest, examples[k].text.size());
    }
    const auto outputs = models::generate(
        model, prompts,
        {.max_new_tokens = static_cast<int64_t>(longest) + 1, .stop_token = data::CopyTokenizer::kEnd},
        [](size_t, int64_t) { core::stop_if_asked("evaluating"); });
    for (size_t k = begin; k < end; ++k) count(accuracy, outputs[k - begin], expected_ids(task, examples[k]));
  }
  return accuracy;
}

RankingMeasures copy_attribution(const decomp::InteractionMap& map, const CopyExample& example) {
  const at::Tensor values = map.values.to(at::kDouble).contiguous();
  const double* data = values.data_ptr<double>();
  std::vector<double> scores;
  std::vector<bool> gold;
  for (size_t m = 0; m < example.outputs.size(); ++m) {
    core::require(example.outputs[m] < values.size(0),
                  "map {}: {} rows, but the example's copy is emitted at row {}", map.name(), values.size(0),
                  example.outputs[m]);
    for (size_t n = 0; n < example.sources.size(); ++n) {
      scores.push_back(data[example.outputs[m] * values.size(1) + example.sources[n]]);
      gold.push_back(m == n);
    }
  }
  return ranking_measures(scores, gold);
}

}  // namespace exactmamba::eval
