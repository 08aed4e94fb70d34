// Interaction maps on disk, rollout, layer ranges, names and options.
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/files.h"
#include "core/safetensors.h"
#include "core/schema.h"
#include "decomp/approximation_error.h"
#include "decomp/options.h"
#include "decomp/rollout.h"
#include "decomp/row_file.h"
#include "tests/support/files.h"
#include "tests/support/tensors.h"

namespace exactmamba::decomp {
namespace {

InteractionMap some_map(int64_t layer) {
  InteractionMap map;
  map.values = at::arange(9, at::kFloat).view({3, 3});
  map.method = "l2";
  map.approximation = "ratio";
  map.bias = "own";
  map.layer = layer;
  map.row = {.index = 4, .tokens = {4, 5, 6}, .cu_seqlens = {0, 2, 3}, .model_checksum = "abc"};
  return map;
}

/// Sums that no short decimal number stands for.
ApproximationError some_error() {
  return ApproximationError::from_sums({{"positions", 3},
                                        {"ratio_positions", 3},
                                        {"noskip_positions", 3},
                                        {"l2_ratios", 1.0 / 3},
                                        {"l1_ratios", 0.1 + 0.2},
                                        {"noskip_ratios", 1e-17},
                                        {"l2_differences", 2.0 / 7},
                                        {"l2_outputs", 1e5 / 3}});
}

DecomposedRow some_row() {
  InteractionMap whole = some_map(kWholeModel);
  whole.method = "alti_logit";
  whole.rest = at::arange(6, at::kDouble).view({3, 2});
  return {
      .origin = whole.row,
      .maps = {some_map(2), whole},
      .errors = {.approximations = {"ratio"}, .errors = {{some_error()}}, .bias = "own", .dtype = "float32"}};
}

class RowFileTest : public ::testing::Test {
 protected:
  void write(const DecomposedRow& row) const {
    const RowFile content = row_file(row);
    core::write_safetensors(file_, content.tensors, content.metadata);
  }
  std::string refusal() const {
    return testing::error_of<core::InputError>([this] { load_row(file_); });
  }

  testing::TemporaryFolder folder_;
  std::filesystem::path file_ = folder_ / "row.safetensors";
};

TEST_F(RowFileTest, SurvivesTheDisk) {
  const DecomposedRow row = some_row();
  write(row);
  const DecomposedRow read = load_row(file_);
  EXPECT_EQ(read.origin, row.origin);
  ASSERT_EQ(read.maps.size(), 2u);
  EXPECT_EQ(read.maps[0].name(), "row4.layer2.ratio.l2");
  EXPECT_EQ(read.maps[1].name(), "row4.ratio.alti_logit");
  EXPECT_TRUE(read.maps[0].values.equal(row.maps[0].values));
  EXPECT_TRUE(read.maps[1].rest.equal(row.maps[1].rest));
  EXPECT_FALSE(read.maps[1].embedding.defined());
  EXPECT_EQ(read.maps[1].layer, kWholeModel);
  EXPECT_EQ(read.maps[1].row, row.origin);
  EXPECT_EQ(read.errors.approximations, row.errors.approximations);
  EXPECT_EQ(read.errors.dtype, "float32");
  EXPECT_EQ(read.errors.errors[0][0].sums(), some_error().sums());  // to the bit
}

TEST_F(RowFileTest, NeedsNoMaps) {
  DecomposedRow row = some_row();
  row.maps.clear();
  write(row);
  EXPECT_EQ(load_row(file_).errors.errors[0][0].sums(), some_error().sums());
}

TEST_F(RowFileTest, RefusesTwoMapsOfOneName) {
  DecomposedRow row = some_row();
  row.maps[1] = row.maps[0];
  EXPECT_THROW(row_file(row), core::InputError);
}

TEST_F(RowFileTest, RefusesNewerFormatsByName) {
  RowFile content = row_file(some_row());
  content.metadata["format_version"] = "99";
  core::write_safetensors(file_, content.tensors, content.metadata);
  EXPECT_CONTAINS(refusal(), "row.safetensors: format_version 99");
}

TEST_F(RowFileTest, RefusesFilesThatAreNoRow) {
  core::write_safetensors(file_, {{"a", at::arange(3)}});
  EXPECT_CONTAINS(refusal(), "row.safetensors: not a decomposed row");
}

/// Wherever a bit flips or the file ends early, and however often (every seventh byte: both within seconds).
TEST_F(RowFileTest, NoticesEveryKindOfDamage) {
  write(some_row());
  const std::string whole = core::read_file(file_);
  for (size_t at = 0; at < whole.size(); at += 7) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 1);
    testing::put_file(file_, damaged);
    EXPECT_THROW(load_row(file_), core::Error) << "byte " << at;
    testing::put_file(file_, whole.substr(0, at));
    EXPECT_THROW(load_row(file_), core::Error) << "cut to " << at;
  }
  std::string damaged = whole;
  damaged.back() = static_cast<char>(damaged.back() ^ 1);
  testing::put_file(file_, damaged);
  EXPECT_CONTAINS(refusal(), "row.safetensors: damaged");
}

TEST(Rollout, KeepsRowSumsWithABiasColumn) {
  const at::Tensor first = at::tensor({0.7, 0.0, 0.3, 0.2, 0.5, 0.3}, at::kDouble).view({2, 3});
  const at::Tensor second = at::tensor({0.9, 0.0, 0.1, 0.4, 0.4, 0.2}, at::kDouble).view({2, 3});
  Rollout rollout(2, BiasRule::kSeparate, at::kDouble);
  EXPECT_TRUE(rollout.add(first).equal(first));
  // 0.9·0.7, 0, 0.9·0.3 + 0.1; 0.4·0.7 + 0.4·0.2, 0.4·0.5, 0.4·0.3 + 0.4·0.3 + 0.2
  const at::Tensor expected = at::tensor({0.63, 0.0, 0.37, 0.36, 0.2, 0.44}, at::kDouble).view({2, 3});
  EXPECT_LE(testing::absolute_difference(rollout.add(second), expected), 1e-15);
}

TEST(LayerRanges, AreBlocksOf16OrThirds) {
  using Ranges = std::vector<std::pair<int64_t, int64_t>>;
  EXPECT_EQ(layer_ranges(24), (Ranges{{0, 16}, {16, 24}}));
  EXPECT_EQ(layer_ranges(48), (Ranges{{0, 16}, {16, 32}, {32, 48}}));
  EXPECT_EQ(layer_ranges(16), (Ranges{{0, 5}, {5, 10}, {10, 16}}));
  EXPECT_EQ(layer_ranges(2), (Ranges{{0, 1}, {1, 2}}));
  EXPECT_EQ(layer_ranges(1), (Ranges{{0, 1}}));
}

TEST(ErrorNames, AreRefusedWithTheNamesThatExist) {
  EXPECT_EQ(error_measure_from_name("l1_mean", "test"), ErrorMeasure::kL1Mean);
  EXPECT_EQ(testing::error_of<core::InputError>([] { error_measure_from_name("l3", "recipe.toml"); }),
            "recipe.toml: unknown name 'l3'; use one of: l2_mean, l1_mean, l2_ratio_of_sums, l2_mean_noskip");
}

TEST(DecomposeOptions, ComeFromARecipe) {
  core::Schema schema;
  DecomposeOptions options;
  bind(schema, options);
  schema.load(
      "[decompose]\napproximations = [\"ratio\", \"taylor\"]\nbias = \"separate\"\ndtype = \"float64\"\n",
      "recipe.toml", {});
  EXPECT_EQ(options.approximations, (std::vector<std::string>{"ratio", "taylor"}));
  EXPECT_EQ(options.bias_rule(), BiasRule::kSeparate);
  EXPECT_EQ(options.scalar_type(), at::kDouble);
  EXPECT_THROW(schema.load("[decompose]\nmethods = [\"l3\"]\n", "recipe.toml", {}), core::InputError);
}

}  // namespace
}  // namespace exactmamba::decomp
