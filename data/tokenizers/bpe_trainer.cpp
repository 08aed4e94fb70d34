#include "data/tokenizers/bpe_trainer.h"

#include <algorithm>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "core/error.h"
#include "core/utf8.h"
#include "data/tokenizers/byte_characters.h"
#include "data/tokenizers/nfc.h"

namespace exactmamba::data {
namespace {

/// The vocabulary while it grows.
class Vocabulary {
 public:
  explicit Vocabulary(const std::vector<std::string>& special_tokens) {
    for (const std::string& token : special_tokens) id_of(token);
    std::vector<std::string> alphabet(byte_characters().begin(), byte_characters().end());
    std::sort(alphabet.begin(), alphabet.end());  // UTF-8 sorts as code points do
    for (const std::string& character : alphabet) id_of(character);
  }
  /// Of a token, new or not.
  int32_t id_of(const std::string& token) {
    const auto [place, added] = ids_.emplace(token, static_cast<int32_t>(tokens_.size()));
    if (added) tokens_.push_back(token);
    return place->second;
  }
  const std::vector<std::string>& tokens() const { return tokens_; }

 private:
  std::vector<std::string> tokens_;
  std::unordered_map<std::string, int32_t> ids_;
};

struct Pair {
  int32_t left, right;
  auto operator<=>(const Pair&) const = default;
};
struct PairHash {
  size_t operator()(const Pair& pair) const {
    return std::hash<uint64_t>()((static_cast<uint64_t>(pair.left) << 32) |
                                 static_cast<uint32_t>(pair.right));
  }
};

/// The words as ids, with how often each pair of neighbours stands in them.
class Corpus {
 public:
  void add(std::vector<int32_t> symbols, int64_t count) {
    words_.push_back({std::move(symbols), count});
    count_pairs(words_.size() - 1, 1);
    for (const Pair& pair : pairs_of(words_.back().symbols)) remember(pair, words_.size() - 1);
  }

  /// The most frequent pair, the smallest of several; its count is 0 when there is none.
  std::pair<Pair, int64_t> best() {
    while (!heap_.empty()) {
      std::pop_heap(heap_.begin(), heap_.end());
      const Entry top = heap_.back();
      heap_.pop_back();
      const int64_t count = pairs_[top.pair].count;
      if (count == top.count) return {top.pair, count};
      if (count > 0) push(top.pair, count);  // it has become rarer since
    }
    return {{}, 0};
  }

  void merge(const Pair& pair, int32_t id) {
    std::unordered_set<Pair, PairHash> grown;
    for (const size_t word : std::exchange(pairs_[pair].words, {})) merge_in_word(word, pair, id, grown);
    for (const Pair& each : grown) push(each, pairs_[each].count);
  }

  void push_all() {
    for (const auto& [pair, found] : pairs_) push(pair, found.count);
  }

 private:
  struct Word {
    std::vector<int32_t> symbols;
    int64_t count;
  };
  struct Found {
    int64_t count = 0;
    std::vector<uint32_t> words;  // where it stands, or stood
  };
  struct Entry {
    int64_t count;
    Pair pair;
    bool operator<(const Entry& other) const {  // the largest comes first out of a heap
      return count != other.count ? count < other.count : pair > other.pair;
    }
  };

  static std::vector<Pair> pairs_of(const std::vector<int32_t>& symbols) {
    std::vector<Pair> pairs;
    for (size_t i = 1; i < symbols.size(); ++i) pairs.push_back({symbols[i - 1], symbols[i]});
    return pairs;
  }

  void count_pairs(size_t word, int64_t sign) {
    for (const Pair& pair : pairs_of(words_[word].symbols)) pairs_[pair].count += sign * words_[word].count;
  }

  void remember(const Pair& pair, size_t word) {
    std::vector<uint32_t>& words = pairs_[pair].words;
    if (words.empty() || words.back() != word) words.push_back(static_cast<uint32_t>(word));
  }

  void merge_in_word(size_t word, const Pair& pair, int32_t id, std::unordered_set<Pair, PairHash>& grown) {
    std::vector<int32_t>& symbols = words_[word].symbols;
    const auto stands_at = [&](size_t i) {
      return i + 1 < symbols.size() && symbols[i] == pair.left && symbols[i + 1] == pair.right;
    };
    std::vector<int32_t> merged;
    for (size_t i = 0; i < symbols.size(); ++i) {
      const bool here = stands_at(i);
      merged.push_back(here ? id : symbols[i]);
      if (here) ++i;
    }
    if (merged.size() == symbols.size()) return;  // an earlier merge took the pair away
    count_pairs(word, -1);
    symbols = std::move(merged);
    count_pairs(word, 1);
    for (const Pair& each : pairs_of(symbols)) {
      if (each.left != id && each.right != id) continue;
      remember(each, word);
      grown.insert(each);
    }
  }

  void push(const Pair& pair, int64_t count) {
    heap_.push_back({count, pair});
    std::push_heap(heap_.begin(), heap_.end());
  }

  std::vector<Word> words_;
  std::unordered_map<Pair, Found, PairHash> pairs_;
  std::vector<Entry> heap_;  // for every pair one with its count or more
};

Corpus corpus_of(const WordMap<int64_t>& counts, Vocabulary& vocabulary) {
  Corpus corpus;
  for (const auto& [word, count] : counts) {
    std::vector<int32_t> symbols;
    for (const char c : word)
      symbols.push_back(vocabulary.id_of(byte_characters()[static_cast<unsigned char>(c)]));
    corpus.add(std::move(symbols), count);
  }
  corpus.push_all();
  return corpus;
}

}  // namespace

std::string special_tokens_problem(const std::vector<std::string>& tokens) {
  std::set<std::string> seen;
  for (const std::string& token : tokens) {
    const std::string shown = core::printable(token);
    if (token.empty() || core::find_invalid_utf8(token))
      return fmt::format("the special token '{}' must be text", shown);
    if (!seen.insert(token).second)
      return fmt::format("the special token '{}' is given twice; leave one out", shown);
  }
  for (const std::string& token : tokens) {
    if (std::ranges::find(byte_characters(), token) != byte_characters().end())
      return fmt::format(
          "the special token '{}' is the token of a byte already; write it with more characters", token);
  }
  return "";
}

std::string vocab_size_problem(int64_t vocab_size, const std::vector<std::string>& special_tokens) {
  const auto smallest = static_cast<int64_t>(Vocabulary(special_tokens).tokens().size());
  if (vocab_size >= smallest && vocab_size <= kMostTokens) return "";
  return fmt::format(
      "a vocabulary of {} tokens is not between {}, for the bytes and {} special tokens, and {}", vocab_size,
      smallest, special_tokens.size(), kMostTokens);
}

BpeTrainer::BpeTrainer(BpeTrainingOptions options) : options_(std::move(options)), splitter_(pattern_) {
  std::string problem = special_tokens_problem(options_.special_tokens);
  if (problem.empty()) problem = vocab_size_problem(options_.vocab_size, options_.special_tokens);
  core::require(problem.empty(), "{}", problem);
}

void BpeTrainer::add(std::string_view text) {
  core::require_utf8(text);
  const std::string normalized = options_.nfc && !is_surely_nfc(text) ? nfc(text) : std::string();
  splitter_.split(normalized.empty() ? text : normalized, [this](std::string_view word) {
    const auto found = counts_.find(word);
    found == counts_.end() ? counts_.emplace(word, 1).first->second : ++found->second;
  });
}

BpeSpec BpeTrainer::train(const std::function<void(int64_t tokens)>& told) const {
  Vocabulary vocabulary(options_.special_tokens);
  Corpus corpus = corpus_of(counts_, vocabulary);
  BpeSpec spec{.nfc = options_.nfc, .trim_offsets = true};
  const int64_t fewest = std::max<int64_t>(1, options_.min_frequency);
  while (static_cast<int64_t>(vocabulary.tokens().size()) < options_.vocab_size) {
    const auto [pair, count] = corpus.best();
    if (count < fewest) break;
    const std::string left = vocabulary.tokens()[pair.left], right = vocabulary.tokens()[pair.right];
    spec.merges.emplace_back(left, right);
    corpus.merge(pair, vocabulary.id_of(left + right));
    if (told) told(static_cast<int64_t>(vocabulary.tokens().size()));
  }
  spec.vocab = vocabulary.tokens();
  for (size_t id = 0; id < options_.special_tokens.size(); ++id)
    spec.added_tokens.push_back({static_cast<int64_t>(id), options_.special_tokens[id], true, false});
  return spec;
}

}  // namespace exactmamba::data
