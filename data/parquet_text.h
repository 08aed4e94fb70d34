// Texts of a column of Parquet files, as FineWeb-Edu and most data sets of the Hugging Face hub have them.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "data/tolerance.h"

namespace exactmamba::data {

/// Calls `take` with each text of `column`, in file order; null ones are left out (Tolerance::null). Rows are
/// read a page of a row group at a time, so that a file may be larger than memory. `where` is "file: row
/// group G, row R", both from 0 as pyarrow counts, R within the group.
/// @throws IoError; InputError ("file: …") for what is no Parquet file, when there is no `column` (the
/// message names those that are there), and when it holds no strings; BadRecord ("file: row group G: …") for
/// damaged row groups, which end there, and for invalid UTF-8.
void read_parquet(const std::filesystem::path& file, const std::string& column, const Tolerance& tolerance,
                  const std::function<void(const std::string& text, const std::string& where)>& take);

}  // namespace exactmamba::data
