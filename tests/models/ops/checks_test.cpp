// Bad shapes, dtypes and boundaries are refused with the tensor's name and both values.
#include <string>
#include <vector>

#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "models/ops/causal_conv1d/causal_conv1d.h"
#include "models/ops/linear_cross_entropy/linear_cross_entropy.h"
#include "models/ops/selective_scan/selective_scan.h"
#include "models/ops/sequences.h"
#include "models/ops/ssd/ssd.h"

namespace exactmamba::ops {
namespace {

template <class Call>
void expect_refused(Call call, const std::vector<std::string>& parts) {
  try {
    call();
    ADD_FAILURE() << "nothing was thrown";
  } catch (const core::InputError& error) {
    const std::string message = error.what();
    for (const auto& part : parts)
      EXPECT_NE(message.find(part), std::string::npos) << message << " lacks " << part;
  }
}

at::Tensor boundaries(std::vector<int32_t> values) { return at::tensor(values, at::kInt); }

TEST(Sequences, RowsWithoutBoundaries) {
  const auto sequences = sequences_of({}, 2, 5);
  ASSERT_EQ(sequences.size(), 2u);
  EXPECT_EQ(sequences[1].begin, 5);
  EXPECT_EQ(sequences[1].end, 10);
}

TEST(Sequences, BoundariesAreChecked) {
  EXPECT_EQ(sequences_of(boundaries({0, 3, 5, 10}), 2, 5).size(), 3u);
  expect_refused([] { sequences_of(boundaries({1, 5, 10}), 2, 5); }, {"cu_seqlens[0]", "1", "0"});
  expect_refused([] { sequences_of(boundaries({0, 5, 9}), 2, 5); }, {"cu_seqlens", "9", "10"});
  expect_refused([] { sequences_of(boundaries({0, 5, 5, 10}), 2, 5); }, {"cu_seqlens[2]", "5"});
  expect_refused([] { sequences_of(boundaries({0, 7, 10}), 2, 5); }, {"cu_seqlens", "crosses", "5"});
  expect_refused(
      [] {
        sequences_of(boundaries({0, 5, 10}).to(at::kLong), 2, 5);
      },
      {"cu_seqlens", "int64", "int32"});
}

TEST(Checks, ShapesNameTensorAndBothValues) {
  CausalConv1dInputs conv;
  conv.x = at::ones({2, 5, 3});
  conv.weight = at::ones({4, 4});
  expect_refused([&] { causal_conv1d_forward(conv); }, {"causal_conv1d", "weight", "(4, 4)", "(3, 4)"});
  conv.weight = at::ones({3, 4}, at::kDouble);
  expect_refused([&] { causal_conv1d_forward(conv); }, {"weight", "float64", "float32", "x"});
  conv.x = at::ones({2, 5, 3}, at::kHalf);
  expect_refused([&] { causal_conv1d_forward(conv); }, {"x", "float16", "float32 or float64"});
  conv.x = at::ones({2, 3, 5}).transpose(1, 2);
  conv.weight = at::ones({3, 4});
  expect_refused([&] { causal_conv1d_forward(conv); }, {"x", "contiguous"});
  conv.x = at::Tensor();
  expect_refused([&] { causal_conv1d_forward(conv); }, {"x", "missing"});
}

TEST(Checks, ScanAndSsdRefuseWrongGroupsAndStates) {
  SelectiveScanInputs scan;
  scan.u = scan.delta = at::ones({1, 4, 6});
  scan.A = at::ones({6, 2});
  scan.B = scan.C = at::ones({1, 4, 4, 2});
  expect_refused([&] { selective_scan_forward(scan); }, {"selective_scan", "6", "4"});
  scan.B = at::ones({1, 4, 2});
  scan.C = at::ones({1, 4, 3});
  expect_refused([&] { selective_scan_forward(scan); }, {"C", "(1, 4, 3)", "(1, 4, 2)"});

  SsdInputs ssd;
  ssd.x = at::ones({1, 4, 2, 3});
  ssd.dt = at::ones({1, 4, 2});
  ssd.A = at::ones({2});
  ssd.B = ssd.C = at::ones({1, 4, 1, 5});
  ssd.initial_state = at::zeros({1, 2, 5, 3});
  expect_refused([&] { ssd_forward(ssd); }, {"initial_state", "(1, 2, 5, 3)", "(1, 2, 3, 5)"});
  ssd.initial_state = at::Tensor();
  ssd.chunk_size = 0;
  expect_refused([&] { ssd_forward(ssd); }, {"chunk_size", "0"});
}

TEST(Checks, TargetsOutsideTheVocabulary) {
  LinearCrossEntropyInputs in{at::ones({2, 3}), at::ones({7, 3}), at::tensor({int64_t(1), int64_t(7)})};
  expect_refused([&] { linear_cross_entropy_forward(in); }, {"targets[1]", "7", "-100"});
  in.targets = at::tensor({int64_t(-100), int64_t(-1)});
  expect_refused([&] { linear_cross_entropy_forward(in); }, {"targets[1]", "-1"});
  in.targets[1] = 2;
  at::Tensor none;
  expect_refused([&] { linear_cross_entropy_forward_backward(in, 1.0, none, none, 1.0); },
                 {"label_smoothing is 1"});
}

}  // namespace
}  // namespace exactmamba::ops
