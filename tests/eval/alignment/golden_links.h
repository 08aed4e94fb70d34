// Links of golden JSON files, and files that are not part of the project.
#pragma once

#include <fstream>
#include <string>
#include <vector>

#include "core/json.h"
#include "eval/alignment/aer.h"
#include "eval/alignment/files.h"
#include "eval/alignment/words.h"
#include "tests/support/tensors.h"

namespace exactmamba::testing {

inline eval::Links links_of(const core::Json& pairs) {
  eval::Links links;
  for (const core::Json& pair : pairs) links.insert({pair[0].get<int32_t>(), pair[1].get<int32_t>()});
  return links;
}

inline std::vector<eval::Links> link_lists(const core::Json& lists) {
  std::vector<eval::Links> result;
  for (const core::Json& pairs : lists) result.push_back(links_of(pairs));
  return result;
}

struct RealGold {
  std::vector<eval::SentenceLengths> lengths;
  std::vector<eval::GoldLinks> gold;
};

/// "deen": RWTH, sentences in two files; "enfr": Hansards, "source ||| target" in one.
inline RealGold real_gold(const std::string& pair) {
  const std::filesystem::path data = external_data();
  RealGold result;
  if (pair == "deen") {
    const auto folder = data / "align-de-en-rwth";
    result.lengths = eval::read_sentence_lengths(folder / "test.uc.{de,en}");
    result.gold = eval::read_alignments(folder / "alignment.talp", {.base = 1}, {508, result.lengths});
    return result;
  }
  const auto folder = data / "align-fr-en-hansards";
  std::ifstream lines(folder / "enfr.src-tgt");
  const std::string separator = " ||| ";
  for (std::string line; std::getline(lines, line);) {
    const size_t middle = line.find(separator);
    result.lengths.push_back(
        {static_cast<int64_t>(eval::words_of(line.substr(0, middle)).size()),
         static_cast<int64_t>(eval::words_of(line.substr(middle + separator.size())).size())});
  }
  result.gold = eval::read_alignments(folder / "enfr.gold", {.base = 1}, {447, result.lengths});
  return result;
}

}  // namespace exactmamba::testing
