// Documents of text files. JSON lines (.jsonl, .ndjson): one object a line, the text under a key. Plain text
// (.txt, .text): the whole file is one document, CR LF read as LF. Both may be compressed (.gz, .xz).
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace exactmamba::data {

/// Calls `take` with each document, in file order; UTF-8, possibly empty.
/// @throws IoError, InputError ("file:line: …") for other kinds of files and whatever LineReader and
/// JsonLineReader refuse; for a line without `key`, or whose value is not a string (null included).
void read_documents(const std::filesystem::path& file, const std::string& key,
                    const std::function<void(const std::string& text)>& take);

/// "a.txt", or "a.txt and 2 more": how a data set made of files is called in messages.
std::string file_names(const std::vector<std::filesystem::path>& files);

}  // namespace exactmamba::data
