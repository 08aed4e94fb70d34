// Sentences beside their translations.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "data/text_reader.h"

namespace exactmamba::data {

struct SentencePair {
  std::string source, target;
};

/// The file or the two files that a name stands for (read_pairs). @throws InputError for another kind of name
std::vector<std::string> pair_files(const std::string& name);

/// `where` is "file:line" of the source.
using TakePair = std::function<void(const SentencePair& pair, const std::string& where)>;

/// Calls `take` with each pair, in file order; sides may be empty. The source is what braces name first:
///   train.{de,en}, train.{de,en}.gz   two files, line beside line
///   pairs.tsv, pairs.tsv{2,1}         columns of one file, separated by TABs; without braces the first two
///   train.tags.de-en.{de,en}          IWSLT's training sets: two files, without lines with a talk's tags
///   tst2015.de-en.{de,en}.xml         IWSLT's other sets: <seg> beside <seg> of the same document and id
/// All may be compressed (see byte_source.h). IWSLT's have their white space squeezed and trimmed.
/// Bad records are lines of invalid UTF-8 on either side, and lines without the columns; of XML none is.
/// @throws IoError, InputError ("file:line: …") as LineReader, for another kind of name, and sides that
/// differ in the number of their lines, in where their talks begin, or in their segments.
void read_pairs(const std::string& name, const Tolerance& tolerance, const TakePair& take);

/// Whether a name is one of read_pairs(), by its braces or ending.
bool names_pairs(const std::string& name);

/// Each text that stands alone, of whatever is read here: both sides of pairs; of a single file of IWSLT's
/// (train.tags.*, .xml) its sentences; a .txt or .text whole; of others as read_texts(). @throws as these
void read_all_texts(const std::string& name, const std::string& text_key, const Tolerance& tolerance,
                    const TakeText& take);

}  // namespace exactmamba::data
