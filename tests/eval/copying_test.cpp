// The copy task's measures: attribution against scikit-learn's stored answers, accuracy against counting by
// hand from logits.
#include "eval/copying.h"

#include <ATen/ops/argmax.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include "core/json.h"
#include "models/generation.h"
#include "models/initialisation.h"
#include "tests/support/tensors.h"

namespace exactmamba::eval {
namespace {

using core::Json;

decomp::InteractionMap map_of(const Json& lines) {
  std::vector<double> values;
  for (const Json& line : lines) {
    for (const Json& value : line) values.push_back(value.get<double>());
  }
  const auto n = static_cast<int64_t>(lines.size());
  decomp::InteractionMap map;
  map.values = at::tensor(values, at::kDouble).view({n, n});
  return map;
}

TEST(CopyAttribution, GoldenCases) {
  const Json cases = core::read_json(testing::golden("decomposition/measures/copy.json"))["cases"];
  for (const Json& item : cases) {
    const auto text = item["text"].get<std::string>();
    SCOPED_TRACE(text);
    // rows and columns as the task itself lays them out for "$s|s."
    const std::string s = text.substr(1, text.find('|') - 1);
    data::CopyExample example{.begin = 0, .text = s, .sources = {}, .outputs = {}};
    for (size_t m = 0; m < s.size(); ++m) {
      example.sources.push_back(static_cast<int64_t>(1 + m));
      example.outputs.push_back(static_cast<int64_t>(s.size() + 1 + m));
    }
    EXPECT_EQ(Json(example.outputs), item["rows"]);
    EXPECT_EQ(Json(example.sources), item["columns"]);
    const RankingMeasures measures = copy_attribution(map_of(item["map"]), example);
    ASSERT_EQ(measures.auc.has_value(), !item["auc"].is_null());
    if (measures.auc) {
      EXPECT_NEAR(*measures.auc, item["auc"].get<double>(), 1e-12);
    }
    EXPECT_NEAR(measures.ap.value(), item["ap"].get<double>(), 1e-12);
    EXPECT_NEAR(measures.recall_at_k.value(), item["r_at_k"].get<double>(), 1e-12);
  }
}

class CopyAccuracyTest : public ::testing::Test {
 protected:
  CopyAccuracyTest()
      : task_({.alphabet = 4, .min_length = 2, .max_length = 5, .context = 16, .held_out = 11}, 5,
              data::CopyPart::kHeldOut, data::RowLayout::kOneExample),
        model_(config(), at::kDouble) {
    models::initialise(model_, 3);
  }

  static models::ModelConfig config() {
    models::ModelConfig config;
    config.architecture = models::Architecture::kMamba1;
    config.vocab_size = 8;
    config.vocab_rows = 8;
    config.d_model = 16;
    config.n_layer = 1;
    config.d_state = 4;
    config.dt_rank = 1;
    return config;
  }

  /// Greedy choice among the true vocabulary after `ids`, from the whole sequence's logits.
  int64_t next(const std::vector<int64_t>& ids) const {
    const at::Tensor logits = model_.logits(at::tensor(ids, at::kLong).unsqueeze(0), {});
    return logits[0][-1].narrow(0, 0, 8).argmax().item<int64_t>();
  }

  data::CopyTask task_;
  models::MambaLM model_;
};

TEST_F(CopyAccuracyTest, TeacherForcedEqualsCountingByHand) {
  int64_t right = 0, characters = 0, strings = 0;
  for (const std::string& s : task_.held_out()) {
    std::vector<int64_t> ids = task_.tokenizer().encode("$" + s + "|");
    bool all = true;
    for (int64_t gold : task_.tokenizer().encode(s + ".")) {
      const bool hit = next(ids) == gold;
      all &= hit;
      if (gold != data::CopyTokenizer::kEnd) {
        ++characters;
        right += hit;
      }
      ids.push_back(gold);
    }
    strings += all;
  }
  const CopyAccuracy accuracy = teacher_forced_accuracy(model_, task_, 4);
  EXPECT_EQ(accuracy.characters, characters);
  EXPECT_EQ(accuracy.characters_right, right);
  EXPECT_GT(right, 0);
  EXPECT_EQ(accuracy.strings, 11);
  EXPECT_EQ(accuracy.strings_right, strings);
}

TEST_F(CopyAccuracyTest, FreeRunningEqualsCountingByHand) {
  int64_t right = 0;
  for (const std::string& s : task_.held_out()) {
    std::vector<int64_t> ids = task_.tokenizer().encode("$" + s + "|");
    for (int64_t gold : task_.tokenizer().encode(s)) {
      ids.push_back(next(ids));
      if (ids.back() == data::CopyTokenizer::kEnd) break;  // nothing follows the end sign
      right += ids.back() == gold;
    }
  }
  const CopyAccuracy accuracy = free_running_accuracy(model_, task_, 4);
  EXPECT_EQ(accuracy.characters_right, right);
  EXPECT_EQ(accuracy.strings, 11);
}

TEST_F(CopyAccuracyTest, MaxRowsLimitsTheExamples) {
  EXPECT_EQ(teacher_forced_accuracy(model_, task_, 4, 3).strings, 3);
  EXPECT_EQ(free_running_accuracy(model_, task_, 4, 3).strings, 3);
}

}  // namespace
}  // namespace exactmamba::eval
