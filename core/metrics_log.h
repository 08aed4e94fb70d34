// metrics.jsonl: one JSON object a line, appended and flushed; a resumed run first cuts the lines after its
// checkpoint.
#pragma once

#include <cstdio>
#include <filesystem>

#include "core/json.h"

namespace exactmamba::core {

class MetricsLog {
 public:
  /// Keeps the whole lines whose "step" is ≤ `last_step`, drops the others (and a torn last line), and those
  /// of `last_step` itself whose "kind" is `undone`. @throws IoError; InputError for a damaged line, saying
  /// what to delete
  MetricsLog(const std::filesystem::path& file, int64_t last_step, const std::string& undone = "");
  ~MetricsLog();
  MetricsLog(const MetricsLog&) = delete;
  MetricsLog& operator=(const MetricsLog&) = delete;
  void write(const Json& line);

 private:
  std::filesystem::path path_;
  std::FILE* file_;
};

/// Every line of a metrics file. @throws IoError, InputError with the line
std::vector<Json> read_metrics(const std::filesystem::path& file);

}  // namespace exactmamba::core
