// COMET on the GPU against unbabel-comet's scores (tests/golden/comet), in every dtype.
#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "core/json.h"
#include "eval/comet/comet_model.h"
#include "tests/support/tensors.h"

namespace exactmamba::gpu_tests {
namespace {

TEST(GpuComet, ScoresAreEqual) {
  for (const char* name : {"softmax", "sparsemax"}) {
    const std::filesystem::path folder = testing::golden(std::string("comet/") + name);
    const core::Json document = core::read_json(folder / "expected.json");
    std::vector<eval::CometSegment> segments;
    for (const core::Json& row : document["cases"]) segments.push_back({row["src"], row["mt"], row["ref"]});
    // bfloat16 has 8 bits of fraction, and scores spread over seven tenths.
    for (const auto& [dtype, tolerance] :
         {std::pair{at::kDouble, 1e-12}, std::pair{at::kFloat, 2e-6}, std::pair{at::kBFloat16, 0.05}}) {
      const eval::CometModel comet(folder, at::Device(at::kCUDA, 0), dtype);
      const std::vector<double> scores = comet.scores(segments);
      double difference = 0;
      for (size_t i = 0; i < scores.size(); ++i)
        difference =
            std::max(difference, std::abs(scores[i] - document["cases"][i]["score_fp64"].get<double>()));
      EXPECT_LE(difference, tolerance) << name << " " << dtype;
      EXPECT_EQ(scores, comet.scores(segments)) << name << " " << dtype;
    }
  }
}

}  // namespace
}  // namespace exactmamba::gpu_tests
