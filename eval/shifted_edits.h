// The edits of TER: insertions, deletions and substitutions of words, and shifts of up to 10 words.
#pragma once

#include "eval/ngrams.h"

namespace exactmamba::eval {

/// How many turn `hypothesis` into `reference`, by tercom's search: the best shift again and again as long as
/// it saves edits. As in sacreBLEU 2.6.0, whose choices between equal shifts and whose limits these are:
/// 25 words around the diagonal of the edit distance, shifts over at most 50 words, 1,000 of them looked at.
int64_t shifted_edits(const Sequence& hypothesis, const Sequence& reference);

}  // namespace exactmamba::eval
