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

WordMaps model_word_maps(const models::MambaLM& model, const AlignmentRow& row, int64_t index,
                         const decomp::DecomposeOptions& options, AlignmentRows rows) {
  decomp::Row input{.input_ids = at::tensor(row.ids), .cu_seqlens = {}, .targets = {}, .index = index};
  input.targets = decomp::next_tokens(input);
  const int64_t n_layer = model.config().n_layer;
  WordMaps maps;
  decomp::decompose_row(model, "", input, options, [&](const decomp::InteractionMap& map) {
    const at::Tensor words = word_map(map.values, row.words, rows);
    const auto keep = [&](int64_t layer) -> at::Tensor& {
      return maps[{map.method, map.approximation, layer}];
    };
    keep(map.layer) = words;
    if (is_rollout(map.method) && map.layer == n_layer - 1) keep(decomp::kWholeModel) = words;
    if (map.layer == decomp::kWholeModel || !has_layer_mean(map.method)) return;
    at::Tensor& sum = keep(kLayerMean);
    sum = sum.defined() ? sum + words : words;
  });
  for (auto& [key, words] : maps)
    if (key.layer == kLayerMean) words = words / static_cast<double>(n_layer);
  return maps;
}

MapLinks model_links(const models::MambaLM& model, const AlignmentRow& row, int64_t index,
                     const decomp::DecomposeOptions& options, AlignmentRows rows) {
  MapLinks links;
  for (const auto& [key, words] : model_word_maps(model, row, index, options, rows))
    links[key] = best_links(words, row.words.lengths.source);
  return links;
}

}  // namespace exactmamba::eval
