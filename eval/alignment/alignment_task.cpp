#include "eval/alignment/alignment_task.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include <fmt/format.h>

#include "core/environment.h"
#include "core/error.h"
#include "core/hash.h"
#include "eval/alignment/files.h"
#include "eval/alignment/words.h"

namespace exactmamba::eval {
namespace {

template <class T>
void append(std::vector<T>& all, std::vector<T> more) {
  std::move(more.begin(), more.end(), std::back_inserter(all));
}

template <class T>
std::vector<T> test_part(const std::vector<T>& all, size_t development) {
  return {all.begin() + static_cast<std::ptrdiff_t>(development), all.end()};
}

}  // namespace

AlignmentTask read_aligned_pairs(const std::string& sentences, const std::string& gold,
                                 const AlignmentOptions& options) {
  AlignmentTask task;
  data::read_pairs(core::expand_environment(sentences).string(), data::OnInvalidUtf8::kRefuse,
                   [&](const data::SentencePair& pair, const std::string&) {
                     task.pairs.push_back(pair);
                     task.lengths.push_back(lengths_of(pair));
                   });
  const AlignmentBounds bounds{task.size(), task.lengths, sentences};
  const AlignmentNotation notation{alignment_format(options.gold_format, "evaluate.alignment.gold_format"),
                                   options.gold_base == "1" ? 1 : 0, options.gold_target_first,
                                   "evaluate.alignment.gold_base"};
  task.gold = read_gold(core::expand_environment(gold), notation, bounds);
  return task;
}

void check_dev_pairs(const AlignmentOptions& options, size_t pairs) {
  core::require(static_cast<size_t>(options.dev_pairs) < pairs,
                "dev_pairs = {}, but {} has {} sentence pairs: none is left to test", options.dev_pairs,
                options.sentences, pairs);
}

AlignmentTask read_alignment_task(const AlignmentOptions& options) {
  AlignmentTask task;
  if (!options.dev_sentences.empty())
    task = read_aligned_pairs(options.dev_sentences, options.dev_gold, options);
  task.file_begin = task.size();
  task.development = task.size() + static_cast<size_t>(options.dev_pairs);
  AlignmentTask file = read_aligned_pairs(options.sentences, options.gold, options);
  append(task.pairs, std::move(file.pairs));
  append(task.gold, std::move(file.gold));
  append(task.lengths, std::move(file.lengths));
  check_dev_pairs(options, task.size() - task.file_begin);
  return task;
}

std::string sentence_fingerprint(const AlignmentTask& task) {
  std::string text = fmt::format("{}\n", task.file_begin);
  for (const data::SentencePair& pair : task.pairs) text += pair.source + '\n' + pair.target + '\n';
  return core::hash_hex(text);
}

std::string gold_fingerprint(const AlignmentTask& task) {
  return core::hash_hex(fmt::format("{}\n", task.development) + alignment_text(task.gold, {}));
}

std::vector<SanityRow> test_sanity_rows(const AlignmentTask& task) {
  return sanity_rows(test_part(task.lengths, task.development), test_part(task.gold, task.development));
}

}  // namespace exactmamba::eval
