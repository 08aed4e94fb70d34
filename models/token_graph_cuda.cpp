#include <future>
#include <string>
#include <vector>

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <c10/core/DeviceGuard.h>

#include "models/ops/cuda/tensors.h"
#include "models/ops/token_step/token_step_cuda_params.h"
#include "models/token_graph.h"

namespace exactmamba::models {
namespace {

using ops::check_launch;
using ops::data_or_null;
using ops::set;

constexpr const char* kGeneration = "generation";

/// A captured sequence of launches.
class CudaGraph {
 public:
  CudaGraph() = default;
  CudaGraph(const CudaGraph&) = delete;
  CudaGraph& operator=(const CudaGraph&) = delete;
  ~CudaGraph() {
    if (graph_) cudaGraphExecDestroy(graph_);
  }

  /// `launch` enqueues kernels into the stream that it is given; nothing runs yet.
  template <class Launch>
  void capture(const Launch& launch) {
    cudaStream_t stream = nullptr;
    cudaGraph_t captured = nullptr;
    check_launch(kGeneration, cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    check_launch(kGeneration, cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    launch(stream);
    check_launch(kGeneration, cudaStreamEndCapture(stream, &captured));
    check_launch(kGeneration, cudaGraphInstantiate(&graph_, captured, 0));
    check_launch(kGeneration, cudaGraphUpload(graph_, stream));
    check_launch(kGeneration, cudaGraphDestroy(captured));
    check_launch(kGeneration, cudaStreamDestroy(stream));
  }
  void replay(cudaStream_t stream) const { check_launch(kGeneration, cudaGraphLaunch(graph_, stream)); }

 private:
  cudaGraphExec_t graph_ = nullptr;
};

/// What the kernels of a step hand on to each other.
struct Workspace {
  at::Tensor residual, normed, factors, stream_squares;           // of the stream
  at::Tensor projected, convolved, dt_B_C, inner, inner_squares;  // of a mixer
  at::Tensor best_value, best_token, history, position;           // of the head
};

int64_t states_per_token(const ModelConfig& c) { return c.dt_rank + 2 * c.d_state; }

template <class T>
Workspace make_workspace(const ModelConfig& c, const at::Tensor& like, int64_t batch) {
  const auto of = [&](at::ScalarType dtype, at::IntArrayRef shape) {
    return at::empty(shape, like.options().dtype(dtype));
  };
  const at::ScalarType compute = like.scalar_type();
  const int64_t head_parts = ops::step_head_parts<T>(batch, c.vocab_rows, c.d_model);
  Workspace w;
  w.residual = of(at::kFloat, {batch, c.d_model});
  w.normed = of(compute, {batch, c.d_model});
  w.factors = of(at::kFloat, {c.n_layer + 1, batch});
  w.stream_squares = of(at::kFloat, {batch, ops::step_out_parts<T>(batch, c.d_model)});
  w.projected = of(compute, {batch, c.in_proj_rows()});
  w.convolved = of(compute, {batch, c.conv_channels()});
  w.inner = of(compute, {batch, c.d_inner()});
  if (c.architecture == Architecture::kMamba1)
    w.dt_B_C = of(at::kFloat, {batch, states_per_token(c)});
  else
    w.inner_squares = of(at::kFloat, {batch, c.d_inner() / ops::kStepHeadRows});
  w.best_value = of(at::kFloat, {batch, head_parts});
  w.best_token = of(at::kInt, {batch, head_parts});
  w.history = of(at::kLong, {TokenGraph::kMostSteps, batch});
  w.position = of(at::kInt, {batch});
  return w;
}

/// The launches of one step of a model in T, its scan's states in S.
template <class T, class S>
class Step {
 public:
  Step(const MambaLM& model, const State& state, const Workspace& workspace, cudaStream_t stream)
      : config_(model.config()),
        store_(model.parameters()),
        state_(state),
        work_(workspace),
        stream_(stream),
        batch_(work_.position.size(0)) {}

  void launch_first(const at::Tensor& tokens) const {
    ops::StepEmbed<T> p = embed();
    set(p.tokens, tokens);
    check_launch(kGeneration, ops::launch_step_embed(p));
  }
  /// A token, from its embedding to that of the next one, kernel by kernel.
  void launch() const {
    for (int64_t layer = 0; layer < config_.n_layer; ++layer) {
      check_launch(kGeneration, ops::launch_step_in(in(layer)));
      if (config_.architecture == Architecture::kMamba1) {
        check_launch(kGeneration, ops::launch_step_rows(rows(layer)));
        check_launch(kGeneration, ops::launch_step_scan1(scan1(layer)));
      } else {
        check_launch(kGeneration, ops::launch_step_scan2(scan2(layer)));
      }
      check_launch(kGeneration, ops::launch_step_out(out(layer)));
    }
    check_launch(kGeneration, ops::launch_step_head(head()));
    check_launch(kGeneration, ops::launch_step_next(next()));
  }

 private:
  const float* value(const std::string& name) const {
    return store_.contains(name) ? data_or_null<const float>(store_.parameter(name)) : nullptr;
  }
  const T* compute(const std::string& name) const {
    return store_.contains(name) ? data_or_null<const T>(store_.compute(name)) : nullptr;
  }
  static std::string name(int64_t layer, const char* rest) {
    return "backbone.layers." + std::to_string(layer) + "." + rest;
  }
  const float* norm_weight(int64_t layer) const {
    return value(layer < config_.n_layer ? name(layer, "norm.weight") : "backbone.norm_f.weight");
  }
  float* factor(int64_t layer) const { return data_or_null<float>(work_.factors[layer]); }

  /// The stream's norm in front of `layer`, or of the head.
  ops::StepNorm stream_norm(int64_t layer) const {
    ops::StepNorm norm;
    set(norm.squares, work_.stream_squares);
    norm.parts = work_.stream_squares.size(1);
    norm.size = config_.d_model;
    norm.eps = static_cast<float>(config_.norm_eps);
    norm.carried = factor(layer);
    if (layer < config_.n_layer) norm.rstd = factor(layer + 1);
    return norm;
  }

  ops::StepProduct<T> product(int64_t rows, const at::Tensor& x, const std::string& weight,
                              const std::string& bias = "") const {
    ops::StepProduct<T> p;
    p.batch = batch_;
    p.rows = rows;
    p.inner = x.size(1);
    set(p.x, x);
    p.weight = compute(weight);
    p.bias = compute(bias);
    p.stream = stream_;
    return p;
  }

  ops::StepEmbed<T> embed() const {
    ops::StepEmbed<T> p;
    p.batch = batch_;
    p.size = config_.d_model;
    p.parts = work_.stream_squares.size(1);
    p.embedding = compute("backbone.embeddings.weight");
    p.norm_weight = norm_weight(0);
    p.eps = static_cast<float>(config_.norm_eps);
    set(p.residual, work_.residual);
    p.factor = factor(0);
    set(p.squares, work_.stream_squares);
    set(p.normed, work_.normed);
    p.stream = stream_;
    return p;
  }

  /// For few sequences, whose kernels leave the memory idle for most of their time.
  ops::StepAhead ahead(int64_t layer, const char* rest) const {
    if (batch_ > ops::kStepFew || layer == config_.n_layer) return {};
    const at::Tensor weight = store_.compute(name(layer, rest));
    return {weight.const_data_ptr(), static_cast<int64_t>(weight.nbytes())};
  }

  ops::StepIn<T> in(int64_t layer) const {
    ops::StepIn<T> p;
    p.product = product(config_.in_proj_rows(), work_.normed, name(layer, "mixer.in_proj.weight"),
                        name(layer, "mixer.in_proj.bias"));
    p.product.norm = stream_norm(layer);
    p.product.ahead[0] = ahead(layer, "mixer.out_proj.weight");
    if (config_.architecture == Architecture::kMamba1)
      p.product.ahead[1] = ahead(layer, "mixer.x_proj.weight");
    set(p.projected, work_.projected);
    p.conv_begin = config_.architecture == Architecture::kMamba1 ? 0 : config_.d_inner();
    p.conv_channels = config_.conv_channels();
    p.conv_width = config_.d_conv;
    p.activation = config_.activation;
    p.conv_weight = value(name(layer, "mixer.conv1d.weight"));
    p.conv_bias = value(name(layer, "mixer.conv1d.bias"));
    set(p.conv_state, state_.conv[layer]);
    set(p.convolved, work_.convolved);
    return p;
  }

  ops::StepRows<T> rows(int64_t layer) const {
    ops::StepRows<T> p;
    p.product = product(states_per_token(config_), work_.convolved, name(layer, "mixer.x_proj.weight"));
    set(p.out, work_.dt_B_C);
    return p;
  }

  ops::StepScan1<T, S> scan1(int64_t layer) const {
    ops::StepScan1<T, S> p;
    p.batch = batch_;
    p.channels = config_.d_inner();
    p.dt_rank = config_.dt_rank;
    set(p.dt_B_C, work_.dt_B_C);
    p.dt_weight = compute(name(layer, "mixer.dt_proj.weight"));
    p.dt_bias = value(name(layer, "mixer.dt_proj.bias"));
    p.A_log = value(name(layer, "mixer.A_log"));
    p.skip = value(name(layer, "mixer.D"));
    set(p.convolved, work_.convolved);
    set(p.projected, work_.projected);
    set(p.state, state_.ssm[layer]);
    set(p.inner, work_.inner);
    p.stream = stream_;
    return p;
  }

  ops::StepScan2<T, S> scan2(int64_t layer) const {
    ops::StepScan2<T, S> p;
    p.batch = batch_;
    p.heads = config_.heads();
    p.head_size = config_.headdim;
    p.states = config_.d_state;
    p.dt_min = static_cast<float>(config_.dt_limit[0]);
    p.dt_max = static_cast<float>(config_.dt_limit[1]);
    p.A_log = value(name(layer, "mixer.A_log"));
    p.skip = value(name(layer, "mixer.D"));
    p.dt_bias = value(name(layer, "mixer.dt_bias"));
    p.norm_weight = value(name(layer, "mixer.norm.weight"));
    set(p.convolved, work_.convolved);
    set(p.projected, work_.projected);
    set(p.state, state_.ssm[layer]);
    set(p.normed, work_.inner);
    set(p.squares, work_.inner_squares);
    p.stream = stream_;
    return p;
  }

  ops::StepOut<T> out(int64_t layer) const {
    ops::StepOut<T> p;
    p.product = product(config_.d_model, work_.inner, name(layer, "mixer.out_proj.weight"),
                        name(layer, "mixer.out_proj.bias"));
    if (work_.inner_squares.defined()) {
      set(p.product.norm.squares, work_.inner_squares);
      p.product.norm.parts = work_.inner_squares.size(1);
      p.product.norm.size = config_.d_inner();
      p.product.norm.eps = static_cast<float>(config_.norm_eps);
    }
    p.product.ahead[0] = ahead(layer + 1, "mixer.in_proj.weight");
    set(p.residual, work_.residual);
    p.next_weight = norm_weight(layer + 1);
    p.factor = factor(layer + 1);
    set(p.normed, work_.normed);
    set(p.squares, work_.stream_squares);
    return p;
  }

  ops::StepHead<T> head() const {
    ops::StepHead<T> p;
    p.product = product(config_.vocab_rows, work_.normed,
                        config_.tie_embeddings ? "backbone.embeddings.weight" : "lm_head.weight");
    p.product.norm = stream_norm(config_.n_layer);
    p.vocab_size = config_.vocab_size;
    set(p.best_value, work_.best_value);
    set(p.best_token, work_.best_token);
    return p;
  }

  ops::StepNext<T> next() const {
    ops::StepNext<T> p;
    p.parts = work_.best_value.size(1);
    set(p.best_value, work_.best_value);
    set(p.best_token, work_.best_token);
    set(p.position, work_.position);
    set(p.history, work_.history);
    p.embed = embed();
    return p;
  }

  const ModelConfig& config_;
  const ParameterStore& store_;
  const State& state_;
  const Workspace& work_;
  cudaStream_t stream_;
  int64_t batch_;
};

/// Whether rows of `size` elements of the compute dtype begin on 16 bytes.
bool has_pieces(const MambaLM& model, int64_t size) {
  return size * static_cast<int64_t>(at::elementSize(model.placement().compute_dtype)) % 16 == 0;
}

}  // namespace

class TokenGraph::Implementation {
 public:
  Implementation(const MambaLM& model, int64_t batch, at::ScalarType state_dtype) : model_(model) {
    const ModelConfig& c = model.config();
    const at::Tensor like = model.parameters().compute("backbone.embeddings.weight");
    ops::dispatch_cuda(like.scalar_type(), [&]<class T>() { work_ = make_workspace<T>(c, like, batch); });
    std::vector<int64_t> ssm_shape = {c.n_layer * batch, c.d_inner(), c.d_state};
    if (c.architecture == Architecture::kMamba2)
      ssm_shape = {c.n_layer * batch, c.heads(), c.headdim, c.d_state};
    conv_ = at::empty({c.n_layer * batch, c.d_conv - 1, c.conv_channels()}, like.options().dtype(at::kFloat));
    ssm_ = at::empty(ssm_shape, like.options().dtype(state_dtype));
    state_ = {conv_.split(batch), ssm_.split(batch)};
    captured_ = std::async(std::launch::async, [this, device = like.device()] {
      const c10::DeviceGuard guard(device);
      graph_.capture(
          [&](cudaStream_t stream) { with_step(stream, [](const auto& step) { step.launch(); }); });
    });
  }

  void begin(const State& state, const at::Tensor& tokens) {
    conv_.copy_(at::cat(state.conv).transpose(1, 2));
    at::cat_out(ssm_, state.ssm);
    const at::Tensor first = tokens.to(ssm_.device());
    with_step(ops::stream_of(first), [&](const auto& step) { step.launch_first(first); });
    captured_.get();
  }

  at::Tensor run(int64_t steps) {
    core::require(steps > 0 && steps <= kMostSteps, "generation: {} steps at once, but 1 to {} are possible",
                  steps, kMostSteps);
    const cudaStream_t stream = ops::stream_of(work_.position);
    work_.position.zero_();
    for (int64_t step = 0; step < steps; ++step) graph_.replay(stream);
    return work_.history.narrow(0, 0, steps).cpu();
  }

  State state() const {
    State state = state_;
    for (at::Tensor& conv : state.conv) conv = conv.transpose(1, 2);
    return state;
  }

 private:
  template <class Body>
  void with_step(cudaStream_t stream, const Body& body) const {
    ops::dispatch_cuda(model_.placement().compute_dtype, [&]<class T>() {
      if (state_.ssm[0].scalar_type() == at::kFloat)
        body(Step<T, float>(model_, state_, work_, stream));
      else
        body(Step<T, __nv_bfloat16>(model_, state_, work_, stream));
    });
  }

  const MambaLM& model_;
  at::Tensor conv_, ssm_;  // of all layers, one behind the other; the convolution's as (B, W-1, C)
  State state_;            // the layers' parts of them
  Workspace work_;
  CudaGraph graph_;
  std::future<void> captured_;  // ends before what it captures
};

bool TokenGraph::supports(const MambaLM& model) {
  const ModelConfig& c = model.config();
  if (!model.placement().device.is_cuda() || c.d_conv > ops::kStepMostConvWidth ||
      !has_pieces(model, c.d_model) || !has_pieces(model, c.d_inner()))
    return false;
  if (c.architecture == Architecture::kMamba1)
    return c.d_state == ops::kStepScanStates && c.dt_rank <= ops::kStepMostDtRank && c.dt_rank % 4 == 0;
  // In float16 what the gate makes could overflow before it is normalised.
  return model.placement().compute_dtype != at::kHalf && c.ngroups == 1 &&
         c.headdim % ops::kStepHeadRows == 0 && c.d_state % 8 == 0 && c.d_state <= ops::kStepMostStates;
}

TokenGraph::TokenGraph(const MambaLM& model, int64_t batch, at::ScalarType state_dtype)
    : implementation_(std::make_unique<Implementation>(model, batch, state_dtype)) {}
TokenGraph::~TokenGraph() = default;
void TokenGraph::begin(const State& state, const at::Tensor& tokens) {
  implementation_->begin(state, tokens);
}
at::Tensor TokenGraph::run(int64_t steps) { return implementation_->run(steps); }
State TokenGraph::state() const { return implementation_->state(); }

}  // namespace exactmamba::models
