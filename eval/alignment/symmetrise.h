// One alignment from those of two directions. `grow_diagonal` has two rules: that of lilt/alignment-scripts
// takes diagonal neighbours whose words are both free; that of Moses takes all eight neighbours where at
// least one word is free (grow_diag). Definitions: golden/decomposition/README.md.
#pragma once

#include "core/names.h"
#include "eval/alignment/links.h"

namespace exactmamba::eval {

enum class Symmetrisation {
  kIntersection,
  kUnion,
  kGrowDiagonal,           // lilt
  kGrowDiagonalFinal,      // lilt; then links of either direction whose words are both free
  kMosesGrowDiag,          // Moses
  kMosesGrowDiagFinalAnd,  // Moses; then links of either direction whose words are both free
};
inline constexpr core::Names<6> kSymmetrisationNames = {"intersection",    "union",
                                                        "grow_diagonal",   "grow_diagonal_final",
                                                        "moses_grow_diag", "moses_grow_diag_final_and"};

/// Both as source–target links of the same sentence pair.
Links symmetrise(const Links& forward, const Links& reverse, Symmetrisation rule);

}  // namespace exactmamba::eval
