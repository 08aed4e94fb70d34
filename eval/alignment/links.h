// Word alignments of sentence pairs. Words are numbered from 0; files may count from 1 (files.h).
#pragma once

#include <compare>
#include <cstdint>
#include <set>

namespace exactmamba::eval {

struct Link {
  int32_t source, target;
  friend auto operator<=>(const Link&, const Link&) = default;
};

/// Of one sentence pair, row-major by (source, target).
using Links = std::set<Link>;

/// Links that an annotator is sure of, and those that are no mistake: sure ⊆ possible.
struct GoldLinks {
  Links sure, possible;
  friend bool operator==(const GoldLinks&, const GoldLinks&) = default;
};

struct SentenceLengths {
  int64_t source, target;  // words
};

}  // namespace exactmamba::eval
