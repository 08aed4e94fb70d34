// How long the ℓ2 map of one mamba-130m-sized layer takes, against (a) the literal transcription of the
// closed form with whole L×L×D tensors and (b) the bound: one matrix product of all causal pairs with W_out.
// And the memory that decomposing a whole row needs.
//     decompose_bench [L] [repetitions]                    times of both architectures
//     decompose_bench L 1 mamba1 | mamba2                  memory of one of them; the bound holds at L = 2048
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <limits>
#include <malloc.h>
#include <map>
#include <string>
#include <unistd.h>
#include <vector>

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cumsum.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/full.h>
#include <ATen/ops/log.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/softplus.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "decomp/aggregators.h"
#include "decomp/decompose.h"
#include "decomp/frozen_scan.h"
#include "decomp/tile_producer.h"
#include "models/initialisation.h"

namespace {

using exactmamba::decomp::Approximation;
using exactmamba::decomp::BiasRule;
using exactmamba::models::Architecture;
using exactmamba::models::LayerTrace;
using exactmamba::models::MambaLM;

constexpr int64_t kModel = 768, kInner = 1536, kTaps = 4;
constexpr double kMiB = 1024.0 * 1024.0;

/// A trace of plausible numbers; only its sizes and decays matter for the time.
LayerTrace random_trace(Architecture architecture, int64_t L) {
  const bool mamba1 = architecture == Architecture::kMamba1;
  const int64_t N = mamba1 ? 16 : 128, heads = mamba1 ? kInner : 24;
  LayerTrace trace;
  trace.architecture = architecture;
  trace.cu_seqlens = at::zeros({2}, at::kInt);
  trace.cu_seqlens[1] = L;
  trace.r = at::randn({L, kModel});
  trace.y = at::randn({L, kModel});
  trace.x = at::randn({L, kInner});
  trace.a = at::randn({L, kInner});
  trace.z = at::randn({L, kInner});
  trace.delta = at::exp(at::rand({L, heads}) * 4.6 - 6.9);  // 1e-3 … 1e-1
  trace.B = at::randn({L, 1, N});
  trace.C = at::randn({L, 1, N});
  trace.rho = at::rand({L, 1}) + 0.5;
  trace.conv_weight = at::randn({kInner, kTaps});
  trace.conv_bias = at::randn({kInner});
  trace.A = mamba1 ? -(at::ones({kInner, N}).cumsum(1)) : -(at::rand({heads}) * 15 + 1);
  trace.D = at::ones({heads});
  trace.norm_weight = at::ones({kInner});
  trace.out_weight = at::randn({kModel, kInner}) * 0.025;
  return trace;
}

/// f_t(k) of the default approximation, bias at lag 0, for the token t−k: (L, D).
at::Tensor piece_of_lag(const LayerTrace& trace, int64_t k) {
  at::Tensor piece = trace.x * trace.conv_weight.select(1, kTaps - 1 - k);
  if (k == 0) piece = piece + trace.conv_bias;
  return at::silu(piece);
}

/// M_{i,t} of the closed form for all i, t at once: (L, L, D)
at::Tensor whole_mixing(const LayerTrace& trace) {
  const int64_t L = trace.length();
  const bool mamba1 = trace.architecture == Architecture::kMamba1;
  const at::Tensor causal = at::ones({L, L}).tril().unsqueeze(2);
  if (!mamba1) {
    const at::Tensor log_decay = (trace.delta * trace.A).cumsum(0);  // (L, H)
    const at::Tensor decay = ((log_decay.unsqueeze(1) - log_decay.unsqueeze(0)) * causal).exp() * causal;
    const at::Tensor scores = at::mm(trace.C.squeeze(1), trace.B.squeeze(1).t()).unsqueeze(2);
    at::Tensor M = scores * decay * trace.delta.unsqueeze(0);  // (L, L, H)
    M.diagonal().add_(trace.D.unsqueeze(1));
    return M.repeat_interleave(trace.headdim(), 2);
  }
  const at::Tensor time = trace.delta.cumsum(0);  // (L, D)
  const at::Tensor elapsed = (time.unsqueeze(1) - time.unsqueeze(0)) * causal;
  at::Tensor M = at::zeros({L, L, kInner});
  for (int64_t n = 0; n < trace.A.size(1); ++n) {
    const at::Tensor coefficients = trace.C.select(2, n) * trace.B.select(2, n).t();  // (L, L)
    M += (elapsed * trace.A.select(1, n)).exp() * coefficients.unsqueeze(2);
  }
  M = M * causal * trace.delta.unsqueeze(0);
  M.diagonal().add_(trace.D.unsqueeze(1));
  return M;
}

/// The literal transcription: M, υ and T as whole (L, L, ·) tensors.
at::Tensor transcription(const LayerTrace& trace) {
  const int64_t L = trace.length();
  const at::Tensor M = whole_mixing(trace);
  at::Tensor upsilon = at::zeros_like(M);
  for (int64_t k = 0; k < kTaps; ++k)  // token j reaches step j + k
    upsilon.narrow(1, 0, L - k) +=
        M.narrow(1, k, L - k) * piece_of_lag(trace, k).narrow(0, 0, L - k).unsqueeze(0);
  const at::Tensor gated = upsilon * exactmamba::decomp::output_scale(trace).unsqueeze(1);
  return at::mm(gated.view({L * L, kInner}), trace.out_weight.t()).view({L, L, kModel}).norm(2, 2);
}

at::Tensor tiles(const LayerTrace& trace) {
  exactmamba::decomp::NormMap map(trace, BiasRule::kOwn, exactmamba::decomp::Norm::kL2);
  exactmamba::decomp::produce_tiles(trace, Approximation::kActivation, BiasRule::kOwn, {&map});
  return map.map();
}

double seconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void compare(Architecture architecture, int64_t L, int repetitions) {
  const LayerTrace trace = random_trace(architecture, L);
  const at::Tensor pairs = at::randn({L * (L + 1) / 2, kInner});
  constexpr double kNever = std::numeric_limits<double>::infinity();
  double literal = kNever, ours = kNever, bound = kNever;
  at::Tensor expected, map;
  for (int n = 0; n < repetitions; ++n) {  // interleaved: a busy machine hits all three alike
    bound = std::min(bound, seconds([&] { at::mm(pairs, trace.out_weight.t()); }));
    ours = std::min(ours, seconds([&] { map = tiles(trace); }));
    literal = std::min(literal, seconds([&] { expected = transcription(trace); }));
  }
  const double difference = ((map - expected).abs().max() / expected.abs().max()).item().toDouble();
  std::printf(
      "%-7s L %lld, %d threads: tiles %.3f s, transcription %.3f s (%.1f×), bound %.3f s (%.0f %% of it), "
      "difference %.1e\n",
      architecture == Architecture::kMamba1 ? "Mamba-1" : "Mamba-2", static_cast<long long>(L),
      at::get_num_threads(), ours, literal, literal / ours, bound, 100 * bound / ours, difference);
}

/// Current resident set: the second number of /proc/self/statm, in pages.
int64_t resident_bytes() {
  int64_t total = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

/// Makes the kernel forget the peak so far.
void reset_peak() { std::ofstream("/proc/self/clear_refs") << 5; }

/// Largest resident set since reset_peak(): VmHWM of /proc/self/status, in kB.
int64_t peak_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.rfind("VmHWM:", 0) == 0) return std::atoll(line.c_str() + 6) * 1024;
  return 0;
}

MambaLM one_layer_model(Architecture architecture) {
  exactmamba::models::ModelConfig config;
  config.architecture = architecture;
  config.vocab_size = config.vocab_rows = 50280;
  config.d_model = kModel;
  config.n_layer = 1;
  config.d_state = architecture == Architecture::kMamba1 ? 16 : 128;
  config.dt_rank = 48;
  MambaLM model(config, at::kFloat);
  exactmamba::models::initialise(model, 1);
  return model;
}

exactmamba::decomp::Row random_row(int64_t L) {
  return {.input_ids = at::randint(50280, {L}, at::kLong), .cu_seqlens = {}, .targets = {}, .index = 0};
}

/// Of a trace's own tensors; its parameters are the model's.
int64_t trace_bytes(const MambaLM& model, const exactmamba::decomp::Row& row) {
  int64_t bytes = 0;
  model.trace(row.input_ids, {}, [&bytes](const LayerTrace& t) {
    for (const at::Tensor& tensor : {t.r, t.y, t.x, t.a, t.z, t.delta, t.B, t.C, t.rho})
      if (tensor.defined()) bytes += static_cast<int64_t>(tensor.nbytes());
  });
  return bytes;
}

/// How far the resident set rises while a row is decomposed, less its trace and its maps.
void measure_memory(const MambaLM& model, const exactmamba::decomp::Row& row,
                    const std::vector<std::string>& methods) {
  exactmamba::decomp::DecomposeOptions options;
  options.methods = methods;
  const int64_t traces = trace_bytes(model, row);
  std::vector<at::Tensor> maps;
  malloc_trim(0);
  reset_peak();
  const int64_t before = resident_bytes();
  exactmamba::decomp::decompose_row(
      model, "", row, options,
      [&](const exactmamba::decomp::InteractionMap& map) { maps.push_back(map.values); });
  const int64_t peak = peak_bytes();
  std::map<const void*, int64_t> sizes;  // of the maps' memory: with one layer, some maps share it
  for (const at::Tensor& map : maps) sizes[map.const_data_ptr()] = static_cast<int64_t>(map.nbytes());
  int64_t result = 0;
  for (const auto& [data, bytes] : sizes) result += bytes;
  const double rise = static_cast<double>(peak - before - traces - result);
  fmt::print("  {:<40} {:6.1f} MiB of at most 256 beyond model, trace ({:.1f}) and result ({:.1f}): {}\n",
             fmt::format("{}", fmt::join(methods, " ")), rise / kMiB, static_cast<double>(traces) / kMiB,
             static_cast<double>(result) / kMiB, rise <= 256 * kMiB ? "met" : "NOT MET");
}

void measure_memory(Architecture architecture, int64_t L) {
  mallopt(M_MMAP_THRESHOLD, 1 << 16);  // freed tensors leave the resident set at once
  const std::vector<std::string> all = {"l1", "l2", "linf", "alti", "rollout", "alti_logit"};
  const MambaLM model = one_layer_model(architecture);
  exactmamba::decomp::DecomposeOptions options;
  options.methods = all;
  exactmamba::decomp::decompose_row(model, "", random_row(8), options,
                                    [](const auto&) {});  // libraries loaded, threads started
  const exactmamba::decomp::Row row = random_row(L);
  fmt::print("{}, one layer of mamba-130m's sizes, L {}, float32, {} threads\n",
             exactmamba::models::architecture_name(architecture), L, at::get_num_threads());
  measure_memory(model, row, {"l2"});
  measure_memory(model, row, all);
}

}  // namespace

int main(int argc, char** argv) {
  const int64_t L = argc > 1 ? std::atoll(argv[1]) : 256;
  const int repetitions = argc > 2 ? std::atoi(argv[2]) : 5;
  at::manual_seed(1);
  if (argc > 3) {
    const bool mamba1 = std::string(argv[3]) == "mamba1";
    measure_memory(mamba1 ? Architecture::kMamba1 : Architecture::kMamba2, L);
    return 0;
  }
  at::set_num_threads(2);
  for (const Architecture architecture : {Architecture::kMamba1, Architecture::kMamba2})
    compare(architecture, L, repetitions);
}
