// Whole models against transformers (golden/models): logits, the residual stream, loss and the gradient of
// every parameter.
#include <ostream>

#include <ATen/ops/argmax.h>
#include <gtest/gtest.h>

#include "models/mamba_lm.h"
#include "tests/support/golden_model.h"

namespace exactmamba::models {
namespace {

using testing::golden_batch;
using testing::golden_model;
using testing::relative_difference;

struct GoldenModelCase {
  std::string model, file;
  ActivationKind activation;
};
std::ostream& operator<<(std::ostream& out, const GoldenModelCase& c) {
  return out << c.model << "/" << c.file;
}

/// As golden/models/README.md says; in float32 its tolerance of values is absolute.
struct Tolerance {
  double value, loss, gradient;
  bool absolute_values;
};
Tolerance tolerance(at::ScalarType dtype) {
  return dtype == at::kDouble ? Tolerance{1e-12, 1e-13, 1e-11, false} : Tolerance{3e-4, 1e-5, 1e-4, true};
}

class GoldenForward : public ::testing::TestWithParam<GoldenModelCase> {
 protected:
  core::SafetensorsFile expected_{
      testing::golden("models/" + GetParam().model + "/" + GetParam().file + ".safetensors")};
  data::Batch batch_ = golden_batch(expected_);

  MambaLM model(at::ScalarType dtype) const {
    return golden_model("models/" + GetParam().model, dtype, GetParam().activation);
  }

  void expect_value(const std::string& name, const at::Tensor& actual, at::ScalarType dtype) const {
    if (!expected_.contains(name)) return;
    const auto difference =
        tolerance(dtype).absolute_values ? testing::absolute_difference : relative_difference;
    EXPECT_LE(difference(actual, expected_.tensor(name)), tolerance(dtype).value) << name;
  }

  void expect_loss(const LossOutputs& loss, at::ScalarType dtype) const {
    const double expected = expected_.tensor("loss").item<double>();
    EXPECT_NEAR(loss.loss_sum.item<double>() / static_cast<double>(batch_.target_count), expected,
                tolerance(dtype).loss);
  }

  void check_forward(at::ScalarType dtype) const {
    const MambaLM lm = model(dtype);
    expect_value("norm_f", lm.hidden(batch_.input_ids, batch_.cu_seqlens), dtype);
    int64_t visited = 0;
    const at::Tensor logits =
        lm.logits(batch_.input_ids, batch_.cu_seqlens, [&](int64_t layer, const at::Tensor& r) {
          EXPECT_EQ(layer, visited++ - 1);
          expect_value("hidden." + std::to_string(layer + 1), r, dtype);
        });
    EXPECT_EQ(visited, lm.config().n_layer + 1);
    expect_value("logits", logits, dtype);
  }

  void check_loss(at::ScalarType dtype) const {
    const MambaLM lm = model(dtype);
    const LossOutputs loss = lm.loss(batch_);
    expect_loss(loss, dtype);
    const double sum = loss.loss_sum.item<double>();
    EXPECT_NEAR(loss.per_token_loss.to(at::kDouble).sum().item<double>(), sum, 1e-5 * sum);
    const at::Tensor best =
        lm.logits(batch_.input_ids, batch_.cu_seqlens).narrow(-1, 0, lm.config().vocab_size).argmax(-1);
    EXPECT_TRUE(loss.predictions.equal(best));
  }
};

TEST_P(GoldenForward, ForwardInDouble) { check_forward(at::kDouble); }
TEST_P(GoldenForward, ForwardInFloat) { check_forward(at::kFloat); }
TEST_P(GoldenForward, LossInDouble) { check_loss(at::kDouble); }
TEST_P(GoldenForward, LossInFloat) { check_loss(at::kFloat); }

INSTANTIATE_TEST_SUITE_P(
    Models, GoldenForward,
    ::testing::Values(GoldenModelCase{"mamba1-hf", "expected", ActivationKind::kSilu},
                      GoldenModelCase{"mamba1-hf", "expected-relu", ActivationKind::kRelu},
                      GoldenModelCase{"mamba1-hf", "expected-identity", ActivationKind::kIdentity},
                      GoldenModelCase{"mamba1-hf", "packed", ActivationKind::kSilu},
                      GoldenModelCase{"mamba1-hf", "packed-relu", ActivationKind::kRelu},
                      GoldenModelCase{"mamba1-hf", "packed-identity", ActivationKind::kIdentity},
                      GoldenModelCase{"mamba2-hf", "expected", ActivationKind::kSilu},
                      GoldenModelCase{"mamba2-hf", "expected-relu", ActivationKind::kRelu},
                      GoldenModelCase{"mamba2-hf", "expected-identity", ActivationKind::kIdentity},
                      GoldenModelCase{"mamba2-hf", "packed", ActivationKind::kSilu},
                      GoldenModelCase{"mamba2-hf", "packed-relu", ActivationKind::kRelu},
                      GoldenModelCase{"mamba2-hf", "packed-identity", ActivationKind::kIdentity},
                      GoldenModelCase{"mamba2-g2-hf", "expected", ActivationKind::kSilu},
                      GoldenModelCase{"mamba2-g2-hf", "packed", ActivationKind::kSilu}));

/// The gradients of block 0 that stand beside the outputs in some files.
class FirstBlockGradients : public GoldenForward {
 protected:
  void check(at::ScalarType dtype) const {
    MambaLM lm = model(dtype);
    const LossOutputs loss = lm.forward_backward(batch_, 1.0 / static_cast<double>(batch_.target_count));
    expect_loss(loss, dtype);
    int64_t stored = 0;
    for (const std::string& name : expected_.names()) {
      if (name.rfind("grad.", 0) != 0) continue;
      EXPECT_LE(relative_difference(lm.parameters().gradient(name.substr(5)), expected_.tensor(name)),
                tolerance(dtype).gradient)
          << name;
      ++stored;
    }
    EXPECT_GE(stored, 9);
  }
};

TEST_P(FirstBlockGradients, InDouble) { check(at::kDouble); }
TEST_P(FirstBlockGradients, InFloat) { check(at::kFloat); }

INSTANTIATE_TEST_SUITE_P(
    Models, FirstBlockGradients,
    ::testing::Values(GoldenModelCase{"mamba1-hf", "expected-relu", ActivationKind::kRelu},
                      GoldenModelCase{"mamba1-hf", "expected-identity", ActivationKind::kIdentity},
                      GoldenModelCase{"mamba1-hf", "packed", ActivationKind::kSilu},
                      GoldenModelCase{"mamba2-hf", "expected-relu", ActivationKind::kRelu},
                      GoldenModelCase{"mamba2-hf", "expected-identity", ActivationKind::kIdentity},
                      GoldenModelCase{"mamba2-hf", "packed", ActivationKind::kSilu},
                      GoldenModelCase{"mamba2-g2-hf", "packed", ActivationKind::kSilu}));

class GoldenGradients : public ::testing::TestWithParam<std::string> {
 protected:
  core::SafetensorsFile expected_{testing::golden("models/" + GetParam() + "/gradients.safetensors")};
  data::Batch batch_ =
      golden_batch(core::SafetensorsFile(testing::golden("models/" + GetParam() + "/expected.safetensors")));

  void check(at::ScalarType dtype) const {
    MambaLM model = golden_model("models/" + GetParam(), dtype);
    model.forward_backward(batch_, 1.0 / static_cast<double>(batch_.target_count));
    EXPECT_EQ(model.parameters().specs().size(), expected_.names().size());
    for (const std::string& name : expected_.names()) {
      EXPECT_LE(relative_difference(model.parameters().gradient(name), expected_.tensor(name)),
                tolerance(dtype).gradient)
          << name;
    }
  }
};

TEST_P(GoldenGradients, EveryParameterInDouble) { check(at::kDouble); }
TEST_P(GoldenGradients, EveryParameterInFloat) { check(at::kFloat); }

TEST_P(GoldenGradients, AddUpOverCalls) {
  MambaLM model = golden_model("models/" + GetParam(), at::kDouble);
  const double scale = 1.0 / static_cast<double>(batch_.target_count);
  model.forward_backward(batch_, 0.25 * scale);
  model.forward_backward(batch_, 0.75 * scale);
  for (const std::string& name : expected_.names()) {
    EXPECT_LE(relative_difference(model.parameters().gradient(name), expected_.tensor(name)), 1e-11) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenGradients,
                         ::testing::Values("mamba1-hf", "mamba2-hf", "mamba2-g2-hf"));

}  // namespace
}  // namespace exactmamba::models
