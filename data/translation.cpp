#include "data/translation.h"

#include <exception>
#include <unordered_set>
#include <utility>

#include <ATen/Parallel.h>

#include "core/error.h"
#include "core/hash.h"
#include "core/log.h"
#include "data/text_reader.h"

namespace exactmamba::data {
namespace {

constexpr size_t kBatch = size_t{1} << 20;  // bytes of text that the threads share

using Sentences = std::unordered_set<std::string>;

/// Every sentence of either side.
Sentences sentences_of(const TranslationSource& source) {
  Sentences sentences;
  for (const auto& file : source.exclude)
    read_pairs(file.string(), source.on_invalid, [&](const SentencePair& pair, const std::string&) {
      sentences.insert(pair.source);
      sentences.insert(pair.target);
    });
  return sentences;
}

void log_left_out(int64_t left_out, int64_t pairs, const std::string& name, const std::string& why) {
  if (left_out > 0)
    core::log_info(fmt::format("{}: {} of {} pairs left out: {}", name, left_out, pairs, why));
}

}  // namespace

/// Pairs on their way to rows: the threads encode a batch of them at a time.
class TranslationRows::Encoder {
 public:
  Encoder(TranslationRows& rows, OnLongPair on_long, int64_t context, bool keep_pairs)
      : rows_(rows), on_long_(on_long), context_(context), keep_pairs_(keep_pairs) {}

  void take(const SentencePair& pair, const std::string& where) {
    batch_.push_back({pair, where, {}, {}, nullptr});
    bytes_ += pair.source.size() + pair.target.size();
    if (bytes_ >= kBatch) flush();
  }

  void flush() {
    at::parallel_for(0, static_cast<int64_t>(batch_.size()), 1, [this](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) encode(batch_[i]);
    });
    for (Example& example : batch_) add(example);
    batch_.clear();
    bytes_ = 0;
  }

  int64_t dropped() const { return dropped_; }

 private:
  struct Example {
    SentencePair pair;
    std::string where;
    std::vector<int64_t> ids, targets;
    std::exception_ptr problem;
  };

  void encode(Example& example) const {
    try {
      example.ids = rows_.tokenizer_.prompt(example.pair.source);
      example.targets.assign(example.ids.size() - 1, kIgnoredTarget);
      const std::vector<int64_t> target = rows_.tokenizer_.encode(example.pair.target);
      example.ids.insert(example.ids.end(), target.begin(), target.end());
      example.targets.insert(example.targets.end(), target.begin(), target.end());
      example.ids.push_back(rows_.tokenizer_.end());
      example.targets.push_back(rows_.tokenizer_.end());
      example.targets.push_back(kIgnoredTarget);
    } catch (const core::InputError& error) {
      example.problem =
          std::make_exception_ptr(core::InputError(fmt::format("{}: {}", example.where, error.what())));
    }
  }

  void add(Example& example) {
    if (example.problem) std::rethrow_exception(example.problem);
    const auto length = static_cast<int64_t>(example.ids.size());
    core::require(length <= context_ || on_long_ == OnLongPair::kDrop,
                  "{}: the pair has {} tokens and does not fit into data.context = {}; raise it, or set "
                  "data.on_long_pair = \"drop\"",
                  example.where, length, context_);
    if (length > context_) {
      ++dropped_;
      return;
    }
    rows_.rows_.append(example.ids, example.targets);
    if (keep_pairs_) rows_.pairs_.push_back(std::move(example.pair));
  }

  TranslationRows& rows_;
  OnLongPair on_long_;
  int64_t context_;
  bool keep_pairs_;
  std::vector<Example> batch_;
  size_t bytes_ = 0;
  int64_t dropped_ = 0;
};

TranslationRows::TranslationRows(const TranslationSource& source, const TranslationTokenizer& tokenizer,
                                 int64_t context, RowLayout layout)
    : name_(file_names(source.files)),
      tokenizer_(tokenizer),
      rows_(tokenizer.tokenizer()->vocab_size(), context, layout) {
  const Sentences excluded = sentences_of(source);
  Encoder encoder(*this, source.on_long, context, layout == RowLayout::kOneExample);
  int64_t pairs = 0, bad = 0, removed = 0;
  Tolerance tolerance(source.on_invalid);
  if (source.on_bad_record == OnBadRecord::kSkip)
    tolerance.skip = [&](const std::string& problem) {
      if (bad++ == 0) core::log_warning(fmt::format("{} (left out: data.on_bad_record)", problem));
    };
  const auto take = [&](const SentencePair& pair, const std::string& where) {
    ++pairs;
    if (excluded.contains(pair.source) || excluded.contains(pair.target))
      ++removed;
    else
      encoder.take(pair, where);
  };
  for (const auto& file : source.files) read_pairs(file.string(), tolerance, take);
  encoder.flush();
  log_left_out(bad, pairs + bad, name_, "bad records (data.on_bad_record)");
  log_left_out(removed, pairs, name_, "a side of theirs stands in data.exclude");
  log_left_out(encoder.dropped(), pairs, name_, fmt::format("more than data.context = {} tokens", context));
  core::require(!rows_.empty(), "there is no pair of sentences in {}{}", name_,
                pairs > 0 ? " but those that are left out" : "");
  rows_.pack();
}

std::string TranslationRows::fingerprint() const {
  return core::hash_hex(
      fmt::format("translation 1; tokenizer {}; {}", tokenizer_.tokenizer()->name(), rows_.identity()));
}

}  // namespace exactmamba::data
