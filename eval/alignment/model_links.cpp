#include "eval/alignment/model_links.h"

#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/ops/tensor.h>

#include "eval/alignment/words.h"

namespace exactmamba::eval {
namespace {

struct WordedSentence {
  std::vector<int64_t> ids, words;  // [token]
  int64_t length;
};

WordedSentence worded(const data::Tokenizer& tokenizer, int64_t separator, int64_t end,
                      const std::string& sentence) {
  const data::Encoding encoding = tokenizer.encode_with_offsets(sentence);
  const std::vector<int64_t> words = words_of_tokens(sentence, encoding.offsets);
  WordedSentence result{{}, {}, static_cast<int64_t>(words_of(sentence).size())};
  for (size_t t = 0; t < words.size(); ++t) {
    const int64_t id = encoding.ids[t];
    if (id == separator || id == end) continue;
    result.ids.push_back(id);
    result.words.push_back(words[t]);
  }
  return result;
}

bool is_rollout(const std::string& method) { return method.ends_with("rollout"); }

/// Sums of the layers' word maps, by method.
class LayerMeans {
 public:
  void add(const decomp::InteractionMap& map, const at::Tensor& words) {
    at::Tensor& sum = sums_[{map.method, map.approximation, kLayerMean}];
    sum = sum.defined() ? sum + words : words;
  }
  const std::map<MapKey, at::Tensor>& sums() const { return sums_; }  // whose best words are the means'

 private:
  std::map<MapKey, at::Tensor> sums_;
};

}  // namespace

bool has_whole_model(const std::string& method) { return is_rollout(method) || method == "alti_logit"; }
bool has_layer_mean(const std::string& method) { return !is_rollout(method) && method != "alti_logit_mixed"; }

AlignmentRow alignment_row(const data::Tokenizer& tokenizer, int64_t separator, int64_t end,
                           const data::SentencePair& pair) {
  WordedSentence source = worded(tokenizer, separator, end, pair.source),
                 target = worded(tokenizer, separator, end, pair.target);
  AlignmentRow row{std::move(source.ids),
                   {std::move(source.words), std::move(target.words), {source.length, target.length}}};
  row.ids.push_back(separator);
  row.ids.insert(row.ids.end(), target.ids.begin(), target.ids.end());
  row.ids.push_back(end);
  return row;
}

MapLinks model_links(const models::MambaLM& model, const AlignmentRow& row, int64_t index,
                     const decomp::DecomposeOptions& options, AlignmentRows rows) {
  decomp::Row input{.input_ids = at::tensor(row.ids), .cu_seqlens = {}, .targets = {}, .index = index};
  input.targets = decomp::next_tokens(input);
  const int64_t source_words = row.words.lengths.source, last = model.config().n_layer - 1;
  MapLinks links;
  LayerMeans means;
  decomp::decompose_row(model, "", input, options, [&](const decomp::InteractionMap& map) {
    const at::Tensor words = word_map(map.values, row.words, rows);
    MapKey key{map.method, map.approximation, map.layer};
    links[key] = best_links(words, source_words);
    if (is_rollout(map.method) && map.layer == last) {
      key.layer = decomp::kWholeModel;
      links[key] = best_links(words, source_words);
    }
    if (map.layer != decomp::kWholeModel && has_layer_mean(map.method)) means.add(map, words);
  });
  for (const auto& [key, sum] : means.sums()) links[key] = best_links(sum, source_words);
  return links;
}

}  // namespace exactmamba::eval
