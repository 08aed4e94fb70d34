// Paired bootstrap resampling against sacreBLEU's and numpy's (golden/metrics).
#include "eval/bootstrap.h"

#include <map>
#include <memory>

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/safetensors.h"
#include "eval/bleu.h"
#include "eval/chrf.h"
#include "eval/ter.h"
#include "tests/eval/metric_cases.h"

namespace exactmamba::eval {
namespace {

using core::Json;

TEST(Bootstrap, DrawsAsNumpyDoes) {
  const core::SafetensorsFile golden(testing::golden("metrics/paired_bootstrap.safetensors"));
  const at::Tensor expected = golden.tensor("indices").contiguous();
  const std::vector<uint32_t> indices = resample_indices(static_cast<size_t>(expected.size(1)), {});
  ASSERT_EQ(static_cast<int64_t>(indices.size()), expected.numel());
  const uint8_t* bytes = expected.data_ptr<uint8_t>();
  for (size_t i = 0; i < indices.size(); ++i) ASSERT_EQ(indices[i], bytes[i]) << i;
  const Json tests = core::read_json(testing::golden("metrics/paired_bootstrap.json"))["tests"];
  const std::vector<uint32_t> many = resample_indices(3004, {.resamples = 1});
  for (size_t i = 0; i < tests[1]["first_indices"].size(); ++i)
    EXPECT_EQ(many[i], tests[1]["first_indices"][i].get<uint32_t>());
}

TEST(Bootstrap, DrawsWithOtherSeeds) {  // expected: numpy 2.4.6
  const auto first = [](size_t segments, uint32_t seed) {
    const auto indices = resample_indices(segments, {.resamples = 1, .seed = seed});
    return std::vector<uint32_t>(indices.begin(), indices.begin() + 5);
  };
  EXPECT_EQ(first(10, 0), (std::vector<uint32_t>{8, 6, 5, 2, 3}));
  EXPECT_EQ(first(1000003, 4294967295u), (std::vector<uint32_t>{190811, 251944, 724249, 219066, 909561}));
}

class PairedBootstrap : public ::testing::TestWithParam<const char*> {};

std::unique_ptr<CorpusMetric> metric_of(const std::string& name) {
  if (name == "BLEU") return std::make_unique<Bleu>();
  if (name == "TER") return std::make_unique<Ter>();
  return std::make_unique<Chrf>(ChrfOptions{.word_order = name == "chrF2++" ? size_t{2} : size_t{0}});
}

TEST_P(PairedBootstrap, Of200Segments) {
  const Json texts = testing::golden_json("metrics/wmt17_200.json");
  const Json golden =
      core::read_json(testing::golden("metrics/paired_bootstrap.json"))["tests"][0]["metrics"][GetParam()];
  const core::SafetensorsFile scores(testing::golden("metrics/paired_bootstrap.safetensors"));
  const References references = references_of(Json::array({texts["references"]}));
  const auto metric = metric_of(GetParam());
  EXPECT_EQ(signature_text(signature_of(*metric, references, resampling_signature({}))),
            golden["signature"].get<std::string>());
  const std::vector<uint32_t> indices = resample_indices(references.size(), {});
  std::vector<double> baseline;
  double baseline_score = 0;
  for (const Json& expected : golden["results"]) {
    const std::string system = expected["system"].get<std::string>();
    SCOPED_TRACE(system);
    const SegmentStatistics statistics(*metric, texts["hypotheses"][system].get<std::vector<std::string>>(),
                                       references);
    const std::vector<double> resamples = resample_scores(*metric, statistics, indices);
    const at::Tensor known = scores.tensor(std::string(GetParam()) + "." + system);
    ASSERT_EQ(static_cast<int64_t>(resamples.size()), known.numel());
    for (size_t k = 0; k < resamples.size(); ++k)
      ASSERT_NEAR(resamples[k], known.data_ptr<double>()[k], 1e-9) << k;
    const BootstrapResult result = bootstrap_result(metric->score(statistics.sums()), resamples);
    EXPECT_NEAR(result.score, expected["score"].get<double>(), 1e-9);
    EXPECT_NEAR(result.mean, expected["mean_fp64"].get<double>(), 1e-9);
    EXPECT_NEAR(result.half_width, expected["ci_fp64"].get<double>(), 1e-9);
    if (expected["p_value"].is_null()) {
      baseline = resamples;
      baseline_score = result.score;
    } else {
      EXPECT_EQ(paired_p_value(resamples, baseline, result.score - baseline_score),
                expected["p_value_fp64"].get<double>());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Metrics, PairedBootstrap, ::testing::Values("BLEU", "chrF2", "chrF2++", "TER"));

TEST(Bootstrap, RefusesToDrawFromNothing) {
  EXPECT_THROW(resample_indices(0, {}), core::InputError);
  EXPECT_THROW(resample_indices(3, {.resamples = 0}), core::InputError);
}

}  // namespace
}  // namespace exactmamba::eval
