// Messages and progress on stderr. On a terminal a progress line is redrawn in place; in a log it is a plain
// line every few seconds. NO_COLOR and --quiet are honoured.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace exactmamba::core {

enum class Verbosity { kQuiet, kNormal };
void set_verbosity(Verbosity verbosity);

void log_info(const std::string& message);     // nothing with --quiet
void log_warning(const std::string& message);  // "warning: …", also with --quiet

/// 1234567 → "1.23 M"; 75 s → "1m15s"; bytes → "1.50 GiB"
std::string human_count(double value);
std::string human_duration(double seconds);
std::string human_bytes(double bytes);

/// For signal handlers, which may do little else: the line that log_info() would print.
void log_from_signal(const char* message);

/// Columns of the terminal behind a file descriptor; 0 when there is none.
size_t terminal_columns(int descriptor);

/// Progress of `total` units of work: "train  300/1000  30 %  12.3k tok/s  0m20s < 0m47s  loss 1.234"; of
/// kUnknownTotal: "reading  51.2 k  12.3 k line/s  0m04s". On a narrow terminal parts are left out, the
/// details first, rate and remaining time last.
class Progress {
 public:
  static constexpr int64_t kUnknownTotal = -1;
  /// `unit`: what update() counts per second ("tok", "row").
  Progress(std::string label, int64_t total, std::string unit, int64_t done = 0);
  ~Progress();  // finishes the line
  /// `steps_done` of total; `units`: units of work since construction (for the rate); `detail` is appended,
  /// its parts two spaces apart.
  void update(int64_t steps_done, double units, const std::string& detail = "");

 private:
  void draw(bool last);
  std::string label_, unit_, shown_line_;
  std::vector<std::pair<int, std::string>> parts_;  // of the next line; the highest ranks are left out first
  int64_t total_, first_;
  std::chrono::steady_clock::time_point start_, shown_;
  bool terminal_, drawn_ = false;
};

}  // namespace exactmamba::core
