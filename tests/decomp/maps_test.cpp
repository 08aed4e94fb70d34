// Interaction maps on disk, rollout, layer ranges, names and options.
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/schema.h"
#include "decomp/approximation_error.h"
#include "decomp/interaction_map.h"
#include "decomp/options.h"
#include "decomp/rollout.h"
#include "tests/support/files.h"
#include "tests/support/tensors.h"

namespace exactmamba::decomp {
namespace {

InteractionMap some_map(int64_t row, int64_t layer) {
  InteractionMap map;
  map.values = at::arange(9, at::kFloat).view({3, 3});
  map.method = "l2";
  map.approximation = "ratio";
  map.bias = "own";
  map.row = row;
  map.layer = layer;
  map.tokens = {4, 5, 6};
  map.cu_seqlens = {0, 2, 3};
  map.model_checksum = "abc";
  return map;
}

TEST(InteractionMaps, SurviveTheDisk) {
  const testing::TemporaryFolder folder;
  InteractionMap whole = some_map(1, kWholeModel);
  whole.method = "alti_logit";
  whole.rest = at::arange(6, at::kDouble).view({3, 2});
  save_maps({some_map(0, 2), whole}, folder.path());

  const std::vector<InteractionMap> maps = load_maps(folder.path());
  ASSERT_EQ(maps.size(), 2u);
  EXPECT_EQ(maps[0].name(), "row0.layer2.ratio.l2");
  EXPECT_EQ(maps[1].name(), "row1.ratio.alti_logit");
  EXPECT_TRUE(maps[0].values.equal(whole.values));
  EXPECT_TRUE(maps[1].rest.equal(whole.rest));
  EXPECT_FALSE(maps[1].embedding.defined());
  EXPECT_EQ(maps[1].layer, kWholeModel);
  EXPECT_EQ(maps[1].tokens, whole.tokens);
  EXPECT_EQ(maps[1].cu_seqlens, whole.cu_seqlens);
  EXPECT_EQ(maps[0].model_checksum, "abc");
}

TEST(InteractionMaps, RefuseTwoOfOneName) {
  const testing::TemporaryFolder folder;
  EXPECT_THROW(save_maps({some_map(0, 1), some_map(0, 1)}, folder.path()), core::InputError);
}

TEST(InteractionMaps, RefuseNewerFormatsByName) {
  const testing::TemporaryFolder folder;
  save_maps({some_map(0, 1)}, folder.path());
  core::Json info = core::read_json(folder.path() / "maps.json");
  info["format_version"] = 99;
  core::write_json(folder.path() / "maps.json", info);
  const std::string message = testing::error_of<core::InputError>([&] { load_maps(folder.path()); });
  EXPECT_NE(message.find("format_version 99"), std::string::npos) << message;
  EXPECT_NE(message.find("maps.json"), std::string::npos) << message;
}

TEST(InteractionMaps, RefuseInfoWithoutMaps) {
  const testing::TemporaryFolder folder;
  save_maps({some_map(0, 1)}, folder.path());
  core::write_file(folder.path() / "maps.json", R"({"format_version": 1})");
  const std::string message = testing::error_of<core::InputError>([&] { load_maps(folder.path()); });
  EXPECT_NE(message.find("not a list of maps"), std::string::npos) << message;
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
