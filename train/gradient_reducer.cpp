#include "train/gradient_reducer.h"

#include <charconv>
#include <string_view>

namespace exactmamba::train {
namespace {

using models::Decay;

/// 7 for "backbone.layers.7.mixer.in_proj.weight"; -1 for a parameter of no block.
int64_t layer_of(std::string_view name) {
  constexpr std::string_view kPrefix = "backbone.layers.";
  int64_t layer = -1;
  if (name.starts_with(kPrefix))
    std::from_chars(name.data() + kPrefix.size(), name.data() + name.size(), layer);
  return layer;
}

/// Where each block's parameters with weight decay begin: [layer].
std::vector<int64_t> block_begins(const models::ParameterStore& store) {
  std::vector<int64_t> begins;
  for (const models::ParameterSpec& spec : store.specs()) {
    const bool first_of_block = layer_of(spec.name) == static_cast<int64_t>(begins.size());
    if (first_of_block && spec.decay == Decay::kYes) begins.push_back(store.offset(spec.name));
  }
  return begins;
}

}  // namespace

std::vector<GradientSlice> gradient_slices(const models::ParameterStore& store, int64_t bytes) {
  const std::vector<int64_t> begins = block_begins(store);
  const int64_t least = bytes / static_cast<int64_t>(at::elementSize(store.dtype()));
  std::vector<GradientSlice> slices;
  int64_t end = store.flat(Decay::kYes).numel();
  for (auto layer = static_cast<int64_t>(begins.size()) - 1; layer >= 0; --layer) {
    if (end - begins[layer] < least && layer > 0) continue;
    slices.push_back({layer, begins[layer]});
    end = begins[layer];
  }
  slices.push_back({-1, 0});
  return slices;
}

GradientReducer::GradientReducer(models::ParameterStore& store, core::Communicator& communicator,
                                 int64_t bytes)
    : store_(store), communicator_(communicator), slices_(gradient_slices(store, bytes)) {}

void GradientReducer::ready(int64_t layer) {
  const at::Tensor gradient = store_.flat_gradient(Decay::kYes);
  for (; started_ < slices_.size() && slices_[started_].layer >= layer; ++started_) {
    const int64_t end = started_ == 0 ? gradient.numel() : slices_[started_ - 1].begin;
    start(gradient.narrow(0, slices_[started_].begin, end - slices_[started_].begin));
  }
}

void GradientReducer::finish() {
  ready(-1);
  start(store_.flat_gradient(Decay::kNo));
  for (const auto& sum : sums_) sum->wait();
  sums_.clear();
}

void GradientReducer::start(const at::Tensor& gradient) {
  sums_.push_back(communicator_.start_sum(gradient));
}

}  // namespace exactmamba::train
