#include "eval/shifted_edits.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <tuple>

namespace exactmamba::eval {
namespace {

constexpr size_t kLongestShift = 10;
constexpr size_t kFarthestShift = 50;
constexpr int64_t kBeam = 25;
constexpr int64_t kMostCandidates = 1000;

constexpr int32_t kUnreachable = 1 << 29;

/// What the search needs to know of the edits that lead from the hypothesis to the reference.
struct Alignment {
  std::vector<int64_t> position;          // [word of the reference]: the hypothesis's, −1: before its first
  std::vector<int64_t> reference_errors;  // [word + 1]: wrong words of the reference before it
  std::vector<int64_t> hypothesis_errors;
};

int64_t errors_in(const std::vector<int64_t>& before, size_t begin, size_t length) {
  return before[begin + length] - before[begin];
}

/// Edit distances of a hypothesis's beginnings and the reference's, within a beam around the diagonal, which
/// alone is kept. All hypotheses are of one length, the shifted ones of a single one.
class EditTable {
 public:
  EditTable(const Sequence& reference, size_t length)
      : reference_(reference),
        rows_(static_cast<int64_t>(length) + 1),
        columns_(static_cast<int64_t>(reference.size()) + 1) {
    ratio_ = length > 0 ? static_cast<double>(reference.size()) / static_cast<double>(length) : 1.0;
    beam_ = kBeam < ratio_ / 2 ? static_cast<int64_t>(std::ceil(ratio_ / 2 + kBeam)) : kBeam;
    width_ = 2 * beam_ + 1;
    cells_.resize(static_cast<size_t>(rows_ * width_));
  }

  /// Rows of words that the hypothesis before began with as well are still right.
  int64_t distance(const Sequence& hypothesis) {
    const auto changed = std::mismatch(hypothesis_.begin(), hypothesis_.end(), hypothesis.begin()).second;
    for (int64_t i = changed - hypothesis.begin() + 1; i < rows_; ++i)
      fill_row(i, hypothesis[static_cast<size_t>(i - 1)]);
    hypothesis_ = hypothesis;
    return at(rows_ - 1, columns_ - 1);
  }

  /// Of the hypothesis whose distance was asked for last.
  Alignment alignment() const;

 private:
  int64_t diagonal(int64_t i) const {
    return static_cast<int64_t>(std::floor(static_cast<double>(i) * ratio_));
  }
  int64_t begin_of(int64_t i) const { return std::max<int64_t>(0, diagonal(i) - beam_); }

  int32_t at(int64_t i, int64_t j) const {
    if (i == 0) return static_cast<int32_t>(j);
    const int64_t place = j - begin_of(i);
    return place < 0 || place >= width_ ? kUnreachable : cells_[static_cast<size_t>(i * width_ + place)];
  }
  int32_t substituted(int64_t i, int64_t j, uint32_t word) const {
    return at(i - 1, j - 1) + (word == reference_[static_cast<size_t>(j - 1)] ? 0 : 1);
  }

  void fill_row(int64_t i, uint32_t word) {
    const int64_t begin = begin_of(i);
    const int64_t end = i + 1 == rows_ ? columns_ : std::min(columns_, diagonal(i) + beam_);
    int32_t* row = cells_.data() + i * width_;
    std::fill(row, row + width_, kUnreachable);
    for (int64_t j = begin; j < end; ++j) {
      int32_t& cell = row[j - begin];
      cell = at(i - 1, j) + 1;
      if (j > 0) cell = std::min(cell, substituted(i, j, word));
      if (j > begin) cell = std::min(cell, row[j - begin - 1] + 1);
    }
  }

  const Sequence& reference_;
  Sequence hypothesis_;
  int64_t rows_, columns_;
  double ratio_;
  int64_t beam_, width_;
  std::vector<int32_t> cells_;  // (rows, width): row i begins at column begin_of(i)
};

/// Among equal ways a substitution is preferred to a word of the hypothesis left out, and that to one of the
/// reference put in.
Alignment EditTable::alignment() const {
  Alignment result;
  result.position.resize(reference_.size());
  std::vector<int64_t> reference_wrong(reference_.size(), 0), hypothesis_wrong(hypothesis_.size(), 0);
  for (size_t i = hypothesis_.size(), j = reference_.size(); i > 0 || j > 0;) {
    const auto row = static_cast<int64_t>(i), column = static_cast<int64_t>(j);
    const int32_t here = at(row, column);
    if (i > 0 && j > 0 && here == substituted(row, column, hypothesis_[i - 1])) {
      --i, --j;
      result.position[j] = static_cast<int64_t>(i);
      reference_wrong[j] = hypothesis_wrong[i] = hypothesis_[i] != reference_[j];
    } else if (i > 0 && here == at(row - 1, column) + 1) {
      hypothesis_wrong[--i] = 1;
    } else {
      result.position[--j] = static_cast<int64_t>(i) - 1;
      reference_wrong[j] = 1;
    }
  }
  const auto sums_of = [](const std::vector<int64_t>& wrong) {
    std::vector<int64_t> before(wrong.size() + 1, 0);
    for (size_t k = 0; k < wrong.size(); ++k) before[k + 1] = before[k] + wrong[k];
    return before;
  };
  result.reference_errors = sums_of(reference_wrong);
  result.hypothesis_errors = sums_of(hypothesis_wrong);
  return result;
}

/// `length` words from `start` on are put before the word at `target`; where that is one of them, behind as
/// many words as come before it among them.
Sequence shifted(const Sequence& words, size_t start, size_t length, size_t target) {
  Sequence result = words;
  const auto begin = result.begin() + static_cast<std::ptrdiff_t>(start);
  const auto end = begin + static_cast<std::ptrdiff_t>(length);
  if (target < start) {
    std::rotate(result.begin() + static_cast<std::ptrdiff_t>(target), begin, end);
    return result;
  }
  const size_t to = target > start + length ? target : std::min(target + length, words.size());
  std::rotate(begin, end, result.begin() + static_cast<std::ptrdiff_t>(to));
  return result;
}

/// The best shift so far: the most edits saved, then the most words, from the leftmost place, to the leftmost
/// place.
struct Shift {
  int64_t saved = 0, length = 0, start = 0, target = 0;
  auto rank() const { return std::tuple(saved, length, -start, -target); }
};

class ShiftSearch {
 public:
  ShiftSearch(const Sequence& hypothesis, const Sequence& reference)
      : words_(hypothesis), reference_(reference), table_(reference, hypothesis.size()) {}

  int64_t edits() {
    int64_t shifts = 0;
    for (;; ++shifts) {
      const int64_t distance = table_.distance(words_);
      const std::optional<Shift> best = best_shift(distance);
      if (candidates_ >= kMostCandidates || !best || best->saved <= 0) return shifts + distance;
      words_ = shifted(words_, static_cast<size_t>(best->start), static_cast<size_t>(best->length),
                       static_cast<size_t>(best->target));
    }
  }

 private:
  std::optional<Shift> best_shift(int64_t distance) {
    const Alignment alignment = table_.alignment();
    std::optional<Shift> best;
    for (size_t start = 0; start < words_.size(); ++start) {
      const size_t nearest = start - std::min(start, kFarthestShift);
      for (size_t from = nearest; from < std::min(reference_.size(), start + kFarthestShift + 1); ++from) {
        const size_t longest = common_words(start, from);
        for (size_t length = 1; length <= longest; ++length) {
          try_targets(alignment, start, from, length, distance, best);
          if (candidates_ >= kMostCandidates) return best;
        }
      }
    }
    return best;
  }

  size_t common_words(size_t start, size_t from) const {
    const size_t most = std::min({kLongestShift, words_.size() - start, reference_.size() - from});
    size_t length = 0;
    while (length < most && words_[start + length] == reference_[from + length]) ++length;
    return length;
  }

  /// Wherever words of the hypothesis stand for those of the reference that are the same as the shifted ones.
  void try_targets(const Alignment& alignment, size_t start, size_t from, size_t length, int64_t distance,
                   std::optional<Shift>& best) {
    if (errors_in(alignment.hypothesis_errors, start, length) == 0 ||
        errors_in(alignment.reference_errors, from, length) == 0)
      return;
    const int64_t here = alignment.position[from], begin = static_cast<int64_t>(start);
    if (here >= begin && here < begin + static_cast<int64_t>(length)) return;
    int64_t previous = -1;
    for (size_t behind = from; behind <= from + length; ++behind) {
      const int64_t target = behind == 0 ? 0 : alignment.position[behind - 1] + 1;
      if (target == previous) continue;
      previous = target;
      const auto to = static_cast<size_t>(target);
      const int64_t saved = distance - table_.distance(shifted(words_, start, length, to));
      ++candidates_;
      const Shift shift{saved, static_cast<int64_t>(length), begin, target};
      if (!best || shift.rank() > best->rank()) best = shift;
    }
  }

  Sequence words_;
  const Sequence& reference_;
  EditTable table_;
  int64_t candidates_ = 0;
};

}  // namespace

int64_t shifted_edits(const Sequence& hypothesis, const Sequence& reference) {
  if (reference.empty()) return static_cast<int64_t>(hypothesis.size());
  return ShiftSearch(hypothesis, reference).edits();
}

}  // namespace exactmamba::eval
