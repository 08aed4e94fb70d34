// Traces against golden/decomposition, where a reference that loops over time, heads and sequences stored
// every coefficient.
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include "core/json.h"
#include "tests/support/golden_model.h"

namespace exactmamba::models {
namespace {

using testing::golden;
using testing::relative_difference;

class GoldenTrace : public ::testing::TestWithParam<std::string> {
 protected:
  std::string folder_ = "decomposition/" + GetParam();
  core::SafetensorsFile expected_{golden(folder_ + "/trace.safetensors")};
  core::Json rows_ = core::read_json(golden(folder_ + "/meta.json"))["rows"];

  at::Tensor ids(const std::string& row) const {
    return at::tensor(rows_[row]["input_ids"].get<std::vector<int64_t>>(), at::kLong);
  }
  at::Tensor boundaries(const std::string& row) const {
    return at::tensor(rows_[row]["cu_seqlens"].get<std::vector<int32_t>>(), at::kInt);
  }
  MambaLM model(at::ScalarType dtype) const { return load_model(golden(folder_), {dtype, {}}); }

  void expect_near(const std::string& name, const at::Tensor& actual, double bound) const {
    if (!expected_.contains(name)) return;
    const at::Tensor stored = expected_.tensor(name);
    ASSERT_TRUE(actual.defined()) << name;
    EXPECT_LE(relative_difference(actual.view(stored.sizes()), stored), bound) << name;
  }

  void check_layer(const std::string& prefix, const LayerTrace& trace, double bound) const {
    const std::vector<std::pair<std::string, at::Tensor>> fields = {
        {"r", trace.r},         {"y", trace.y}, {"x", trace.x}, {"a", trace.a},    {"z", trace.z},
        {"delta", trace.delta}, {"B", trace.B}, {"C", trace.C}, {"rho", trace.rho}};
    for (const auto& [name, actual] : fields) expect_near(prefix + name, actual, bound);
  }

  void check(const std::string& row, at::ScalarType dtype, double bound) const {
    const MambaLM lm = model(dtype);
    int64_t layers = 0;
    lm.trace(ids(row), boundaries(row), [&](const LayerTrace& trace) {
      EXPECT_EQ(trace.layer, layers);
      EXPECT_TRUE(trace.cu_seqlens.equal(boundaries(row)));
      check_layer(row + ".layer" + std::to_string(layers++) + ".", trace, bound);
    });
    EXPECT_EQ(layers, lm.config().n_layer);
    expect_near(row + ".logits", lm.logits(ids(row).unsqueeze(0), boundaries(row)), bound);
  }
};

TEST_P(GoldenTrace, SingleInDouble) { check("single", at::kDouble, 1e-12); }
TEST_P(GoldenTrace, PackedInDouble) { check("packed", at::kDouble, 1e-12); }
TEST_P(GoldenTrace, SingleInFloat) { check("single", at::kFloat, 4e-5); }
TEST_P(GoldenTrace, PackedInFloat) { check("packed", at::kFloat, 4e-5); }

TEST_P(GoldenTrace, TopPredictsTheStoredTokens) {
  const MambaLM lm = model(at::kDouble);
  for (const std::string row : {"single", "packed"}) {
    const TopTrace top = lm.top(ids(row), boundaries(row));
    EXPECT_TRUE(
        top.predicted.equal(at::tensor(rows_[row]["target_tokens"].get<std::vector<int64_t>>(), at::kLong)));
    EXPECT_TRUE(top.embedding.equal(
        lm.parameters().parameter("backbone.embeddings.weight").index_select(0, ids(row))));
    const at::Tensor hidden = top.r_top.mul(top.rho.unsqueeze(1)).mul(top.norm_weight);
    expect_near(row + ".logits", hidden.mm(top.head_weight.t()), 1e-12);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenTrace,
                         ::testing::Values("mamba1-silu", "mamba1-relu", "mamba1-identity", "mamba2-g1-silu",
                                           "mamba2-g1-relu", "mamba2-g1-identity", "mamba2-g2-silu",
                                           "mamba2-g2-relu", "mamba2-g2-identity"),
                         [](const auto& tested) {
                           std::string name = tested.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace exactmamba::models
