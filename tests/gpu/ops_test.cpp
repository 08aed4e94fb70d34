// Every operator on the GPU against double on the CPU, from the same values: odd sizes, all dtypes, packed
// rows, states; and equal bits from two runs.
#include <functional>
#include <limits>

#include <ATen/Context.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/all.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/eq.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ge.h>
#include <ATen/ops/isnan.h>
#include <ATen/ops/le.h>
#include <ATen/ops/log.h>
#include <ATen/ops/logical_and.h>
#include <ATen/ops/max.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/neg.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/softplus.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros_like.h>
#include <fmt/format.h>

#include "core/dtype.h"
#include "core/error.h"
#include "models/ops/causal_conv1d/causal_conv1d.h"
#include "models/ops/causal_conv1d/causal_conv1d_cuda.h"
#include "models/ops/cuda/launch.h"
#include "models/ops/dropout/dropout.h"
#include "models/ops/embedding_gradient/embedding_gradient.h"
#include "models/ops/gated_rms_norm/gated_rms_norm.h"
#include "models/ops/linear_cross_entropy/linear_cross_entropy.h"
#include "models/ops/products.h"
#include "models/ops/rms_norm/rms_norm.h"
#include "models/ops/selective_scan/selective_scan.h"
#include "models/ops/ssd/ssd.h"
#include "tests/gpu/place.h"

namespace exactmamba::gpu_tests {
namespace {

using namespace ops;
using Computation = std::function<Results(const Place&)>;

/// Of sums, made of the reference's results.
using TermsOf = std::function<Terms(const Results&)>;
Terms no_terms(const Results&) { return {}; }

/// Runs once in double, twice on the GPU.
void check(const Computation& compute, at::ScalarType dtype, double bound, const std::string& what,
           const TermsOf& terms_of = no_terms) {
  SCOPED_TRACE(what);
  const Results expected = compute(reference()), found = compute(gpu(dtype));
  expect_close(expected, found, bound, what, terms_of(expected));
  expect_identical(found, compute(gpu(dtype)), what);
}

std::string text(const char* op, at::ScalarType dtype, const std::string& sizes) {
  return fmt::format("{} {} {}", op, core::dtype_name(dtype), sizes);
}

/// A slice of a wider tensor, as the operators meet them behind a projection. `padding`: elements before it.
at::Tensor sliced(const at::Tensor& x, int64_t padding) {
  const at::Tensor wide = at::zeros({x.size(0), x.size(1), x.size(2) + padding}, x.options());
  at::Tensor slice = wide.narrow(2, padding, x.size(2));
  slice.copy_(x);
  return slice;
}

// ---- causal_conv1d ----

struct ConvCase {
  int64_t batch, length, channels, width;
  models::ConvActivation activation;
  bool packed, states;
  int64_t padding;
};

void check_convolution(const ConvCase& c, at::ScalarType dtype) {
  const at::Tensor cu_seqlens = c.packed ? packed_rows(c.batch, c.length) : at::Tensor();
  const int64_t sequences = cu_seqlens.defined() ? cu_seqlens.size(0) - 1 : c.batch;
  const at::Tensor x = random_exact({c.batch, c.length, c.channels}, dtype),
                   grad_out = random_exact({c.batch, c.length, c.channels}, dtype),
                   weight = random_exact({c.channels, c.width}, at::kFloat, 0.5),
                   bias = random_exact({c.channels}, at::kFloat),
                   initial = random_exact({sequences, c.channels, c.width - 1}, at::kFloat);
  check(
      [&](const Place& p) {
        CausalConv1dInputs in;
        in.x = sliced(p.activation(x), c.padding);
        in.weight = p.parameter(weight);
        in.bias = p.parameter(bias);
        in.activation = c.activation;
        in.cu_seqlens = cu_seqlens;
        if (c.states) in.initial_states = p.parameter(initial);
        at::Tensor final_states;
        Results results;
        results["out"] = causal_conv1d_forward(in, c.states ? &final_states : nullptr);
        if (c.states) {
          results["final_states"] = final_states;
          return results;
        }
        CausalConv1dGradients grad{at::empty_like(in.x), at::zeros_like(in.weight), at::zeros_like(in.bias)};
        causal_conv1d_backward(in, p.activation(grad_out), grad);
        results["grad_x"] = grad.x;
        results["grad_weight"] = grad.weight;
        results["grad_bias"] = grad.bias;
        return results;
      },
      dtype, bound(dtype, 1, 32 + static_cast<double>(c.length)),
      text("causal_conv1d", dtype,
           fmt::format("B {} L {} D {} W {} packed {} states {} padding {}", c.batch, c.length, c.channels,
                       c.width, c.packed, c.states, c.padding)));
}

TEST(GpuOps, CausalConv1d) {
  using models::ActivationKind;
  const models::ConvActivation activations[] = {{ActivationKind::kSilu, 1.0},
                                                {ActivationKind::kRelu, 1.0},
                                                {ActivationKind::kIdentity, 1.0},
                                                {ActivationKind::kIdentity, 0.375}};
  for (const at::ScalarType dtype : kDtypes) {
    for (const int64_t length : kLengths) {
      check_convolution({2, length, 64, 4, activations[0], false, false, 0}, dtype);
      check_convolution({2, length, 24, 4, activations[0], true, false, 8}, dtype);
      check_convolution({3, length, 7, 4, activations[0], true, true, 3}, dtype);
    }
    for (const auto& activation : activations)
      check_convolution({2, 151, 40, 4, activation, true, false, 0}, dtype);
    for (const int64_t width : {1, 2, 3, 8})
      check_convolution({2, 129, 16, width, activations[0], true, false, 0}, dtype);
    // Rows that end where a warp's chunk does, with others behind them.
    for (const int64_t width : {4, 6})
      check_convolution({4, 192, 512, width, activations[0], false, false, 0}, dtype);
  }
}

/// Tests of their own, so that GTEST_TOTAL_SHARDS shares them out: a sanitizer takes long.
using CaseIndex = std::tuple<at::ScalarType, size_t>;
std::string case_name(const ::testing::TestParamInfo<CaseIndex>& info) {
  return fmt::format("{}_{}", c10::toString(std::get<0>(info.param)), std::get<1>(info.param));
}

struct ProjectionCase {
  int64_t batch, length, channels, columns;
  bool packed;
  int64_t padding;
  models::ConvActivation activation = {};
  int64_t width = 4;
  bool plain = false;  // neither bias nor gradients of the convolution's parameters
};

void check_projection(const ProjectionCase& c, at::ScalarType dtype) {
  const at::Tensor x = random_exact({c.batch, c.length, c.channels}, dtype),
                   grad_out = random_exact({c.batch, c.length, c.channels}, dtype),
                   grad_projected = random_exact({c.batch, c.length, c.columns}, dtype),
                   projection = random_exact({c.columns, c.channels}, dtype, 0.1),
                   weight = random_exact({c.channels, c.width}, at::kFloat, 0.5),
                   bias = c.plain ? at::Tensor() : random_exact({c.channels}, at::kFloat);
  check(
      [&](const Place& p) {
        CausalConv1dInputs in{sliced(p.activation(x), c.padding),
                              p.parameter(weight),
                              p.parameter(bias),
                              c.activation,
                              c.packed ? packed_rows(c.batch, c.length) : at::Tensor(),
                              {}};
        CausalConv1dGradients grad{sliced(p.activation(x), c.padding), {}, {}};
        if (!c.plain) grad.weight = at::zeros_like(in.weight), grad.bias = at::zeros_like(in.bias);
        at::Tensor projected;
        const at::Tensor out = causal_conv1d_forward_projected(in, p.activation(projection), projected);
        const CausalConv1dProjection through{p.activation(grad_projected), p.activation(projection), out,
                                             at::zeros_like(p.parameter(projection))};
        // Backward may make it again without the projection.
        EXPECT_TRUE(out.equal(causal_conv1d_forward(in)));
        causal_conv1d_backward(in, p.activation(grad_out).clone(), grad, &through);
        Results results = {{"out", out},
                           {"projected", projected},
                           {"grad_x", grad.x},
                           {"grad_projection", through.grad_weight}};
        if (!c.plain) results["grad_weight"] = grad.weight, results["grad_bias"] = grad.bias;
        return results;
      },
      dtype, bound(dtype, 2, static_cast<double>(32 + c.length + c.columns)),
      text("causal_conv1d with a projection", dtype,
           fmt::format("B {} L {} D {} P {} W {} packed {} padding {} plain {}", c.batch, c.length,
                       c.channels, c.columns, c.width, c.packed, c.padding, c.plain)));
}

std::vector<ProjectionCase> projection_cases() {
  using models::ActivationKind;
  std::vector<ProjectionCase> cases;
  for (const int64_t length : {1, 2, 7, 31, 33, 129, 151, 372, 2049}) {
    cases.push_back({2, length, 128, 96, false, 0});
    cases.push_back({3, length, 192, 40, true, 64});
  }
  for (const models::ConvActivation activation : {models::ConvActivation{ActivationKind::kRelu, 1.0},
                                                  {ActivationKind::kIdentity, 1.0},
                                                  {ActivationKind::kIdentity, 0.4},
                                                  {ActivationKind::kRelu, 0.4}})
    cases.push_back({2, 151, 64, 80, true, 0, activation});
  for (const int64_t length : {32, 64})
    cases.push_back({2, length, 64, 96, length == 32, 0});  // whole blocks
  // Slabs of a few tokens, rows that end anywhere in them.
  cases.push_back({40, 367, 64, 96, false, 8});
  cases.push_back({40, 367, 64, 8, true, 0});
  for (const int64_t width : {1, 2, 3, 8}) cases.push_back({2, 129, 64, 96, true, 0, {}, width});
  cases.push_back({2, 151, 128, 96, false, 0, {}, 4, true});
  // Without a kernel of their own.
  cases.push_back({2, 129, 40, 12, true, 0});
  cases.push_back({3, 33, 64, 128, false, 3});
  return cases;
}

class GpuConvWithAProjection : public ::testing::TestWithParam<CaseIndex> {};
TEST_P(GpuConvWithAProjection, IsThatOfDouble) {
  check_projection(projection_cases().at(std::get<1>(GetParam())), std::get<0>(GetParam()));
}
INSTANTIATE_TEST_SUITE_P(Cases, GpuConvWithAProjection,
                         ::testing::Combine(::testing::ValuesIn(kDtypes),
                                            ::testing::Range<size_t>(0, projection_cases().size())),
                         case_name);

TEST(GpuOps, AProjectionIsTakenAlong) {
  int major = 0;
  ASSERT_EQ(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0), cudaSuccess);
  const auto taken = [](int64_t channels, int64_t columns, at::ScalarType dtype, bool states) {
    const at::TensorOptions options = at::TensorOptions(at::kCUDA).dtype(dtype),
                            wide = options.dtype(at::kFloat);
    CausalConv1dInputs in{
        at::ones({2, 33, channels}, options), at::ones({channels, 4}, wide), {}, {}, {}, {}};
    if (states) in.initial_states = at::ones({2, channels, 3}, wide);
    const CausalConv1dProjection projection{at::ones({2, 33, columns}, options),
                                            at::ones({columns, channels}, options), at::ones_like(in.x),
                                            at::ones({columns, channels}, wide)};
    at::Tensor out;
    const bool forward =
        causal_conv1d_forward_projected_cuda(in, projection.weight, out, at::empty_like(projection.grad));
    EXPECT_EQ(backward_projects_cuda(in, projection.out, {at::empty_like(in.x), {}, {}}, projection),
              forward);
    return forward;
  };
  const bool has_warpgroups = major == 9;
  EXPECT_EQ(taken(64, 96, at::kBFloat16, false), has_warpgroups);
  EXPECT_EQ(taken(192, 8, at::kHalf, false), has_warpgroups);
  EXPECT_FALSE(taken(64, 96, at::kFloat, false));
  EXPECT_FALSE(taken(40, 96, at::kBFloat16, false));
  EXPECT_FALSE(taken(64, 104, at::kBFloat16, false));
  EXPECT_FALSE(taken(64, 12, at::kBFloat16, false));
  EXPECT_FALSE(taken(64, 96, at::kBFloat16, true));
}

// ---- selective_scan ----

struct ScanCase {
  int64_t batch, length, channels, states, groups;
  bool packed, with_states, plain;  // plain: neither z nor D nor bias nor softplus
  int64_t padding;
};

void check_scan(const ScanCase& c, at::ScalarType dtype) {
  const at::Tensor cu_seqlens = c.packed ? packed_rows(c.batch, c.length) : at::Tensor();
  const int64_t sequences = cu_seqlens.defined() ? cu_seqlens.size(0) - 1 : c.batch;
  const std::vector<int64_t> of_u = {c.batch, c.length, c.channels},
                             of_B = {c.batch, c.length, c.groups, c.states},
                             of_state = {sequences, c.channels, c.states};
  const at::Tensor u = random_exact(of_u, dtype), z = random_exact(of_u, dtype),
                   delta = c.plain ? random_exact(of_u, dtype, 0.1).abs() : random_exact(of_u, dtype, 0.5),
                   B = random_exact(of_B, dtype), C = random_exact(of_B, dtype),
                   A = at::rand({c.channels, c.states}, at::kFloat).add_(0.1).neg_().to(at::kDouble),
                   A_log = A.neg().log().to(at::kFloat).to(at::kDouble),
                   D = random_exact({c.channels}, at::kFloat),
                   bias = random_exact({c.channels}, at::kFloat).sub_(2),
                   initial = random_exact(of_state, at::kFloat), grad_out = random_exact(of_u, dtype),
                   grad_last = random_exact(of_state, at::kFloat);
  check(
      [&](const Place& p) {
        SelectiveScanInputs in;
        in.u = p.activation(u);
        in.delta = p.activation(delta);
        (c.plain ? in.A : in.A_log) = p.parameter(c.plain ? A : A_log);
        in.B = sliced(p.activation(B).flatten(2), c.padding).unflatten(2, {c.groups, c.states});
        in.C = sliced(p.activation(C).flatten(2), c.padding).unflatten(2, {c.groups, c.states});
        in.delta_softplus = !c.plain;
        if (!c.plain) {
          in.D = p.parameter(D);
          in.z = sliced(p.activation(z), c.padding);
          in.delta_bias = p.parameter(bias);
        }
        in.cu_seqlens = cu_seqlens;
        if (c.with_states) in.initial_state = p.parameter(initial);
        SelectiveScanSaved saved;
        at::Tensor last_state;
        Results results;
        results["out"] = selective_scan_forward(in, &saved, c.with_states ? &last_state : nullptr);
        if (c.with_states) results["last_state"] = last_state;
        SelectiveScanGradients grad;
        grad.u = at::empty_like(in.u);
        grad.delta = at::empty_like(in.delta);
        grad.B = at::empty_like(in.B);
        grad.C = at::empty_like(in.C);
        grad.A = at::zeros_like(p.parameter(A));
        grad.out = at::empty_like(in.u);
        if (!c.plain) {
          grad.z = at::empty_like(in.z);
          grad.D = at::zeros_like(in.D);
          grad.delta_bias = at::zeros_like(in.delta_bias);
        }
        selective_scan_backward(in, saved, p.activation(grad_out),
                                c.with_states ? p.parameter(grad_last) : at::Tensor(), grad);
        results["out_again"] = grad.out;
        results["grad_u"] = grad.u;
        results["grad_delta"] = grad.delta;
        results["grad_B"] = grad.B;
        results["grad_C"] = grad.C;
        results["grad_A"] = grad.A;
        if (!c.plain) {
          results["grad_z"] = grad.z;
          results["grad_D"] = grad.D;
          results["grad_delta_bias"] = grad.delta_bias;
        }
        return results;
      },
      dtype, bound(dtype, 2, 256 + static_cast<double>(c.length)),
      text("selective_scan", dtype,
           fmt::format("B {} L {} D {} N {} G {} packed {} states {} plain {} padding {}", c.batch, c.length,
                       c.channels, c.states, c.groups, c.packed, c.with_states, c.plain, c.padding)));
}

std::vector<ScanCase> scan_cases() {
  std::vector<ScanCase> cases = {{3, 129, 7, 16, 1, false, false, true, 0},
                                 {1, 372, 151, 5, 1, true, false, false, 1},
                                 // Three segments one after the other, on 132 multiprocessors.
                                 {300, 257, 64, 16, 1, true, true, false, 0}};
  for (const int64_t length : kLengths) {
    cases.push_back({2, length, 64, 16, 1, false, false, false, 0});
    cases.push_back({2, length, 24, 16, 1, true, true, false, 8});
  }
  for (const int64_t states : {1, 3, 64, 128}) cases.push_back({2, 151, 14, states, 2, true, true, false, 3});
  return cases;
}

/// 16 states and, in 16 bits, blocks of 128 channels: warps that walk and warps that help them.
std::vector<ScanCase> team_cases() {
  std::vector<ScanCase> cases = {{3, 129, 240, 16, 2, true, false, false, 0},
                                 {3, 65, 128, 16, 1, false, false, true, 0}};
  for (const int64_t length : {1, 2, 7, 31, 33, 129, 151, 372}) {
    cases.push_back({2, length, 256, 16, 2, false, true, false, 0});
    cases.push_back({2, length, 120, 16, 1, true, false, false, 8});
  }
  for (const bool packed : {false, true}) {
    // Three segments one after the other, on 132 multiprocessors; segments beside each other.
    cases.push_back({270, 257, 128, 16, 1, packed, !packed, false, 0});
    cases.push_back({1, 2049, 128, 16, 1, packed, !packed, false, 8});
  }
  return cases;
}

class GpuScan : public ::testing::TestWithParam<CaseIndex> {};
TEST_P(GpuScan, IsThatOfDouble) {
  check_scan(scan_cases().at(std::get<1>(GetParam())), std::get<0>(GetParam()));
}
INSTANTIATE_TEST_SUITE_P(Cases, GpuScan,
                         ::testing::Combine(::testing::ValuesIn(kDtypes),
                                            ::testing::Range<size_t>(0, scan_cases().size())),
                         case_name);

class GpuScanByTeam : public ::testing::TestWithParam<CaseIndex> {};
TEST_P(GpuScanByTeam, IsThatOfDouble) {
  check_scan(team_cases().at(std::get<1>(GetParam())), std::get<0>(GetParam()));
}
INSTANTIATE_TEST_SUITE_P(Cases, GpuScanByTeam,
                         ::testing::Combine(::testing::Values(at::kBFloat16, at::kHalf),
                                            ::testing::Range<size_t>(0, team_cases().size())),
                         case_name);

// ---- ssd ----

struct SsdCase {
  int64_t batch, length, heads, head_size, groups, states;
  bool packed, with_states, limited;
  int64_t padding;
  std::vector<int64_t> cuts = {};  // of each packed row; none: packed_rows
  double decay = 1;                // times A of 0.1 to 1.1
};

void check_ssd(const SsdCase& c, at::ScalarType dtype) {
  const at::Tensor cu_seqlens = !c.packed        ? at::Tensor()
                                : c.cuts.empty() ? packed_rows(c.batch, c.length)
                                                 : cut_rows(c.batch, c.length, c.cuts);
  const int64_t sequences = cu_seqlens.defined() ? cu_seqlens.size(0) - 1 : c.batch;
  const std::vector<int64_t> of_state = {sequences, c.heads, c.head_size, c.states};
  const at::Tensor x = random_exact({c.batch, c.length, c.heads * c.head_size}, dtype),
                   dt = random_exact({c.batch, c.length, c.heads}, dtype),
                   B = random_exact({c.batch, c.length, c.groups * c.states}, dtype, 0.3),
                   C = random_exact({c.batch, c.length, c.groups * c.states}, dtype, 0.3),
                   A = at::rand({c.heads}, at::kFloat).add_(0.1).mul_(-c.decay).to(at::kDouble),
                   D = random_exact({c.heads}, at::kFloat),
                   bias = random_exact({c.heads}, at::kFloat).sub_(2),
                   initial = random_exact(of_state, at::kFloat, 0.3),
                   grad_out = random_exact({c.batch, c.length, c.heads, c.head_size}, dtype),
                   grad_last = random_exact(of_state, at::kFloat, 0.3);
  const double dt_min = c.limited ? 0.05 : 0.0,
               dt_max = c.limited ? 0.2 : std::numeric_limits<double>::infinity();
  check(
      [&](const Place& p) {
        SsdInputs in;
        in.x = sliced(p.activation(x), c.padding).unflatten(2, {c.heads, c.head_size});
        in.dt = sliced(p.activation(dt), c.padding);
        in.A = p.parameter(A);
        in.B = sliced(p.activation(B), c.padding).unflatten(2, {c.groups, c.states});
        in.C = sliced(p.activation(C), c.padding).unflatten(2, {c.groups, c.states});
        in.D = p.parameter(D);
        in.dt_bias = p.parameter(bias);
        in.dt_min = dt_min;
        in.dt_max = dt_max;
        in.cu_seqlens = cu_seqlens;
        if (c.with_states) in.initial_state = p.parameter(initial);
        SsdSaved saved;
        at::Tensor last_state;
        Results results;
        results["out"] = ssd_forward(in, &saved, c.with_states ? &last_state : nullptr);
        EXPECT_TRUE(c.with_states || at::equal(results["out"], ssd_forward(in)));
        const auto backward = [&](const SsdSaved& given) {
          SsdGradients grad;
          grad.x = at::empty_like(in.x);
          grad.dt = at::empty_like(in.dt);
          grad.B = at::empty_like(in.B);
          grad.C = at::empty_like(in.C);
          grad.A = at::zeros_like(in.A);
          grad.D = at::zeros_like(in.D);
          grad.dt_bias = at::zeros_like(in.dt_bias);
          if (c.with_states) grad.initial_state = at::empty_like(in.initial_state);
          ssd_backward(in, given, p.activation(grad_out),
                       c.with_states ? p.parameter(grad_last) : at::Tensor(), grad);
          return grad;
        };
        const SsdGradients grad = backward(saved), again = backward({});
        EXPECT_TRUE(at::equal(grad.C, again.C) && at::equal(grad.A, again.A));
        if (c.with_states) results["last_state"] = last_state;
        if (c.with_states) results["grad_initial_state"] = grad.initial_state;
        results["grad_x"] = grad.x;
        results["grad_dt"] = grad.dt;
        results["grad_B"] = grad.B;
        results["grad_C"] = grad.C;
        results["grad_A"] = grad.A;
        results["grad_D"] = grad.D;
        results["grad_dt_bias"] = grad.dt_bias;
        return results;
      },
      // Products take their operands in dtype: decayed inputs, states and inner products are rounded on the
      // way.
      dtype, bound(dtype, 6, 256 + static_cast<double>(c.length)),
      text("ssd", dtype,
           fmt::format("B {} L {} H {} P {} G {} N {} packed {} states {} limited {} padding {} decay {}",
                       c.batch, c.length, c.heads, c.head_size, c.groups, c.states, c.packed, c.with_states,
                       c.limited, c.padding, c.decay)),
      [&](const Results& expected) {
        // With the adjoint λ, ∂Δ = A q + r where q = λ·exp(ΔA) s of the step before, summed in ∂A as Δ q, and
        // Δ r = x·(∂x − D ∂out). A clamped step has no ∂Δ to take q from: its terms are left out, which makes
        // the size smaller.
        const at::Tensor raw = dt + bias, delta = at::softplus(raw),
                         free = delta.ge(dt_min).logical_and_(delta.le(dt_max)).to(at::kDouble),
                         x_by_head = x.unflatten(2, {c.heads, c.head_size}), D_by_head = D.unsqueeze(1),
                         through_input = (x_by_head * (expected.at("grad_x") - D_by_head * grad_out)).sum(-1),
                         grad_delta = expected.at("grad_dt") / raw.sigmoid();
        return Terms{{"grad_A", (free * (delta * grad_delta - through_input) / A).flatten(0, 1)},
                     {"grad_D", (x_by_head * grad_out).sum(-1).flatten(0, 1)},
                     {"grad_dt_bias", expected.at("grad_dt").flatten(0, 1)}};
      });
}

// A case is a test of its own, so that tools that take their time can share them out.
std::vector<SsdCase> ssd_cases() {
  std::vector<SsdCase> cases = {{2, 151, 4, 7, 2, 3, true, true, false, 1},
                                {2, 372, 2, 64, 1, 128, false, true, true, 0},
                                {2, 129, 1, 32, 1, 16, true, false, false, 0}};
  for (const int64_t length : kLengths) {
    cases.push_back({2, length, 3, 64, 1, 128, false, false, false, 0});
    cases.push_back({2, length, 2, 64, 1, 128, true, false, false, 8});
    cases.push_back({1, length, 2, 64, 2, 64, true, true, false, 0});
  }
  return cases;
}
class GpuSsd : public ::testing::TestWithParam<CaseIndex> {};
TEST_P(GpuSsd, IsThatOfDouble) {
  check_ssd(ssd_cases().at(std::get<1>(GetParam())), std::get<0>(GetParam()));
}
INSTANTIATE_TEST_SUITE_P(Cases, GpuSsd,
                         ::testing::Combine(::testing::ValuesIn(kDtypes),
                                            ::testing::Range<size_t>(0, ssd_cases().size())),
                         case_name);

/// Rows and heads enough for a single walk over the tokens: four heads a multiprocessor.
std::vector<SsdCase> walk_cases(int64_t places) {
  std::vector<SsdCase> cases;
  for (const bool packed : {false, true}) {
    for (const int64_t length : {1, 64, 65, 128, 151, 372})
      cases.push_back({places / 4, length, 16, 64, 1, 128, packed, false, false, 0});
    // Chunks enough that no block shares a chunk's heads with another one; last ones with both halves, with
    // one.
    cases.push_back({places / 4, 449, 16, 64, 1, 128, packed, false, false, 8});
    cases.push_back({places / 4, 400, 24, 64, 1, 128, packed, false, false, 0});
  }
  cases.push_back({places / 3, 64, 16, 64, 1, 128, false, false, false, 0});  // unequal shares of heads
  cases.push_back({places / 4, 129, 16, 64, 1, 64, false, false, false, 0});
  cases.push_back({places / 8, 193, 32, 64, 2, 128, false, false, false, 0});
  cases.push_back({places / 8, 193, 32, 64, 2, 64, true, false, true, 8});
  cases.push_back({places / 4, 200, 16, 64, 1, 128, false, false, false, 0, {}, 16});
  // Sequences that start with a chunk, and with its second half.
  cases.push_back({places / 4, 320, 16, 64, 1, 128, true, false, false, 0, {64, 128, 130, 192, 256}});
  return cases;
}
class GpuSsdInOneWalk : public ::testing::TestWithParam<CaseIndex> {};
TEST_P(GpuSsdInOneWalk, IsThatOfDouble) {
  check_ssd(walk_cases(multiprocessors()).at(std::get<1>(GetParam())), std::get<0>(GetParam()));
}
INSTANTIATE_TEST_SUITE_P(Cases, GpuSsdInOneWalk,
                         ::testing::Combine(::testing::Values(at::kBFloat16, at::kHalf),
                                            ::testing::Range<size_t>(0, walk_cases(0).size())),
                         case_name);

/// Each gradient is what it is beside all others, whatever else is asked for.
void check_single_gradients(int64_t length) {
  const Place p = gpu(at::kBFloat16);
  const int64_t batch = multiprocessors() / 4, heads = 16;
  const auto random = [&](std::vector<int64_t> sizes) {
    return p.activation(random_exact(sizes, at::kBFloat16, 0.3));
  };
  SsdInputs in;
  in.x = random({batch, length, heads, 64});
  in.dt = random({batch, length, heads});
  in.B = random({batch, length, 1, 128});
  in.C = random({batch, length, 1, 128});
  in.A = p.parameter(at::rand({heads}, at::kFloat).add_(0.1).neg_().to(at::kDouble));
  SsdSaved saved;
  const at::Tensor grad_out = at::randn_like(ssd_forward(in, &saved));
  SsdGradients all;
  all.x = at::empty_like(in.x);
  all.dt = at::empty_like(in.dt);
  all.B = at::empty_like(in.B);
  all.C = at::empty_like(in.C);
  ssd_backward(in, saved, grad_out, {}, all);
  for (at::Tensor SsdGradients::*one :
       {&SsdGradients::x, &SsdGradients::dt, &SsdGradients::B, &SsdGradients::C}) {
    SsdGradients single;
    single.*one = at::empty_like(all.*one);
    ssd_backward(in, saved, grad_out, {}, single);
    EXPECT_TRUE(at::equal(single.*one, all.*one)) << "length " << length;
  }
  // The initial state's, where none is given.
  const auto initial_gradient = [&](const at::Tensor& initial_state) {
    in.initial_state = initial_state;
    SsdGradients single;
    single.initial_state = p.parameter(at::full({batch, heads, 64, 128}, 1e30, at::kDouble));
    ssd_backward(in, {}, grad_out, {}, single);
    return single.initial_state;
  };
  const at::Tensor of_none = initial_gradient({});
  EXPECT_TRUE(at::equal(of_none, initial_gradient(at::zeros_like(of_none))));
}

TEST(GpuOps, SsdMakesOnlyTheGradientsThatAreAskedFor) {
  for (const int64_t length : {151, 449}) check_single_gradients(length);  // heads shared by blocks, or not
}

/// The walk with its gate, and the norm's backward pass that follows from either of what the forward pass may
/// have kept.
void check_gated_walk(int64_t batch, int64_t length, int64_t heads, int64_t groups, bool packed) {
  static constexpr at::ScalarType kDtype = at::kBFloat16;
  const int64_t channels = 64 * heads, states = 128 * groups;
  const at::Tensor cu_seqlens = packed ? packed_rows(batch, length) : at::Tensor(),
                   convolved = random_exact({batch, length, channels + 2 * states}, kDtype, 0.3),
                   dt = random_exact({batch, length, heads}, kDtype),
                   z = random_exact({batch, length, channels}, kDtype),
                   A = at::rand({heads}, at::kFloat).add_(0.1).neg_().to(at::kDouble),
                   D = random_exact({heads}, at::kFloat), bias = random_exact({heads}, at::kFloat).sub_(2),
                   weight = random_exact({channels}, at::kFloat),
                   grad_out = random_exact({batch, length, channels}, kDtype);
  z[0][0][0] = 0;
  weight[1] = 0;
  check(
      [&](const Place& p) {
        const at::Tensor rows = p.activation(convolved);
        SsdInputs in;
        in.x = rows.narrow(2, 0, channels).unflatten(2, {heads, 64});
        in.B = rows.narrow(2, channels, states).unflatten(2, {groups, 128});
        in.C = rows.narrow(2, channels + states, states).unflatten(2, {groups, 128});
        in.dt = p.activation(dt);
        in.A = p.parameter(A);
        in.D = p.parameter(D);
        in.dt_bias = p.parameter(bias);
        in.cu_seqlens = cu_seqlens;
        GatedRmsNormInputs norm{{}, sliced(p.activation(z), 8), p.parameter(weight), groups, 1e-5, true};
        const bool on_gpu = in.x.is_cuda();
        Results results;
        SsdSaved saved, plain;
        at::Tensor inner = ssd_gated_forward(in, norm, &saved, results["rstd"]);
        EXPECT_EQ(inner.defined(), on_gpu);
        norm.x = ssd_forward(in, &plain).flatten(-2);
        if (on_gpu)
          EXPECT_TRUE(at::equal(saved.chunk_states, plain.chunk_states));
        else
          inner = gated_rms_norm_forward(norm, &results["rstd"]);
        results["inner"] = inner.clone();
        GatedRmsNormGradients grad{at::empty_like(inner), at::empty_like(inner), at::zeros_like(norm.weight),
                                   at::empty_like(inner)};
        gated_rms_norm_backward(norm, results["rstd"], p.activation(grad_out), grad);
        EXPECT_TRUE(at::equal(grad.out, inner));
        if (on_gpu) {
          norm.x = at::Tensor();
          GatedRmsNormGradients of_out{at::empty_like(inner), at::empty_like(inner),
                                       at::zeros_like(norm.weight), inner};
          gated_rms_norm_backward(norm, results["rstd"], p.activation(grad_out), of_out);
          EXPECT_TRUE(at::equal(grad.x, of_out.x) && at::equal(grad.z, of_out.z) &&
                      at::equal(grad.weight, of_out.weight));
        }
        results["grad_x"] = grad.x;
        results["grad_z"] = grad.z;
        results["grad_weight"] = grad.weight;
        return results;
      },
      // The scan's roundings, and two of the norm's.
      kDtype, bound(kDtype, 8, 256 + static_cast<double>(length)),
      text("gated walk", kDtype,
           fmt::format("B {} L {} H {} G {} packed {}", batch, length, heads, groups, packed)));
}

TEST(GpuOps, SsdAndItsGateInOneWalk) {
  if (device_attribute(cudaDevAttrComputeCapabilityMajor) != 9) GTEST_SKIP() << "the walk is for sm_90a";
  const int64_t places = multiprocessors();
  for (const bool packed : {false, true}) {
    for (const int64_t length : {1, 64, 65, 151, 372}) check_gated_walk(places / 4, length, 16, 1, packed);
    check_gated_walk(places / 8, 193, 32, 2, packed);
  }
}

/// Where there is no such pass nothing is made, and the caller takes two.
void expect_no_gated_walk(int64_t batch, const Place& p, bool with_state, int64_t padding, int64_t groups) {
  constexpr int64_t kLength = 65, kHeads = 16, kChannels = 64 * kHeads;
  const at::Tensor rows = p.activation(at::ones({batch, kLength, kChannels + 256}, at::kDouble));
  SsdInputs in;
  in.x = rows.narrow(2, 0, kChannels).unflatten(2, {kHeads, 64});
  in.B = rows.narrow(2, kChannels, 128).unflatten(2, {1, 128});
  in.C = rows.narrow(2, kChannels + 128, 128).unflatten(2, {1, 128});
  in.dt = p.activation(at::ones({batch, kLength, kHeads}, at::kDouble));
  in.A = p.parameter(at::full({kHeads}, -1.0, at::kDouble));
  if (with_state) in.initial_state = p.parameter(at::ones({batch, kHeads, 64, 128}, at::kDouble));
  GatedRmsNormInputs norm{{},
                          sliced(p.activation(at::ones({batch, kLength, kChannels}, at::kDouble)), padding),
                          p.parameter(at::ones({kChannels}, at::kDouble)),
                          groups,
                          1e-5,
                          true};
  SsdSaved saved;
  at::Tensor rstd;
  EXPECT_FALSE(ssd_gated_forward(in, norm, &saved, rstd).defined());
  EXPECT_FALSE(saved.chunk_states.defined() || rstd.defined());
  norm.scale_later = false;
  EXPECT_THROW(ssd_gated_forward(in, norm, &saved, rstd), core::InputError);
}

TEST(GpuOps, NothingIsMadeWhereTheGateIsNoPartOfTheWalk) {
  const int64_t batch = multiprocessors() / 4;
  const Place there = gpu(at::kBFloat16);
  expect_no_gated_walk(1, there, false, 0, 1);  // too few rows
  expect_no_gated_walk(batch, there, true, 0, 1);
  expect_no_gated_walk(batch, there, false, 4, 1);  // z at 8 bytes
  expect_no_gated_walk(batch, there, false, 0, 2);
  for (const at::ScalarType dtype : {at::kHalf, at::kFloat})
    expect_no_gated_walk(batch, gpu(dtype), false, 0, 1);
  expect_no_gated_walk(batch, reference(), false, 0, 1);
}

// ---- norms ----

void check_rms_norm(int64_t rows, int64_t size, bool with_residual, bool with_scale, at::ScalarType dtype) {
  const at::Tensor x = random_exact({rows, size}, dtype), residual = random_exact({rows, size}, at::kFloat),
                   weight = random_exact({size}, at::kFloat), grad_out = random_exact({rows, size}, dtype),
                   grad_residual = random_exact({rows, size}, at::kFloat),
                   scale = random_exact({rows}, at::kFloat);
  if (size > 2) {  // backward divides by them on a GPU
    weight[1] = 0;
    weight[2] = -1e-30;
  }
  const auto forward = [&](const Place& p) {
    // With one value a row, a small eps would leave of the gradient only what cancellation leaves.
    const double eps = size == 1 ? 1.0 : 1e-5;
    return rms_norm_forward({p.activation(x), with_residual ? p.parameter(residual) : at::Tensor(),
                             p.parameter(weight), eps, with_scale ? p.parameter(scale) : at::Tensor()});
  };
  const std::string what =
      text("rms_norm", dtype,
           fmt::format("rows {} d {} residual {} scale {}", rows, size, with_residual, with_scale));
  check(
      [&](const Place& p) {
        const RmsNormOutputs outputs = forward(p);
        return Results{{"out", outputs.out}, {"residual_out", outputs.residual_out}, {"rstd", outputs.rstd}};
      },
      dtype, bound(dtype, 1, 64 + static_cast<double>(rows)), what);
  check(
      [&](const Place& p) {
        const RmsNormOutputs outputs = forward(p);
        const at::Tensor of_channels = p.parameter(weight);
        at::Tensor grad_weight = at::zeros_like(of_channels);
        const RmsNormGradient grad =
            rms_norm_backward(rms_norm_saved(outputs), of_channels, p.activation(grad_out),
                              with_residual ? p.parameter(grad_residual) : at::Tensor(), grad_weight);
        return Results{{"grad_residual", grad.residual}, {"grad_x", grad.x}, {"grad_weight", grad_weight}};
      },
      // Backward's own, and that of the output that it reads; a scale's is one of float.
      dtype, bound(dtype, 2, 64 + static_cast<double>(rows)), what,
      [&](const Results&) {
        const RmsNormOutputs exact = forward(reference());
        return Terms{{"grad_weight", grad_out * exact.residual_out * exact.rstd.view({rows, 1})}};
      });
}

TEST(GpuOps, RmsNormOfAWeightThatIsNoNumberIsNone) {
  for (const at::ScalarType dtype : kDtypes) {
    const at::Tensor weight = at::full({7}, std::numeric_limits<float>::quiet_NaN(), at::kFloat);
    const Place p = gpu(dtype);
    const RmsNormInputs in{p.activation(at::ones({3, 7}, dtype)), at::Tensor(), p.parameter(weight), 1e-5};
    EXPECT_TRUE(rms_norm_forward(in).out.isnan().all().item<bool>());
  }
}

TEST(GpuOps, RmsNorm) {
  for (const at::ScalarType dtype : kDtypes) {
    for (const int64_t size : {1, 7, 64, 151, 768, 1024, 4097})
      for (const bool with_residual : {false, true})
        for (const bool with_scale : {false, true})
          check_rms_norm(37, size, with_residual, with_scale, dtype);
    check_rms_norm(2049, 96, true, true, dtype);
  }
}

void check_gated_rms_norm(int64_t length, int64_t channels, int64_t groups, int64_t padding, bool scale_later,
                          at::ScalarType dtype) {
  const std::vector<int64_t> shape = {2, length, channels};
  const at::Tensor x = random_exact(shape, dtype), z = random_exact(shape, dtype),
                   weight = random_exact({channels}, at::kFloat), grad_out = random_exact(shape, dtype);
  check(
      [&](const Place& p) {
        GatedRmsNormInputs in;
        in.x = p.activation(x);
        in.z = sliced(p.activation(z), padding);
        in.weight = p.parameter(weight);
        in.groups = groups;
        in.scale_later = scale_later;
        at::Tensor rstd;
        Results results;
        results["out"] = gated_rms_norm_forward(in, &rstd);
        in.x = in.x.clone();  // both are replaced
        const at::Tensor replaced = p.activation(grad_out).clone();
        GatedRmsNormGradients grad{in.x, at::empty_like(in.z), at::zeros_like(in.weight), replaced};
        gated_rms_norm_backward(in, rstd, replaced, grad);
        EXPECT_TRUE(grad.out.equal(results["out"]));
        if (in.x.is_cuda()) {  // the same without x
          const at::Tensor grad_x = p.activation(grad_out).clone();
          GatedRmsNormGradients again{grad_x, at::empty_like(in.z), at::zeros_like(in.weight),
                                      results["out"]};
          gated_rms_norm_backward({{}, in.z, in.weight, groups, in.eps, scale_later}, rstd, grad_x, again);
          EXPECT_TRUE(again.x.equal(grad.x) && again.z.equal(grad.z) && again.weight.equal(grad.weight));
        }
        results["rstd"] = rstd;
        results["grad_x"] = grad.x;
        results["grad_z"] = grad.z;
        results["grad_weight"] = grad.weight;
        return results;
      },
      dtype, bound(dtype, 2, 64 + static_cast<double>(length)),  // gradients come from the rounded out
      text("gated_rms_norm", dtype,
           fmt::format("L {} D {} G {} padding {} scale later {}", length, channels, groups, padding,
                       scale_later)),
      // ∂v is a difference: what it takes off, v·Σ grad_out ⊙ out, is off by the rounding of v and by that of
      // each out in the sum, whatever is left.
      [&](const Results& exact) {
        const std::vector<int64_t> grouped = {2, length, groups, channels / groups};
        const at::Tensor rstd = exact.at("rstd").unsqueeze(-1),
                         root = scale_later ? at::ones_like(rstd) : rstd,
                         silu = (z * z.sigmoid()).view(grouped), v = x.view(grouped) * silu,
                         slope = (z.sigmoid() * (1 + z * (1 - z.sigmoid()))).view(grouped),
                         products = grad_out.view(grouped) * exact.at("out").view(grouped) * rstd.square() /
                                    root.square() / static_cast<double>(channels / groups),
                         of_mean = v * root.square() * products.sum(-1, true),
                         of_terms = v * root.square() * products.square().sum(-1, true).sqrt();
        const auto terms = [&](const at::Tensor& factor) {
          return at::stack({(of_mean * factor).view_as(x), (of_terms * factor).view_as(x)});
        };
        return Terms{{"grad_x", terms(silu)}, {"grad_z", terms(x.view(grouped) * slope)}};
      });
}

TEST(GpuOps, GatedRmsNorm) {
  for (const at::ScalarType dtype : kDtypes) {
    for (const int64_t length : {1, 7, 372})
      for (const bool later : {false, true}) {
        check_gated_rms_norm(length, 64, 1, 0, later, dtype);
        check_gated_rms_norm(length, 1536, 4, 8, later, dtype);
        check_gated_rms_norm(length, 21, 3, 1, later, dtype);
      }
  }
}

// ---- head and embedding ----

void check_loss(int64_t tokens, int64_t size, int64_t vocabulary, at::ScalarType dtype,
                double label_smoothing) {
  const at::Tensor hidden = random_exact({tokens, size}, dtype),
                   weight = random_exact({vocabulary, size}, dtype, 0.3);
  at::Tensor targets = at::randint(0, vocabulary, {tokens}, at::kLong);
  if (tokens > 2) targets[1] = -100;
  const double scale = 1.0;
  check(
      [&](const Place& p) {
        LinearCrossEntropyInputs in{p.activation(hidden), p.activation(weight), targets};
        at::Tensor grad_hidden = at::empty_like(in.hidden),
                   grad_weight = at::zeros({vocabulary, size}, in.weight.options().dtype(p.wide));
        const auto both =
            linear_cross_entropy_forward_backward(in, scale, grad_hidden, grad_weight, label_smoothing);
        return Results{
            {"loss", both.per_token_loss}, {"grad_hidden", grad_hidden}, {"grad_weight", grad_weight}};
      },
      // Logits are rounded, their gradients too, and a logit's rounding is relative to the largest of them.
      dtype, bound(dtype, 12, 256 + static_cast<double>(tokens)),
      text("linear_cross_entropy", dtype,
           fmt::format("T {} d {} V {} smoothing {}", tokens, size, vocabulary, label_smoothing)));
}

TEST(GpuOps, LinearCrossEntropy) {
  for (const at::ScalarType dtype : kDtypes) {
    for (const double label_smoothing : {0.0, 0.1}) {
      check_loss(1, 7, 3, dtype, label_smoothing);
      check_loss(151, 32, 129, dtype, label_smoothing);
      check_loss(372, 64, 50280, dtype, label_smoothing);
    }
  }
}

// ---- dropout ----

/// In float the same bits as on a CPU, in 16 bits those numbers rounded.
TEST(GpuOps, DropoutIsThatOfTheCpu) {
  for (const at::ScalarType dtype : kDtypes)
    for (const auto& [length, size] : {std::pair{1, 1}, {2, 7}, {7, 129}, {151, 64}, {372, 610}})
      for (const double rate : {0.1, 0.3}) {
        const DropoutMask mask{rate, 1103, 23, (int64_t(1) << 32) - 1};
        const at::Tensor x = random_exact({3, length, size}, dtype).to(at::kFloat),
                         on_cpu = at::empty_like(x), on_gpu = x.to(at::Device(at::kCUDA, 0), dtype),
                         elsewhere = at::empty_like(on_gpu);
        dropout(x, mask, on_cpu);
        dropout(on_gpu, mask, elsewhere);
        dropout(on_gpu, mask, on_gpu);
        const std::string what = text("dropout", dtype, fmt::format("L {} d {} rate {}", length, size, rate));
        EXPECT_TRUE(elsewhere.cpu().equal(on_cpu.to(dtype))) << what;
        EXPECT_TRUE(on_gpu.equal(elsewhere)) << what;
      }
}

/// Large enough that the algorithm is ours to choose; slices of wider rows and odd sizes.
TEST(GpuOps, ProductsOfManyRows) {
  constexpr int64_t kRows = 8200;
  for (const at::ScalarType dtype : {at::kBFloat16, at::kHalf})
    for (const auto& [inner, columns] : {std::pair{512, 520}, {768, 3352}, {1024, 4384}, {2048, 1001}})
      for (const bool transposed : {false, true}) {
        const at::Tensor a = random_exact({1, kRows, inner}, dtype),
                         b = random_exact({inner, columns}, dtype);
        check(
            [&](const Place& p) {
              const at::Tensor wide = sliced(p.activation(a), 128).select(0, 0), factor = p.activation(b),
                               of_rows = transposed ? factor.t().contiguous().t() : factor;
              at::Tensor product = at::empty({kRows, columns}, wide.options());
              multiply(product, wide, of_rows);
              return Results{{"product", product}};
            },
            dtype, bound(dtype, 1, static_cast<double>(inner)),
            text("product", dtype, fmt::format("{} terms, {} columns, {}", inner, columns, transposed)));
      }
}

/// cuBLAS cuts long sums into parts; these are of integers that cancel, up to some thousands on the way.
TEST(GpuOps, ProductsOf16BitsAreSummedInFloat) {
  constexpr int64_t kHalf = 1 << 15;
  for (const at::ScalarType dtype : {at::kBFloat16, at::kHalf}) {
    for (const int64_t size : {8, 64, 200}) {
      const at::Tensor up = at::randint(-64, 65, {kHalf, size}, dtype),
                       one = at::ones({size, 2 * kHalf}, dtype);
      at::Tensor values = at::cat({up, up.neg()});
      values[17] += 3;
      const at::Tensor sums = one.to(at::kCUDA).mm(values.to(at::kCUDA));
      EXPECT_TRUE(sums.eq(3).all().item<bool>()) << core::dtype_name(dtype) << " " << size;
    }
  }
}

TEST(GpuOps, EmbeddingGradient) {
  for (const int64_t tokens : {1, 129, 4097}) {
    const at::Tensor ids = at::randint(0, 17, {tokens}, at::kLong),
                     grad = random_exact({tokens, 24}, at::kFloat);
    check(
        [&](const Place& p) {
          at::Tensor sum = at::zeros({40, 24}, grad.options().dtype(p.wide).device(p.device));
          add_embedding_gradient(ids.to(p.device), p.parameter(grad), sum);
          return Results{{"sum", sum}};
        },
        at::kFloat, bound(at::kFloat, 1, static_cast<double>(tokens)), fmt::format("embedding {}", tokens));
  }
}

}  // namespace
}  // namespace exactmamba::gpu_tests
