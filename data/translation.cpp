#include "data/translation.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <unordered_map>
#include <utility>

#include "core/error.h"
#include "core/hash.h"
#include "core/log.h"
#include "data/encode_batch.h"
#include "data/sentence_key.h"
#include "data/text_reader.h"

namespace exactmamba::data {
namespace {

constexpr size_t kBatchBytes = size_t{1} << 20;  // bytes of text that the threads share

/// Sentences of files that pairs must not stand in, of either side, by their keys.
class Excluded {
 public:
  explicit Excluded(const TranslationSource& source) {
    for (size_t file = 0; file < source.exclude.size(); ++file)
      read_pairs(source.exclude[file].string(), source.on_invalid,
                 [&](const SentencePair& pair, const std::string&) {
                   files_.emplace(sentence_key(pair.source), file);
                   files_.emplace(sentence_key(pair.target), file);
                 });
  }

  /// The first file that has a side of `pair`.
  std::optional<size_t> file_with(const SentencePair& pair) const {
    if (files_.empty()) return std::nullopt;
    const auto source = files_.find(sentence_key(pair.source)),
               target = files_.find(sentence_key(pair.target));
    if (source == files_.end() && target == files_.end()) return std::nullopt;
    if (source == files_.end() || target == files_.end())
      return source == files_.end() ? target->second : source->second;
    return std::min(source->second, target->second);
  }

 private:
  std::unordered_map<std::string, size_t> files_;  // the first that has the sentence
};

/// Whether one side has more than `most` times the tokens of the other, or none.
bool is_uneven(int64_t source, int64_t target, double most) {
  const auto [fewer, more] = std::minmax(source, target);
  return most > 0 && (fewer == 0 || static_cast<double>(more) > most * static_cast<double>(fewer));
}

/// What becomes of a pair, by its tokens.
enum class Fate { kRow, kUneven, kLong };

/// @throws InputError for a pair that is too long and may not be dropped
Fate fate_of(const TranslationSource& source, int64_t context, int64_t source_tokens, int64_t target_tokens,
             const std::string& where) {
  if (is_uneven(source_tokens, target_tokens, source.max_ratio)) return Fate::kUneven;
  const int64_t length = source_tokens + target_tokens + 2;  // with the separator and the end
  core::require(length <= context || source.on_long == OnLongPair::kDrop,
                "{}: the pair has {} tokens and does not fit into data.context = {}; raise it, or, of "
                "training pairs, set data.on_long_pair = \"drop\"",
                where, length, context);
  return length <= context ? Fate::kRow : Fate::kLong;
}

}  // namespace

PairCounts read_wanted(const TranslationSource& source, const Tolerance& tolerance, const TakePair& take) {
  const Excluded excluded(source);
  PairCounts counts;
  counts.excluded.resize(source.exclude.size());
  const auto choose = [&](const SentencePair& pair, const std::string& where) {
    ++counts.pairs;
    if (const auto file = excluded.file_with(pair))
      ++counts.excluded[*file];
    else if (!source.lengths.allow(pair.source) || !source.lengths.allow(pair.target))
      ++counts.unfit;
    else
      take(pair, where);
  };
  for (const auto& file : source.files) read_pairs(file.string(), tolerance, choose);
  return counts;
}

void require_pairs(bool any, const TranslationSource& source, const PairCounts& counts,
                   const LeftOut& left_out) {
  const int64_t excluded = std::accumulate(counts.excluded.begin(), counts.excluded.end(), int64_t{0});
  core::require(any, "there is no pair of sentences in {}{}", file_names(source.files),
                left_out_text({{excluded, "of which a side stands in data.exclude"},
                               {counts.unfit, fmt::format("of other lengths ({})", source.lengths.text())},
                               {counts.pairs - excluded - counts.unfit,
                                "longer than data.context, or more uneven than data.max_pair_ratio"}},
                              left_out));
}

void check_rows(const TranslationSource& source, const TranslationTokenizer* tokenizer, int64_t context) {
  LeftOut left_out;
  const Tolerance tolerance = counting_quietly(left_out, source.on_invalid, source.on_bad_record);
  const auto tokens = [tokenizer](const std::string& text) {
    return static_cast<int64_t>(tokenizer->encode(text).size());
  };
  bool any = false;
  const PairCounts counts =
      read_wanted(source, tolerance, [&](const SentencePair& pair, const std::string& where) {
        if (any && source.on_long == OnLongPair::kDrop) return;  // nothing can be refused any more
        const Fate fate = tokenizer == nullptr
                              ? Fate::kRow
                              : fate_of(source, context, tokens(pair.source), tokens(pair.target), where);
        any = any || fate == Fate::kRow;
      });
  require_pairs(any, source, counts, left_out);
}

/// Pairs on their way to rows.
class TranslationRows::Maker {
 public:
  Maker(TranslationRows& rows, const TranslationSource& source, int64_t context, bool keep_pairs)
      : rows_(rows), source_(source), context_(context), keep_pairs_(keep_pairs) {}

  void read() {
    LeftOut left_out;
    EncodeBatch<Example> batch(
        kBatchBytes, [this](Example& example) { encode(example); },
        [this](std::span<Example> examples) {
          for (Example& example : examples) add(example);
        });
    const PairCounts counts =
        read_wanted(source_, counting(left_out, source_.on_invalid, source_.on_bad_record),
                    [&batch](const SentencePair& pair, const std::string& where) {
                      batch.add({pair, where, 0, {}, {}}, pair.source.size() + pair.target.size());
                    });
    batch.flush();
    log_left_out(left_out, rows_.name_);
    log_counts(counts);
    require_pairs(!rows_.rows_.empty(), source_, counts, left_out);
  }

 private:
  struct Example {
    SentencePair pair;
    std::string where;
    int64_t source_tokens;
    std::vector<int64_t> ids, targets;
  };

  void encode(Example& example) const {
    const TranslationTokenizer& tokenizer = rows_.tokenizer_;
    example.ids = tokenizer.prompt(example.pair.source);
    example.source_tokens = static_cast<int64_t>(example.ids.size()) - 1;
    example.targets.assign(example.ids.size() - 1, kIgnoredTarget);
    const std::vector<int64_t> target = tokenizer.encode(example.pair.target);
    example.ids.insert(example.ids.end(), target.begin(), target.end());
    example.targets.insert(example.targets.end(), target.begin(), target.end());
    example.ids.push_back(tokenizer.end());
    example.targets.push_back(tokenizer.end());
    example.targets.push_back(kIgnoredTarget);
  }

  void add(Example& example) {
    const auto length = static_cast<int64_t>(example.ids.size());
    const Fate fate =
        fate_of(source_, context_, example.source_tokens, length - example.source_tokens - 2, example.where);
    uneven_ += fate == Fate::kUneven ? 1 : 0;
    long_ += fate == Fate::kLong ? 1 : 0;
    if (fate != Fate::kRow) return;
    rows_.rows_.append(example.ids, example.targets);
    if (keep_pairs_) rows_.pairs_.push_back(std::move(example.pair));
  }

  void log_counts(const PairCounts& counts) const {
    const auto log = [&](int64_t left_out, const std::string& why) {
      if (left_out > 0)
        core::log_info(
            fmt::format("{}: {} of {} pairs left out: {}", rows_.name_, left_out, counts.pairs, why));
    };
    for (size_t file = 0; file < counts.excluded.size(); ++file)
      log(counts.excluded[file],
          fmt::format("a side of theirs stands in {}{} (data.exclude)", source_.exclude[file].string(),
                      file > 0 ? " and in none before it" : ""));
    log(counts.unfit, "a side of other lengths than " + source_.lengths.text());
    log(uneven_, fmt::format("one side has more than data.max_pair_ratio = {} times the tokens of the other",
                             source_.max_ratio));
    log(long_, fmt::format("more than data.context = {} tokens", context_));
  }

  TranslationRows& rows_;
  const TranslationSource& source_;
  int64_t context_;
  bool keep_pairs_;
  int64_t uneven_ = 0, long_ = 0;
};

TranslationRows::TranslationRows(const TranslationSource& source, const TranslationTokenizer& tokenizer,
                                 int64_t context, RowLayout layout)
    : name_(file_names(source.files)),
      tokenizer_(tokenizer),
      rows_(tokenizer.tokenizer()->vocab_size(), context, layout) {
  Maker(*this, source, context, layout == RowLayout::kOneExample).read();
  rows_.pack();
}

std::string TranslationRows::fingerprint() const {
  return core::hash_hex(
      fmt::format("translation 1; tokenizer {}; {}", tokenizer_.tokenizer()->name(), rows_.identity()));
}

}  // namespace exactmamba::data
