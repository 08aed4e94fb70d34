// What BLEU, chrF and TER have in common: a few numbers of each segment, summed over the corpus (or a
// resample of it), make the score. Everything as sacreBLEU 2.6.0 computes it.
#pragma once

#include <span>
#include <string>
#include <utility>
#include <vector>

namespace exactmamba::eval {

using References = std::vector<std::vector<std::string>>;  // [segment]: one or more

/// What must be told beside a score so that it can be compared: ("tok", "13a"), ….
using Signature = std::vector<std::pair<std::string, std::string>>;

class CorpusMetric {
 public:
  virtual ~CorpusMetric() = default;
  virtual std::string name() const = 0;  // "BLEU", "chrF2++", "TER"
  virtual Signature settings() const = 0;
  /// Numbers of a segment.
  virtual size_t width() const = 0;
  /// `references` is not empty; texts are UTF-8. Thread-safe.
  virtual std::vector<double> segment(const std::string& hypothesis,
                                      const std::vector<std::string>& references) const = 0;
  virtual double score(std::span<const double> sums) const = 0;
  /// What sacreBLEU prints behind the score; may be empty.
  virtual std::string detail(std::span<const double> sums) const = 0;
};

class SegmentStatistics {
 public:
  /// By all threads. @throws InputError unless there are as many hypotheses as references, one or more, and
  /// each has a reference
  SegmentStatistics(const CorpusMetric& metric, const std::vector<std::string>& hypotheses,
                    const References& references);
  size_t size() const { return values_.size() / width_; }
  size_t width() const { return width_; }
  std::span<const double> operator[](size_t segment) const {
    return {values_.data() + segment * width_, width_};
  }
  std::vector<double> sums() const;

 private:
  size_t width_;
  std::vector<double> values_;  // (segments, width)
};

/// The metric's settings with the number of references ("var" when segments differ), `resampling` (empty, or
/// of eval/bootstrap.h) and the version of sacreBLEU that computes the same.
Signature signature_of(const CorpusMetric& metric, const References& references,
                       const Signature& resampling = {});
std::string signature_text(const Signature& signature);  // "nrefs:1|case:mixed|…"

/// "BLEU|SIGNATURE = 22.7 56.2/28.7/16.9/10.3 (BP = …)"
std::string score_line(const CorpusMetric& metric, std::span<const double> sums, const std::string& signature,
                       int digits);

}  // namespace exactmamba::eval
