// Traces that do not fit are refused before anything reads them.
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ops/cat.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "decomp/approximation_error.h"
#include "decomp/tile_producer.h"
#include "tests/decomp/traces.h"
#include "tests/support/files.h"

namespace exactmamba::decomp {
namespace {

using models::Architecture;
using models::LayerTrace;
using testing::LayerSpec;

struct Field {
  const char* name;
  at::Tensor LayerTrace::*tensor;
  bool nullable = false, mamba2_only = false;
};
constexpr Field kFields[] = {{"r", &LayerTrace::r},
                             {"y", &LayerTrace::y},
                             {"x", &LayerTrace::x},
                             {"a", &LayerTrace::a},
                             {"z", &LayerTrace::z},
                             {"delta", &LayerTrace::delta},
                             {"B", &LayerTrace::B},
                             {"C", &LayerTrace::C},
                             {"rho", &LayerTrace::rho, false, true},
                             {"conv_weight", &LayerTrace::conv_weight},
                             {"conv_bias", &LayerTrace::conv_bias, true},
                             {"A", &LayerTrace::A},
                             {"D", &LayerTrace::D},
                             {"norm_weight", &LayerTrace::norm_weight, false, true},
                             {"out_weight", &LayerTrace::out_weight},
                             {"out_bias", &LayerTrace::out_bias, true}};

/// Everything defined; no two sizes of a layer equal, so that no wrong shape fits by chance.
LayerTrace whole_trace(Architecture architecture) {
  LayerSpec spec;
  spec.architecture = architecture;
  spec.bounds = {0, 3, 7};
  spec.W = 3;
  spec.out_bias = true;
  return testing::random_trace(spec);
}

class CheckTrace : public ::testing::TestWithParam<Architecture> {
 protected:
  /// `damage` of each field in turn is refused, wherever a trace enters.
  void expect_refused(const std::function<at::Tensor(const at::Tensor&)>& damage) const {
    for (const Field& field : kFields) {
      if (field.mamba2_only && GetParam() == Architecture::kMamba1) continue;
      SCOPED_TRACE(field.name);
      LayerTrace trace = whole_trace(GetParam());
      at::Tensor& tensor = trace.*field.tensor;
      tensor = damage(tensor);
      if (!tensor.defined() && field.nullable) continue;
      EXPECT_THROW(check_trace(trace), core::InputError);
      EXPECT_THROW(produce_tiles(trace, Approximation::kActivation, BiasRule::kOwn, {}), core::InputError);
      EXPECT_THROW(contribution_sum(trace, Approximation::kActivation, BiasRule::kOwn), core::InputError);
    }
  }
};

TEST_P(CheckTrace, AcceptsWhatFits) {
  LayerTrace trace = whole_trace(GetParam());
  EXPECT_NO_THROW(check_trace(trace));
  EXPECT_NO_THROW(check_trace(testing::to_dtype(trace, at::kFloat)));
  trace.conv_bias = trace.out_bias = at::Tensor();
  EXPECT_NO_THROW(check_trace(trace));
}

TEST_P(CheckTrace, RefusesAMissingTensor) {
  expect_refused([](const at::Tensor&) { return at::Tensor(); });
}

TEST_P(CheckTrace, RefusesAWrongDtype) {
  for (const at::ScalarType dtype : {at::kFloat, at::kLong, at::kHalf})
    expect_refused([dtype](const at::Tensor& tensor) { return tensor.to(dtype); });
}

TEST_P(CheckTrace, RefusesAFirstDimensionThatIsOneShort) {
  expect_refused([](const at::Tensor& tensor) { return tensor.slice(0, 1).contiguous(); });
}

TEST_P(CheckTrace, RefusesAFirstDimensionThatIsOneLong) {
  expect_refused([](const at::Tensor& tensor) { return at::cat({tensor, tensor.slice(0, 0, 1)}); });
}

/// conv_weight's second dimension, the taps, may have any size but none.
TEST_P(CheckTrace, RefusesAnEmptyLastDimension) {
  expect_refused([](const at::Tensor& tensor) { return tensor.slice(-1, 0, 0).contiguous(); });
}

TEST_P(CheckTrace, RefusesAWrongNumberOfDimensions) {
  expect_refused([](const at::Tensor& tensor) { return tensor.unsqueeze(0); });
  expect_refused([](const at::Tensor& tensor) { return tensor.unsqueeze(-1); });
  expect_refused([](const at::Tensor& tensor) { return tensor.flatten()[0]; });
}

TEST_P(CheckTrace, RefusesStrides) {
  expect_refused([](const at::Tensor& tensor) {
    return at::cat({tensor, tensor}, -1).slice(-1, 0, tensor.size(-1) * 2, 2);
  });
}

TEST_P(CheckTrace, RefusesWrongBoundaries) {
  for (const std::vector<int>& bounds : {std::vector<int>{0, 8}, {0, 6}, {1, 7}, {0, 3, 3, 7}, {7}}) {
    LayerTrace trace = whole_trace(GetParam());
    trace.cu_seqlens = at::tensor(bounds, at::kInt);
    EXPECT_THROW(check_trace(trace), core::InputError);
  }
}

INSTANTIATE_TEST_SUITE_P(, CheckTrace, ::testing::Values(Architecture::kMamba1, Architecture::kMamba2),
                         [](const auto& tested) {
                           return std::string(models::architecture_name(tested.param));
                         });

TEST(CheckTraceOfMamba2, RefusesHeadsThatDoNotDivideTheChannels) {
  LayerTrace trace = whole_trace(Architecture::kMamba2);
  trace.A = at::cat({trace.A, trace.A.slice(0, 0, 1)});
  trace.D = at::cat({trace.D, trace.D.slice(0, 0, 1)});
  trace.delta = at::cat({trace.delta, trace.delta.slice(1, 0, 1)}, 1);
  EXPECT_EQ(testing::error_of<core::InputError>([&] { check_trace(trace); }),
            "trace of layer 0: 12 channels do not divide into 5 heads");
}

TEST(CheckTraceOfMamba2, RefusesGroupsThatDoNotDivideTheHeads) {
  LayerTrace trace = whole_trace(Architecture::kMamba2);
  for (at::Tensor* tensor : {&trace.B, &trace.C, &trace.rho})
    *tensor = at::cat({*tensor, tensor->slice(1, 0, 1)}, 1);
  EXPECT_EQ(testing::error_of<core::InputError>([&] { check_trace(trace); }),
            "trace of layer 0: 4 heads do not divide into 3 groups");
}

}  // namespace
}  // namespace exactmamba::decomp
