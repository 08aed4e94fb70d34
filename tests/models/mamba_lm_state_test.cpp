// Generation's two ways in: prefill and step must leave transformers' states and give the logits of the full
// forward pass.
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/support/golden_model.h"

namespace exactmamba::models {
namespace {

using testing::golden_model;
using testing::relative_difference;

class GoldenState : public ::testing::TestWithParam<std::string> {
 protected:
  core::SafetensorsFile expected_{testing::golden("models/" + GetParam() + "/expected.safetensors")};
  at::Tensor ids_ = expected_.tensor("input_ids").clone();
  MambaLM model_ = golden_model("models/" + GetParam(), at::kDouble);

  void expect_golden_state(const State& state) const {
    for (size_t layer = 0; layer < state.conv.size(); ++layer) {
      const std::string prefix = "state." + std::to_string(layer);
      EXPECT_LE(relative_difference(state.conv[layer], expected_.tensor(prefix + ".conv")), 1e-12) << layer;
      EXPECT_LE(relative_difference(state.ssm[layer], expected_.tensor(prefix + ".ssm")), 1e-12) << layer;
    }
  }
  at::Tensor expected_logits(int64_t position) const {
    return expected_.tensor("logits").select(1, position);
  }
};

TEST_P(GoldenState, PrefillOfWholePrompts) {
  State state = model_.initial_state(ids_.size(0));
  const at::Tensor logits = model_.prefill(ids_, state);
  EXPECT_LE(relative_difference(logits, expected_logits(ids_.size(1) - 1)), 1e-12);
  expect_golden_state(state);
}

TEST_P(GoldenState, StepFromTheFirstToken) {
  State state = model_.initial_state(ids_.size(0));
  for (int64_t t = 0; t < ids_.size(1); ++t) {
    EXPECT_LE(relative_difference(model_.step(ids_.select(1, t), state), expected_logits(t)), 1e-12) << t;
  }
  expect_golden_state(state);
}

TEST_P(GoldenState, PrefillInPiecesThenStep) {
  State state = model_.initial_state(ids_.size(0));
  const int64_t length = ids_.size(1);
  model_.prefill(ids_.narrow(1, 0, 2).contiguous(), state);  // shorter than the convolution
  const at::Tensor logits = model_.prefill(ids_.narrow(1, 2, length - 4).contiguous(), state);
  EXPECT_LE(relative_difference(logits, expected_logits(length - 3)), 1e-12);
  for (int64_t t = length - 2; t < length; ++t) {
    EXPECT_LE(relative_difference(model_.step(ids_.select(1, t), state), expected_logits(t)), 1e-12) << t;
  }
  expect_golden_state(state);
}

TEST_P(GoldenState, PackedPromptsOfUnequalLength) {
  const core::SafetensorsFile packed(testing::golden("models/" + GetParam() + "/packed.safetensors"));
  const at::Tensor boundaries = packed.tensor("cu_seqlens").clone(), ids = packed.tensor("input_ids").clone();
  const int64_t sequences = boundaries.numel() - 1;
  State state = model_.initial_state(sequences);
  const at::Tensor logits = model_.prefill(ids, state, boundaries);
  for (int64_t s = 0; s < sequences; ++s) {
    const int64_t begin = boundaries[s].item<int64_t>(), end = boundaries[s + 1].item<int64_t>();
    EXPECT_LE(relative_difference(logits[s], packed.tensor("logits")[0][end - 1]), 1e-12) << s;
    State alone = model_.initial_state(1);
    for (int64_t t = begin; t < end; ++t) model_.step(ids.select(1, t), alone);
    EXPECT_LE(relative_difference(state.conv[2][s], alone.conv[2][0]), 1e-12) << s;
    EXPECT_LE(relative_difference(state.ssm[2][s], alone.ssm[2][0]), 1e-12) << s;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenState, ::testing::Values("mamba1-hf", "mamba2-hf", "mamba2-g2-hf"));

TEST(MambaLM, RefusesTokensOutsideTheVocabulary) {
  const MambaLM model = golden_model("models/mamba1-hf", at::kFloat);
  EXPECT_THROW(model.logits(at::full({1, 3}, 104, at::kLong), {}), core::InputError);
  EXPECT_THROW(model.logits(at::full({1, 3}, -1, at::kLong), {}), core::InputError);
  EXPECT_NO_THROW(model.logits(at::full({1, 3}, 103, at::kLong), {}));
}

TEST(MambaLM, OtherDtypeHoldsTheSameNumbers) {
  const MambaLM model = golden_model("models/mamba2-hf", at::kFloat);
  const MambaLM wide = model.to(at::kDouble);
  EXPECT_EQ(wide.parameters().dtype(), at::kDouble);
  EXPECT_EQ(wide.to(at::kFloat).parameters().checksum(), model.parameters().checksum());
}

TEST(MambaLM, TrueVocabularyMustFitTheEmbedding) {
  MambaLM model = golden_model("models/mamba2-hf", at::kFloat);
  model.set_vocab_size(101);
  EXPECT_EQ(model.config().vocab_size, 101);
  EXPECT_THROW(model.set_vocab_size(113), core::InputError);
}

}  // namespace
}  // namespace exactmamba::models
