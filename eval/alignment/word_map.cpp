#include "eval/alignment/word_map.h"

#include <algorithm>
#include <limits>

#include <ATen/ops/div.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include "core/error.h"

namespace exactmamba::eval {
namespace {

constexpr double kNothing = -std::numeric_limits<double>::infinity();

/// The column that each source token is added to, and how many columns there are.
struct Columns {
  std::vector<int64_t> of_token;
  int64_t count;
};

Columns columns_of(const std::vector<int64_t>& source_words, int64_t words) {
  Columns columns{{}, words};
  for (const int64_t word : source_words) columns.of_token.push_back(word < 0 ? columns.count++ : word);
  return columns;
}

}  // namespace

at::Tensor word_map(const at::Tensor& token_map, const std::vector<int64_t>& source_words,
                    const std::vector<int64_t>& target_words, const SentenceLengths& lengths) {
  const Columns columns = columns_of(source_words, lengths.source);
  at::Tensor words = at::full({lengths.target, columns.count}, kNothing, at::kDouble);
  at::Tensor tokens = at::zeros({lengths.target, 1}, at::kDouble);
  const at::Tensor values = token_map.to(at::kDouble).contiguous();
  for (size_t t = 0; t < target_words.size(); ++t) {
    if (target_words[t] < 0) continue;
    tokens.data_ptr<double>()[target_words[t]] += 1;
    const double* from = values.const_data_ptr<double>() + static_cast<int64_t>(t) * values.size(1);
    double* to = words.data_ptr<double>() + target_words[t] * columns.count;
    for (size_t s = 0; s < source_words.size(); ++s) {
      double& sum = to[columns.of_token[s]];
      sum = (sum == kNothing ? 0 : sum) + from[s];
    }
  }
  return words.div_(tokens);  // last, so that equal sums stay equal
}

at::Tensor word_map(const at::Tensor& map, const WordedRow& row, AlignmentRows rows) {
  const int64_t first = row.target_begin() - (rows == AlignmentRows::kAwo ? 1 : 0);
  const auto count = static_cast<int64_t>(row.target_words.size());
  core::require(map.size(0) >= first + count && map.size(1) >= row.target_begin(),
                "a map of {} × {} does not hold {} source and {} target tokens", map.size(0), map.size(1),
                row.source_words.size(), count);
  std::vector<int64_t> columns = row.source_words;
  columns.push_back(-1);  // <SEP>
  return word_map(map.narrow(0, first, count).narrow(1, 0, row.target_begin()), columns, row.target_words,
                  row.lengths);
}

Links best_links(const at::Tensor& words, int64_t source_words) {
  Links links;
  const at::Tensor values = words.contiguous();
  for (int64_t target = 0; target < values.size(0); ++target) {
    const double* row = values.const_data_ptr<double>() + target * values.size(1);
    const int64_t best = std::max_element(row, row + values.size(1)) - row;
    if (best < source_words && row[best] != kNothing)
      links.insert({static_cast<int32_t>(best), static_cast<int32_t>(target)});
  }
  return links;
}

}  // namespace exactmamba::eval
