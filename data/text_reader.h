// Documents of text files. JSON lines (.jsonl, .ndjson): one object a line, the text under a key. Parquet
// (.parquet): a text a row, in the column of that name. Plain text (.txt, .text): the whole file is one
// document, CR LF read as LF. All but Parquet may be compressed (.gz, .xz, .zst). But for a document, and a
// page of Parquet, nothing is held in memory.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "core/json.h"
#include "data/line_reader.h"

namespace exactmamba::data {

/// `where` is "file:line", of Parquet "file: row group G, row R", of a plain document the file.
using TakeText = std::function<void(const std::string& text, const std::string& where)>;

/// Calls `take` with each document, in file order; UTF-8, possibly empty. Bad records are those lines, rows
/// (or what is left of a row group), or plain documents that cannot be used.
/// @throws IoError, InputError ("file:line: …") for other kinds of files and whatever LineReader,
/// JsonLineReader and read_parquet refuse; BadRecord for a line without `key`, or whose value is not a string
/// (null included).
void read_documents(const std::filesystem::path& file, const std::string& key, const Tolerance& tolerance,
                    const TakeText& take);

/// The same for texts that stand alone: of JSON lines each object's, of Parquet each row's, of any other file
/// ("-": stdin) each line.
void read_texts(const std::filesystem::path& file, const std::string& key, const Tolerance& tolerance,
                const TakeText& take);

/// Whether a file is one document for read_documents(): .txt or .text, maybe compressed.
bool is_plain_text(const std::filesystem::path& file);

/// "a.txt", or "a.txt and 2 more": how a data set made of files is called in messages.
std::string file_names(const std::vector<std::filesystem::path>& files);
/// "'a', 'b'": an object's keys, not too many.
std::string key_names(const core::Json& object);

}  // namespace exactmamba::data
