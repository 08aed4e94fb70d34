// Files of word alignments:
//   talp     a line per sentence pair; SOURCE-TARGET is sure, SOURCEpTARGET possible
//   pharaoh  the same without possible links: what aligners write
//   naacl    a line per link: PAIR SOURCE TARGET [S | P], sure without the letter; pairs count from 1
// Fields are separated by blanks or tabs. Whether words count from 0 or from 1 is never guessed.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/names.h"
#include "eval/alignment/links.h"

namespace exactmamba::eval {

enum class AlignmentFormat { kTalp, kPharaoh, kNaacl };
inline constexpr core::Names<3> kAlignmentFormatNames = {"talp", "pharaoh", "naacl"};

/// @throws InputError naming `where`
AlignmentFormat alignment_format(const std::string& name, const std::string& where);

struct AlignmentNotation {
  AlignmentFormat format = AlignmentFormat::kTalp;
  int64_t base = 0;                  // number of the first word: 0 or 1
  bool target_first = false;         // the target's word stands before the source's
  std::string base_option = "base";  // what to change where words are off by one
};

/// What a file must fit: so many sentence pairs, of these lengths.
struct AlignmentBounds {
  std::optional<size_t> pairs;           // none: as many as the file has (naacl: its highest pair)
  std::vector<SentenceLengths> lengths;  // [pair]; empty: unknown
  std::string of = "the sentences";      // the name of the file that has these pairs
};

/// A link that is given twice is sure if it once is. @throws InputError ("file:line:column: …"), IoError
std::vector<GoldLinks> read_alignments(const std::filesystem::path& file, const AlignmentNotation& notation,
                                       const AlignmentBounds& bounds = {});
/// @throws as read_alignments; InputError when there is no link at all
std::vector<GoldLinks> read_gold(const std::filesystem::path& file, const AlignmentNotation& notation,
                                 const AlignmentBounds& bounds = {});
/// Every link of a file of hypotheses, possible ones too. @throws as read_alignments
std::vector<Links> read_links(const std::filesystem::path& file, const AlignmentNotation& notation,
                              const AlignmentBounds& bounds = {});

/// The content of such a file. @throws InputError when pharaoh cannot tell that a link is only possible
std::string alignment_text(const std::vector<GoldLinks>& pairs, const AlignmentNotation& notation);
std::string alignment_text(const std::vector<Links>& pairs, const AlignmentNotation& notation);

}  // namespace exactmamba::eval
