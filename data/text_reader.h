// Documents of text files. JSON lines (.jsonl, .ndjson): one object a line, the text under a key. Plain text
// (.txt, .text): the whole file is one document, CR LF read as LF. Both may be compressed (.gz, .xz).
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "data/line_reader.h"

namespace exactmamba::data {

/// Calls `take` with each document, in file order; UTF-8, possibly empty. `where` is "file:line", of plain
/// text the file.
/// @throws IoError, InputError ("file:line: …") for other kinds of files and whatever LineReader and
/// JsonLineReader refuse; for a line without `key`, or whose value is not a string (null included).
void read_documents(const std::filesystem::path& file, const std::string& key, OnInvalidUtf8 on_invalid,
                    const std::function<void(const std::string& text, const std::string& where)>& take);

/// The same for texts that stand alone: of JSON lines each object's, of any other file ("-": stdin) each
/// line. `where` is "file:line".
void read_texts(const std::filesystem::path& file, const std::string& key, OnInvalidUtf8 on_invalid,
                const std::function<void(const std::string& text, const std::string& where)>& take);

/// "a.txt", or "a.txt and 2 more": how a data set made of files is called in messages.
std::string file_names(const std::vector<std::filesystem::path>& files);

}  // namespace exactmamba::data
