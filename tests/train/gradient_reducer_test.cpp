// Which slices the gradient is summed in, when they start, and that all of it is summed.
#include "train/gradient_reducer.h"

#include <ATen/ops/equal.h>
#include <ATen/ops/zeros_like.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/support/random_model.h"
#include "tests/train/thread_communicator.h"
#include "tests/train/tiny_training.h"

namespace exactmamba::train {
namespace {

using models::Decay;

models::MambaLM model_of(int64_t layers, bool tied = true) {
  models::ModelConfig config = testing::tiny_config();
  config.n_layer = layers;
  config.tie_embeddings = tied;
  return testing::tiny_model(config);
}

/// Bytes of a block's parameters with weight decay.
int64_t block_bytes(const models::ParameterStore& store) {
  const auto begin = [&store](int64_t layer) {
    return store.offset(fmt::format("backbone.layers.{}.mixer.in_proj.weight", layer));
  };
  return (begin(1) - begin(0)) * static_cast<int64_t>(sizeof(float));
}

std::vector<int64_t> layers_of(const std::vector<GradientSlice>& slices) {
  std::vector<int64_t> layers;
  for (const GradientSlice& slice : slices) layers.push_back(slice.layer);
  return layers;
}

TEST(GradientSlices, AreWholeBlocksFromTheLastToTheFirstThenTheEmbedding) {
  const models::MambaLM model = model_of(5);
  const models::ParameterStore& store = model.parameters();
  const int64_t bytes = block_bytes(store);
  EXPECT_EQ(layers_of(gradient_slices(store, 1)), (std::vector<int64_t>{4, 3, 2, 1, 0, -1}));
  EXPECT_EQ(layers_of(gradient_slices(store, 2 * bytes)), (std::vector<int64_t>{3, 1, 0, -1}));
  EXPECT_EQ(layers_of(gradient_slices(store, 9 * bytes)), (std::vector<int64_t>{0, -1}));
  for (const GradientSlice& slice : gradient_slices(store, 2 * bytes)) {
    const std::string name = slice.layer < 0
                                 ? "backbone.embeddings.weight"
                                 : fmt::format("backbone.layers.{}.mixer.in_proj.weight", slice.layer);
    EXPECT_EQ(slice.begin, store.offset(name));
  }
}

TEST(GradientSlices, TakeAHeadOfItsOwnWithTheLastBlock) {
  const models::MambaLM model = model_of(3, false);
  const GradientSlice first = gradient_slices(model.parameters(), 1).front();
  EXPECT_EQ(first.layer, 2);
  EXPECT_LT(first.begin, model.parameters().offset("lm_head.weight"));
}

/// Notes the sizes of the sums that are started.
class Recorder final : public core::Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  std::unique_ptr<core::PendingSum> start_sum(const at::Tensor& tensor) override {
    sizes.push_back(tensor.numel());
    return std::make_unique<core::CompleteSum>();
  }
  void broadcast(const at::Tensor&, int) override {}
  void barrier() override {}
  std::vector<int64_t> sizes;
};

TEST(GradientReducer, StartsASliceWhenBackwardIsDoneWithItsBlocks) {
  models::MambaLM model = model_of(3);
  models::ParameterStore& store = model.parameters();
  const int64_t embedding = store.offset("backbone.layers.0.mixer.in_proj.weight");
  const int64_t blocks = store.flat(Decay::kYes).numel() - embedding;
  Recorder recorder;
  GradientReducer reducer(store, recorder);
  reducer.ready(2);
  reducer.ready(1);
  EXPECT_TRUE(recorder.sizes.empty());  // so small a model is one slice and its embedding
  reducer.ready(0);
  EXPECT_EQ(recorder.sizes, (std::vector<int64_t>{blocks}));
  reducer.ready(-1);
  EXPECT_EQ(recorder.sizes, (std::vector<int64_t>{blocks, embedding}));
  reducer.finish();
  EXPECT_EQ(recorder.sizes, (std::vector<int64_t>{blocks, embedding, store.flat(Decay::kNo).numel()}));
}

TEST(GradientReducer, SumsAllOfItAlsoForRanksWithoutABackwardPass) {
  constexpr int kRanks = 3;
  testing::ThreadGroup(kRanks).run([&](core::Communicator& communicator) {
    models::MambaLM model = model_of(2);
    models::ParameterStore& store = model.parameters();
    for (const Decay group : {Decay::kYes, Decay::kNo})
      store.flat_gradient(group).fill_(1 << (4 * communicator.rank()));
    GradientReducer reducer(store, communicator);
    for (int64_t layer = 1; communicator.rank() != 1 && layer >= -1; --layer) reducer.ready(layer);
    reducer.finish();
    const at::Tensor decay = store.flat_gradient(Decay::kYes), other = store.flat_gradient(Decay::kNo);
    EXPECT_EQ(decay.min().item<float>(), 0x111);
    EXPECT_EQ(decay.max().item<float>(), 0x111);
    EXPECT_EQ(other.min().item<float>(), 0x111);
    EXPECT_EQ(other.max().item<float>(), 0x111);
  });
}

data::Batch batch_of(uint64_t seed) {
  return testing::random_batch(3, 13, testing::kTinyVocabulary, {0, 13, 20, 26}, seed);
}

/// A slice that were summed before backward is done with it would lack what comes later.
TEST(GradientReducer, SumsEverySliceOfARealBackwardPassWhenItIsComplete) {
  constexpr int kRanks = 2;
  for (const bool tied : {true, false}) {
    models::MambaLM model = model_of(5, tied);
    at::Tensor expected = at::zeros_like(model.parameters().flat(Decay::kYes));
    for (uint64_t rank = 0; rank < kRanks; ++rank) {
      model.parameters().zero_gradients();
      model.forward_backward(batch_of(rank), 0.01);
      expected += model.parameters().flat_gradient(Decay::kYes);
    }
    testing::ThreadGroup(kRanks).run([&](core::Communicator& communicator) {
      models::MambaLM own = model_of(5, tied);
      own.parameters().zero_gradients();
      GradientReducer reducer(own.parameters(), communicator, 1);
      own.forward_backward(batch_of(static_cast<uint64_t>(communicator.rank())), 0.01,
                           [&reducer](int64_t layer) { reducer.ready(layer); });
      reducer.finish();
      EXPECT_TRUE(own.parameters().flat_gradient(Decay::kYes).equal(expected));
    });
  }
}

}  // namespace
}  // namespace exactmamba::train
