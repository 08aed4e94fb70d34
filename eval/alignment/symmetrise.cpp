#include "eval/alignment/symmetrise.h"

#include <algorithm>
#include <iterator>
#include <span>
#include <utility>

namespace exactmamba::eval {
namespace {

struct Step {
  int32_t source, target;
};
// In the orders that reproduce the files of lilt, and of Moses' symal.
constexpr Step kDiagonal[] = {{-1, 1}, {-1, -1}, {1, -1}, {1, 1}};
constexpr Step kEight[] = {{-1, 0}, {0, -1}, {1, 0}, {0, 1}, {-1, -1}, {-1, 1}, {1, -1}, {1, 1}};

/// Links, and the words that they occupy.
class Growing {
 public:
  explicit Growing(Links links) : links_(std::move(links)) {
    for (const Link& link : links_) occupy(link);
  }

  /// Until nothing changes: a neighbour of a link here joins if it is in `candidates` and its words are free,
  /// both or at least one of them. What joins has neighbours of its own, in the same sweep if it lies ahead.
  void grow(const Links& candidates, std::span<const Step> steps, bool both_free) {
    for (size_t before = 0; before != links_.size();) {
      before = links_.size();
      for (const Link& link : links_)  // inserting leaves the iterator where it is
        for (const Step& step : steps) {
          const Link next{link.source + step.source, link.target + step.target};
          if (candidates.contains(next) && is_free(next, both_free)) add(next);
        }
    }
  }
  void add_where_both_free(const Links& candidates) {
    for (const Link& link : candidates)
      if (is_free(link, true)) add(link);
  }
  const Links& links() const { return links_; }

 private:
  bool is_free(const Link& link, bool both) const {
    const bool source = !sources_.contains(link.source), target = !targets_.contains(link.target);
    return both ? source && target : source || target;
  }
  void add(const Link& link) {
    links_.insert(link);
    occupy(link);
  }
  void occupy(const Link& link) {
    sources_.insert(link.source);
    targets_.insert(link.target);
  }

  Links links_;
  std::set<int32_t> sources_, targets_;
};

}  // namespace

Links symmetrise(const Links& forward, const Links& reverse, Symmetrisation rule) {
  Links both, either = forward;
  std::set_intersection(forward.begin(), forward.end(), reverse.begin(), reverse.end(),
                        std::inserter(both, both.end()));
  either.insert(reverse.begin(), reverse.end());
  if (rule == Symmetrisation::kIntersection) return both;
  if (rule == Symmetrisation::kUnion) return either;

  const bool moses = rule == Symmetrisation::kMosesGrowDiag || rule == Symmetrisation::kMosesGrowDiagFinalAnd;
  Growing links(std::move(both));
  links.grow(either, moses ? std::span<const Step>(kEight) : std::span<const Step>(kDiagonal), !moses);
  if (rule == Symmetrisation::kGrowDiagonalFinal || rule == Symmetrisation::kMosesGrowDiagFinalAnd) {
    links.add_where_both_free(forward);
    links.add_where_both_free(reverse);
  }
  return links.links();
}

}  // namespace exactmamba::eval
