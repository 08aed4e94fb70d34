#include "models/parameter_store.h"

#include <set>

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/json.h"
#include "core/safetensors.h"
#include "tests/support/golden_model.h"

namespace exactmamba::models {
namespace {

ParameterStore small_store(at::ScalarType dtype = at::kFloat) {
  return ParameterStore({{"a", {3, 5}, Decay::kYes},
                         {"b", {7}, Decay::kNo},
                         {"c", {1, 1, 65}, Decay::kYes},
                         {"d", {}, Decay::kNo}},
                        dtype);
}

TEST(ParameterStore, EveryViewIsAligned) {
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
    ParameterStore store = small_store(dtype);
    for (const ParameterSpec& spec : store.specs()) {
      for (const at::Tensor& view : {store.parameter(spec.name), store.gradient(spec.name)}) {
        EXPECT_EQ(reinterpret_cast<uintptr_t>(view.data_ptr()) % 256, 0u) << spec.name;
        EXPECT_EQ(view.sizes().vec(), spec.shape) << spec.name;
        EXPECT_TRUE(view.is_contiguous()) << spec.name;
        EXPECT_EQ(view.scalar_type(), dtype);
      }
    }
  }
}

TEST(ParameterStore, ViewsShareTheFlatBuffersInModelOrder) {
  ParameterStore store = small_store();
  store.parameter("a").fill_(1);
  store.parameter("c").fill_(2);
  store.gradient("b").fill_(3);
  EXPECT_EQ(store.flat(Decay::kYes).sum().item<float>(), 3 * 5 * 1 + 65 * 2);
  EXPECT_EQ(store.flat(Decay::kNo).sum().item<float>(), 0);
  EXPECT_EQ(store.flat_gradient(Decay::kNo).sum().item<float>(), 7 * 3);
  EXPECT_EQ(store.flat(Decay::kYes)[0].item<float>(), 1);
  EXPECT_EQ(store.flat(Decay::kYes)[64].item<float>(), 2);  // 256 bytes behind "a"
  EXPECT_EQ(store.flat_gradient(Decay::kYes).sizes(), store.flat(Decay::kYes).sizes());
  EXPECT_EQ(store.parameter_count(), 15 + 7 + 65 + 1);
}

TEST(ParameterStore, ViewOfAnyBufferOfTheSameLayout) {
  const ParameterStore store = small_store();
  at::Tensor moments = store.flat(Decay::kYes).clone();
  store.view("c", moments).fill_(4);
  EXPECT_EQ(moments.sum().item<float>(), 65 * 4);
  EXPECT_EQ(store.flat(Decay::kYes).sum().item<float>(), 0);
}

TEST(ParameterStore, GradientsAppearOnFirstUseAndAreZeroedInPlace) {
  ParameterStore store = small_store();
  EXPECT_FALSE(store.has_gradients());
  store.zero_gradients();
  EXPECT_FALSE(store.has_gradients());
  const at::Tensor gradient = store.gradient("a");
  gradient.fill_(5);
  EXPECT_TRUE(store.has_gradients());
  store.zero_gradients();
  EXPECT_EQ(gradient.sum().item<float>(), 0);
}

TEST(ParameterStore, ChecksumSeesValuesNamesShapesAndDtype) {
  ParameterStore store = small_store();
  const std::string zero = store.checksum();
  EXPECT_EQ(zero.size(), 32u);
  EXPECT_EQ(zero, small_store().checksum());
  EXPECT_NE(zero, small_store(at::kDouble).checksum());
  EXPECT_NE(zero, ParameterStore({{"a", {5, 3}, Decay::kYes}}, at::kFloat).checksum());
  EXPECT_NE(ParameterStore({{"a", {5, 3}, Decay::kYes}}, at::kFloat).checksum(),
            ParameterStore({{"a", {3, 5}, Decay::kYes}}, at::kFloat).checksum());
  store.parameter("d").fill_(1e-30);
  const std::string changed = store.checksum();
  EXPECT_NE(zero, changed);
  store.gradient("a").fill_(1);
  EXPECT_EQ(changed, store.checksum());
}

TEST(ParameterStore, RefusesUnknownAndDoubleNamesAndOtherDtypes) {
  ParameterStore store = small_store();
  EXPECT_THROW(store.parameter("e"), core::InputError);
  EXPECT_THROW(store.gradient("e"), core::InputError);
  EXPECT_THROW(ParameterStore({{"a", {1}, Decay::kYes}, {"a", {1}, Decay::kNo}}, at::kFloat),
               core::InputError);
  EXPECT_THROW(small_store(at::kHalf), core::InputError);
}

TEST(ParameterScope, NamesAreRelativeAndMissingOnesUndefined) {
  ParameterStore store({{"layer.mixer.D", {2}, Decay::kNo}}, at::kFloat);
  const ParameterScope mixer = ParameterScope(store, "layer.").below("mixer.");
  mixer.value("D").fill_(3);
  mixer.gradient("D").fill_(4);
  EXPECT_EQ(store.parameter("layer.mixer.D").sum().item<float>(), 6);
  EXPECT_EQ(store.gradient("layer.mixer.D").sum().item<float>(), 8);
  EXPECT_FALSE(mixer.value("bias").defined());
  EXPECT_FALSE(mixer.gradient("bias").defined());
}

class SpecsOfGolden : public ::testing::TestWithParam<std::string> {};

TEST_P(SpecsOfGolden, AreThoseThatTransformersWrites) {
  const core::SafetensorsFile file(testing::golden("models/" + GetParam() + "/model.safetensors"));
  const ModelConfig config = load_config(testing::golden("models/" + GetParam()));
  const std::vector<ParameterSpec> specs = parameter_specs(config);
  EXPECT_EQ(specs.size(), file.names().size());
  int64_t count = 0;
  for (const ParameterSpec& spec : specs) {
    ASSERT_TRUE(file.contains(spec.name)) << spec.name;
    EXPECT_EQ(spec.shape, file.entry(spec.name).shape) << spec.name;
    count += file.tensor(spec.name).numel();
  }
  EXPECT_EQ(config.parameter_count(), count);
}
INSTANTIATE_TEST_SUITE_P(Models, SpecsOfGolden, ::testing::Values("mamba1-hf", "mamba2-hf", "mamba2-g2-hf"));

class DecayGroups : public ::testing::TestWithParam<std::string> {};

TEST_P(DecayGroups, AreThoseOfTheTrajectories) {
  const core::Json expected = core::read_json(testing::golden("training/" + GetParam() + "/trajectory.json"));
  std::set<std::string> decayed, others;
  for (const ParameterSpec& spec : parameter_specs(load_config(testing::golden("training/" + GetParam())))) {
    (spec.decay == Decay::kYes ? decayed : others).insert(spec.name);
  }
  EXPECT_EQ(decayed, expected["weight_decay"].get<std::set<std::string>>());
  EXPECT_EQ(others, expected["no_weight_decay"].get<std::set<std::string>>());
}
INSTANTIATE_TEST_SUITE_P(Models, DecayGroups, ::testing::Values("mamba1", "mamba2"));

}  // namespace
}  // namespace exactmamba::models
