#include "eval/comet/comet_model.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string_view>
#include <unordered_map>

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros_like.h>
#include <fmt/format.h>

#include "core/device.h"
#include "core/error.h"
#include "core/log.h"
#include "core/stop_signal.h"

namespace exactmamba::eval {
namespace {

constexpr int64_t kBatchTokens = 2048, kGpuBatchTokens = 32768;
constexpr int64_t kSegmentsAtOnce = 1024;  // through the estimator

std::vector<double> softmax(const std::vector<double>& values) {
  const double most = *std::max_element(values.begin(), values.end());
  std::vector<double> out;
  for (const double value : values) out.push_back(std::exp(value - most));
  const double sum = std::accumulate(out.begin(), out.end(), 0.0);
  for (double& value : out) value /= sum;
  return out;
}

/// The projection of `values` onto the simplex (Martins & Astudillo 2016).
std::vector<double> sparsemax(const std::vector<double>& values) {
  std::vector<double> sorted = values;
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  double sum = 0, threshold = 0;
  for (size_t k = 0; k < sorted.size(); ++k) {
    sum += sorted[k];
    if (1 + static_cast<double>(k + 1) * sorted[k] > sum) threshold = (sum - 1) / static_cast<double>(k + 1);
  }
  std::vector<double> out;
  for (const double value : values) out.push_back(std::max(value - threshold, 0.0));
  return out;
}

/// Texts, the same one only once.
class DifferentTexts {
 public:
  int64_t index(const std::string& text) {
    const auto [place, added] = indices_.emplace(text, static_cast<int64_t>(texts_.size()));
    if (added) texts_.push_back(place->first);
    return place->second;
  }
  const std::vector<std::string_view>& texts() const { return texts_; }

 private:
  std::unordered_map<std::string_view, int64_t> indices_;  // views of the segments
  std::vector<std::string_view> texts_;
};

/// Of the tensor's rows those of `index`.
at::Tensor rows(const at::Tensor& tensor, const std::vector<int64_t>& index, int64_t begin, int64_t count) {
  const std::vector<int64_t> part(index.begin() + begin, index.begin() + begin + count);
  return tensor.index_select(0, core::copy_to(tensor.device(), at::tensor(part, at::kLong)));
}

/// <mask> is behind the pieces, which are one further than SentencePiece counts them.
void check_vocabulary(const CometFiles& files, const data::SentencePieceTokenizer& tokenizer,
                      const XlmrConfig& config) {
  core::require(tokenizer.vocab_size() + 2 == config.vocab_size,
                "{}: {} pieces are a vocabulary of {}, but {} says vocab_size {}",
                files.sentencepiece.string(), tokenizer.vocab_size(), tokenizer.vocab_size() + 2,
                files.encoder_config.string(), config.vocab_size);
}

}  // namespace

void check_comet_files(const std::filesystem::path& folder) { CometModel(folder, at::kMeta, at::kFloat); }

CometModel::CometModel(const std::filesystem::path& folder, const at::Device& device, at::ScalarType dtype)
    : CometModel(CometFiles(folder), device, dtype) {}

CometModel::CometModel(const CometFiles& files, const at::Device& device, at::ScalarType dtype)
    : device_(device),
      head_dtype_(dtype == at::kDouble ? at::kDouble : at::kFloat),
      encoder_config_(read_xlmr_config(files.encoder_config)),
      tokenizer_(files.sentencepiece) {
  const CometConfig config = read_comet_config(files.hparams);
  check_vocabulary(files, tokenizer_, encoder_config_);
  const CheckpointTensors tensors(files.checkpoint,
                                  device.is_meta() ? core::TorchRead::kShapes : core::TorchRead::kValues);
  encoder_.emplace(encoder_config_, tensors, device, dtype);
  read_head(config, tensors);
}

void CometModel::read_head(const CometConfig& config, const CheckpointTensors& tensors) {
  std::vector<double> scalars;
  for (int64_t i = 0; i <= encoder_config_.layers; ++i)
    scalars.push_back(tensors.number(fmt::format("layerwise_attention.scalar_parameters.{}", i)));
  layer_weights_ = config.sparsemax ? sparsemax(scalars) : softmax(scalars);
  const double gamma = tensors.number("layerwise_attention.gamma");
  for (double& weight : layer_weights_) weight *= gamma;

  int64_t in = 6 * encoder_config_.hidden_size;
  std::vector<int64_t> sizes = config.hidden_sizes;
  sizes.push_back(1);
  for (size_t i = 0; i < sizes.size(); ++i) {
    const std::string name = fmt::format("estimator.ff.{}", 3 * i);  // between them: Tanh and dropout
    const auto place = [&](const at::Tensor& tensor) {
      return core::copy_to(device_, tensor.to(head_dtype_).contiguous());
    };
    estimator_.push_back(
        {place(tensors.at(name + ".weight", {sizes[i], in})), place(tensors.at(name + ".bias", {sizes[i]}))});
    in = sizes[i];
  }
}

std::vector<int64_t> CometModel::ids(std::string_view text) const {
  return tokenizer_.xlmr_ids(text, static_cast<size_t>(encoder_config_.positions - 4));
}

at::Tensor CometModel::mixed(const PackedTexts& texts) const {
  at::Tensor sum;
  encoder_->forward(texts, [&](int64_t index, const at::Tensor& hidden) {
    if (!sum.defined()) sum = at::zeros_like(hidden, hidden.options().dtype(head_dtype_));
    if (layer_weights_[index] != 0) sum.add_(hidden, layer_weights_[index]);
  });
  return sum;
}

at::Tensor CometModel::pooled(const PackedTexts& texts) const {
  const at::Tensor ids = core::copy_to(device_, at::tensor(texts.ids, at::kLong));
  at::Tensor tokens = mixed(texts);
  tokens.mul_(ids.ne(kXlmrPadId).unsqueeze(1));
  std::vector<at::Tensor> means;
  for (const auto& [begin, count, length] : texts.runs())
    means.push_back(tokens.narrow(0, begin, count * length).view({count, length, -1}).sum(1).div_(length));
  return at::cat(means);
}

at::Tensor CometModel::estimate(const at::Tensor& source, const at::Tensor& hypothesis,
                                const at::Tensor& reference) const {
  at::Tensor x = at::cat({hypothesis, reference, hypothesis * reference, (hypothesis - reference).abs_(),
                          hypothesis * source, (hypothesis - source).abs_()},
                         1);
  for (size_t i = 0; i < estimator_.size(); ++i) {
    if (i > 0) x.tanh_();
    x = at::linear(x, estimator_[i].weight, estimator_[i].bias);
  }
  return x.squeeze(1);
}

at::Tensor CometModel::vectors(const std::vector<std::vector<int64_t>>& texts,
                               const std::function<void(int64_t texts, int64_t total)>& done) const {
  const auto total = static_cast<int64_t>(texts.size()),
             most = device_.is_cuda() ? kGpuBatchTokens : kBatchTokens;
  std::vector<int64_t> order(texts.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return texts[a].size() > texts[b].size(); });
  at::Tensor out = at::empty({total, encoder_config_.hidden_size}, at::device(device_).dtype(head_dtype_));
  if (done) done(0, total);
  for (int64_t begin = 0, end = 0; begin < total; begin = end) {
    core::stop_if_asked("scoring");
    PackedTexts batch;
    for (; end < total; ++end) {
      const std::vector<int64_t>& ids = texts[order[end]];
      if (end > begin && static_cast<int64_t>(batch.ids.size() + ids.size()) > most) break;
      batch.ids.insert(batch.ids.end(), ids.begin(), ids.end());
      batch.lengths.push_back(static_cast<int64_t>(ids.size()));
    }
    const std::vector<int64_t> place(order.begin() + begin, order.begin() + end);
    out.index_copy_(0, core::copy_to(device_, at::tensor(place, at::kLong)), pooled(batch));
    if (done) done(end, total);
  }
  return out;
}

std::vector<double> CometModel::scores(const std::vector<CometSegment>& segments,
                                       const std::function<void(int64_t texts, int64_t total)>& done) const {
  DifferentTexts different;
  std::vector<int64_t> sources, hypotheses, references;
  for (const CometSegment& segment : segments) {
    sources.push_back(different.index(segment.source));
    hypotheses.push_back(different.index(segment.hypothesis));
    references.push_back(different.index(segment.reference));
  }
  std::vector<std::vector<int64_t>> texts(different.texts().size());
  at::parallel_for(0, static_cast<int64_t>(texts.size()), 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) texts[i] = ids(different.texts()[i]);
  });
  const at::Tensor vectors_of = vectors(texts, done);
  std::vector<double> scores;
  const auto total = static_cast<int64_t>(segments.size());
  for (int64_t begin = 0; begin < total; begin += kSegmentsAtOnce) {
    const int64_t count = std::min(kSegmentsAtOnce, total - begin);
    const at::Tensor part =
        estimate(rows(vectors_of, sources, begin, count), rows(vectors_of, hypotheses, begin, count),
                 rows(vectors_of, references, begin, count))
            .to(at::kDouble)
            .cpu();
    scores.insert(scores.end(), part.const_data_ptr<double>(), part.const_data_ptr<double>() + count);
  }
  return scores;
}

std::vector<double> comet_scores(const CometModel& model, const std::vector<CometSegment>& segments,
                                 const std::string& label) {
  std::optional<core::Progress> progress;
  return model.scores(segments, [&](int64_t texts, int64_t total) {
    if (!progress) progress.emplace(label, total, "text");
    progress->update(texts, static_cast<double>(texts));
  });
}

}  // namespace exactmamba::eval
