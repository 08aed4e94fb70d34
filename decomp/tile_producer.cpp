#include "decomp/tile_producer.h"

#include <algorithm>
#include <string>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/silu.h>

#include "core/dtype.h"
#include "core/error.h"
#include "decomp/column_sweep.h"
#include "decomp/frozen_scan.h"
#include "decomp/pieces.h"
#include "models/ops/sequences.h"

namespace exactmamba::decomp {
namespace {

using models::Architecture;
using models::LayerTrace;

void check_dimensions(const LayerTrace& trace, const char* name, const at::Tensor& tensor,
                      int64_t dimensions) {
  core::require(tensor.defined() && tensor.dim() == dimensions,
                "trace of layer {}: {} must have {} dimensions, not {}", trace.layer, name, dimensions,
                tensor.defined() ? std::to_string(tensor.dim()) : "none");
}

void check_shape(const LayerTrace& trace, const char* name, const at::Tensor& tensor, at::IntArrayRef shape) {
  core::require(tensor.defined() && tensor.sizes() == shape,
                "trace of layer {}: {} must have shape {}, not {}", trace.layer, name, c10::str(shape),
                tensor.defined() ? c10::str(tensor.sizes()) : "none");
  core::require(tensor.is_contiguous() && tensor.scalar_type() == trace.y.scalar_type(),
                "trace of layer {}: {} must be contiguous and {}, as y is", trace.layer, name,
                core::dtype_text(trace.y.scalar_type()));
}

void check_optional(const LayerTrace& trace, const char* name, const at::Tensor& tensor,
                    at::IntArrayRef shape) {
  if (tensor.defined()) check_shape(trace, name, tensor, shape);
}

/// `parts` equal parts of `whole`.
void check_divides(const LayerTrace& trace, const char* whole_name, int64_t whole, const char* parts_name,
                   int64_t parts) {
  core::require(parts > 0 && whole % parts == 0, "trace of layer {}: {} {} do not divide into {} {}",
                trace.layer, whole, whole_name, parts, parts_name);
}

/// The dimensions that every other size is read from.
void check_sizes(const LayerTrace& trace) {
  const bool mamba1 = trace.architecture == Architecture::kMamba1;
  for (const auto& [name, tensor] : {std::pair{"r", trace.r},
                                     {"y", trace.y},
                                     {"conv_weight", trace.conv_weight},
                                     {"out_weight", trace.out_weight}})
    check_dimensions(trace, name, tensor, 2);
  check_dimensions(trace, "B", trace.B, 3);
  check_dimensions(trace, "A", trace.A, mamba1 ? 2 : 1);
  core::require(trace.conv_weight.size(1) > 0, "trace of layer {}: the convolution has no taps", trace.layer);
  core::require(trace.length() > 0, "trace of layer {} has no positions", trace.layer);
  const int64_t heads = mamba1 ? 1 : trace.A.size(0), groups = trace.B.size(1);
  check_divides(trace, "channels", trace.d_inner(), "heads", heads);
  check_divides(trace, "heads", heads, "groups", groups);  // and so the groups the channels
}

void check_parameters(const LayerTrace& trace) {
  const bool mamba1 = trace.architecture == Architecture::kMamba1;
  const int64_t d = trace.d_model(), D = trace.d_inner(), H = mamba1 ? D : trace.A.size(0);
  check_shape(trace, "conv_weight", trace.conv_weight, {D, trace.conv_weight.size(1)});
  check_optional(trace, "conv_bias", trace.conv_bias, {D});
  if (mamba1) check_shape(trace, "A", trace.A, {D, trace.B.size(2)});
  if (!mamba1) check_shape(trace, "A", trace.A, {H});
  check_shape(trace, "D", trace.D, {H});
  if (!mamba1) check_shape(trace, "norm_weight", trace.norm_weight, {D});
  check_shape(trace, "out_weight", trace.out_weight, {d, D});
  check_optional(trace, "out_bias", trace.out_bias, {d});
}

void check_activations(const LayerTrace& trace) {
  const bool mamba1 = trace.architecture == Architecture::kMamba1;
  const int64_t L = trace.length(), d = trace.d_model(), D = trace.d_inner(), G = trace.B.size(1);
  for (const auto& [name, tensor] : {std::pair{"r", trace.r}, {"y", trace.y}})
    check_shape(trace, name, tensor, {L, d});
  for (const auto& [name, tensor] : {std::pair{"x", trace.x}, {"a", trace.a}, {"z", trace.z}})
    check_shape(trace, name, tensor, {L, D});
  for (const auto& [name, tensor] : {std::pair{"B", trace.B}, {"C", trace.C}})
    check_shape(trace, name, tensor, {L, G, trace.B.size(2)});
  check_shape(trace, "delta", trace.delta, {L, mamba1 ? D : trace.A.size(0)});
  if (!mamba1) check_shape(trace, "rho", trace.rho, {L, G});
}

class Producer {
 public:
  Producer(const LayerTrace& trace, const std::vector<Aggregator*>& aggregators, int64_t max_pairs)
      : trace_(trace),
        aggregators_(aggregators),
        gated_(at::empty({max_pairs, trace.d_inner()}, trace.y.options())),
        T_(projects() ? at::empty({max_pairs, trace.d_model()}, trace.y.options()) : at::Tensor()) {}

  at::Tensor& gated() { return gated_; }

  /// The first pairs.size() rows of gated() are ready; `with_bias(pair)` says whose T carries out_proj's
  /// bias.
  template <class WithBias>
  void emit(std::vector<Pair> pairs, const WithBias& with_bias) {
    ContributionTile tile{std::move(pairs), {}, {}};
    tile.gated = gated_.narrow(0, 0, tile.size());
    if (T_.defined()) {
      tile.T = T_.narrow(0, 0, tile.size());
      at::mm_out(tile.T, tile.gated, trace_.out_weight.t());
      for (int64_t n = 0; trace_.out_bias.defined() && n < tile.size(); ++n)
        if (with_bias(tile.pairs[n])) tile.T.select(0, n).add_(trace_.out_bias);
    }
    for (Aggregator* aggregator : aggregators_) aggregator->add(tile);
  }

 private:
  bool projects() const {
    return std::any_of(aggregators_.begin(), aggregators_.end(),
                       [](const Aggregator* each) { return each->projects(); });
  }

  const LayerTrace& trace_;
  const std::vector<Aggregator*>& aggregators_;
  at::Tensor gated_, T_;
};

std::vector<Pair> pairs_of(const TileRange& range) {
  std::vector<Pair> pairs;
  pairs.reserve(range.size());
  for (int64_t i = range.i_begin; i < range.i_end; ++i)
    for (int64_t j = range.j_begin; j < range.j_begin + range.width(i); ++j) pairs.push_back({i, j});
  return pairs;
}

void produce_tokens(const LayerTrace& trace, const Pieces& pieces, const at::Tensor& scale, BiasRule bias,
                    TileShape shape, Producer& producer) {
  const bool own_bias = bias == BiasRule::kOwn;
  const auto sweep = trace.architecture == Architecture::kMamba1 ? make_mamba1_sweep(trace, pieces, scale)
                                                                 : make_mamba2_sweep(trace, pieces, scale);
  for (const ops::Sequence& sequence : ops::sequences_of(trace.cu_seqlens, 1, trace.length()))
    for (int64_t j = sequence.begin; j < sequence.end; j += shape.columns) {
      const int64_t j_end = std::min(j + shape.columns, sequence.end);
      sweep->start(j, j_end, sequence.end);
      for (int64_t i = j; i < sequence.end; i += shape.rows) {
        const TileRange range{i, std::min(i + shape.rows, sequence.end), j, j_end};
        sweep->fill(range, producer.gated());
        producer.emit(pairs_of(range), [own_bias](const Pair& pair) { return own_bias && pair.i == pair.j; });
      }
    }
}

void produce_bias(const LayerTrace& trace, const Pieces& pieces, const at::Tensor& scale, int64_t max_pairs,
                  Producer& producer) {
  const int64_t L = trace.length();
  const at::Tensor inputs = pieces.bias();
  const at::Tensor gated = (frozen_scan(trace, inputs) + skip_per_channel(trace) * inputs) * scale;
  for (int64_t begin = 0; begin < L; begin += max_pairs) {
    const int64_t end = std::min(begin + max_pairs, L);
    std::vector<Pair> pairs;
    for (int64_t i = begin; i < end; ++i) pairs.push_back({i, L});
    producer.gated().narrow(0, 0, end - begin).copy_(gated.narrow(0, begin, end - begin));
    producer.emit(std::move(pairs), [](const Pair&) { return true; });
  }
}

void produce(const LayerTrace& trace, Approximation approximation, BiasRule bias, const at::Tensor& scale,
             const std::vector<Aggregator*>& aggregators, TileShape shape) {
  const Pieces pieces(trace, approximation, bias);
  const int64_t max_pairs = std::min(shape.rows, trace.length()) * std::min(shape.columns, trace.length());
  Producer producer(trace, aggregators, max_pairs);
  produce_tokens(trace, pieces, scale, bias, shape, producer);
  if (bias == BiasRule::kSeparate) produce_bias(trace, pieces, scale, max_pairs, producer);
}

}  // namespace

void check_trace(const LayerTrace& trace) {
  check_sizes(trace);
  const at::ScalarType dtype = trace.y.scalar_type();
  core::require(dtype == at::kFloat || dtype == at::kDouble,
                "decomposition runs in float32 or float64, not {}; convert the model",
                core::dtype_text(dtype));
  check_parameters(trace);
  check_activations(trace);
  ops::sequences_of(trace.cu_seqlens, 1, trace.length());
}

at::Tensor output_scale(const LayerTrace& trace) {
  at::Tensor scale = at::silu(trace.z);
  if (trace.architecture == Architecture::kMamba2) {
    const int64_t per_group = trace.d_inner() / trace.rho.size(1);
    scale = scale * trace.norm_weight * trace.rho.repeat_interleave(per_group, 1);
  }
  return scale;
}

void produce_tiles(const LayerTrace& trace, Approximation approximation, BiasRule bias,
                   const std::vector<Aggregator*>& aggregators, TileShape shape) {
  check_trace(trace);
  produce(trace, approximation, bias, output_scale(trace), aggregators, shape);
}

void produce_scaled_tiles(const LayerTrace& trace, Approximation approximation, const at::Tensor& scale,
                          const std::vector<Aggregator*>& aggregators, TileShape shape) {
  produce(trace, approximation, BiasRule::kOwn, scale, aggregators, shape);
}

}  // namespace exactmamba::decomp
