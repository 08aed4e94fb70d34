#include "core/metrics_log.h"

#include <cerrno>
#include <cstring>

#include "core/error.h"
#include "core/files.h"

namespace exactmamba::core {
namespace {

/// Calls `use(line, number)` for every line that ends in a newline.
template <class Use>
void for_each_whole_line(std::string_view text, const Use& use) {
  std::ptrdiff_t number = 1;
  size_t begin = 0;
  for (size_t end; (end = text.find('\n', begin)) != std::string_view::npos; begin = end + 1, ++number) {
    use(text.substr(begin, end - begin), number);
  }
}

Json parse_line(std::string_view line, const std::filesystem::path& file, std::ptrdiff_t number) {
  Json value = parse_json(line, file.string(), 64, number);
  require(value.is_object(), "{}:{}: expected an object", file.string(), number);
  return value;
}

/// As MetricsLog keeps them.
std::string lines_until(std::string_view text, const std::filesystem::path& file, int64_t last_step,
                        const std::string& undone) {
  std::string kept;
  for_each_whole_line(text, [&](std::string_view line, std::ptrdiff_t number) {
    const Json value = parse_line(line, file, number);
    const auto step = value.find("step");
    const double after =
        step != value.end() && step->is_number() ? step->get<double>() - static_cast<double>(last_step) : -1;
    const bool dropped =
        after > 0 || (after == 0 && !undone.empty() && value.value("kind", Json()) == undone);
    if (!dropped) kept.append(line).push_back('\n');
  });
  return kept;
}

std::string lines_to_keep(std::string_view text, const std::filesystem::path& file, int64_t last_step,
                          const std::string& undone) {
  try {
    return lines_until(text, file, last_step, undone);
  } catch (const InputError& error) {
    throw InputError(fmt::format("{}; delete this file to go on without the lines so far", error.what()));
  }
}

}  // namespace

MetricsLog::MetricsLog(const std::filesystem::path& file, int64_t last_step, const std::string& undone)
    : path_(file), file_(nullptr) {
  if (std::filesystem::is_regular_file(file)) {
    const std::string text = read_file(file);
    const std::string kept = lines_to_keep(text, file, last_step, undone);
    if (kept != text) write_file(file, kept);
  }
  file_ = std::fopen(file.c_str(), "ae");
  require<IoError>(file_ != nullptr, "cannot write {}: {}", file.string(), std::strerror(errno));
}

MetricsLog::~MetricsLog() { std::fclose(file_); }

void MetricsLog::write(const Json& line) {
  const std::string text = json_text(line) + "\n";
  const bool written =
      std::fwrite(text.data(), 1, text.size(), file_) == text.size() && std::fflush(file_) == 0;
  require<IoError>(written, "cannot write {}: {}", path_.string(), std::strerror(errno));
}

std::vector<Json> read_metrics(const std::filesystem::path& file) {
  const std::string text = read_file(file);
  std::vector<Json> lines;
  for_each_whole_line(text, [&](std::string_view line, std::ptrdiff_t number) {
    lines.push_back(parse_line(line, file, number));
  });
  return lines;
}

}  // namespace exactmamba::core
