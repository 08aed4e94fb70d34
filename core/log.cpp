#include "core/log.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <mutex>
#include <sys/ioctl.h>
#include <unistd.h>
#include <utility>

#include <fmt/format.h>

#include "core/utf8.h"

namespace exactmamba::core {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kRedrawEvery = std::chrono::milliseconds(100);
constexpr auto kLogEvery = std::chrono::seconds(5);
constexpr const char* kClearLine = "\r\x1b[K";

std::atomic<Verbosity> verbosity_now{Verbosity::kNormal};
std::mutex output;                                      // guards stderr and the next line
std::atomic<const Progress*> line_on_screen = nullptr;  // whose line the cursor stands on

bool quiet() { return verbosity_now.load() == Verbosity::kQuiet; }

bool is_terminal() {
  const char* term = std::getenv("TERM");
  return ::isatty(STDERR_FILENO) && term && std::string_view(term) != "dumb";
}

bool is_coloured() {
  const char* no_color = std::getenv("NO_COLOR");
  return is_terminal() && !(no_color && *no_color);
}

/// Of a progress line: one less than there are, so that no terminal wraps it.
size_t line_width() {
  const size_t columns = terminal_columns(STDERR_FILENO);
  return columns > 1 ? columns - 1 : 79;
}

void print_line(const std::string& line) {
  const std::lock_guard lock(output);
  const char* clear = line_on_screen.load() != nullptr ? kClearLine : "";
  line_on_screen = nullptr;  // the next update draws it again
  std::fputs(fmt::format("{}{}\n", clear, line).c_str(), stderr);
  std::fflush(stderr);
}

/// "1.23", then the first prefix for which the number is below `base`.
std::string scaled(double value, double base, std::initializer_list<const char*> units) {
  auto unit = units.begin();
  while (std::abs(value) >= base * (1 - 5e-4) && std::next(unit) != units.end()) {
    value /= base;
    ++unit;
  }
  return unit == units.begin() ? fmt::format("{:g}{}", value, *unit) : fmt::format("{:.2f}{}", value, *unit);
}

/// Parts of a progress line with their ranks: those with the highest are left out first.
using Parts = std::vector<std::pair<int, std::string>>;

std::string joined(const Parts& parts) {
  std::string line;
  for (const auto& [rank, text] : parts) line += (line.empty() ? "" : "  ") + text;
  return line;
}

std::string fitting_line(Parts parts, size_t width) {
  while (parts.size() > 1 && count_characters(joined(parts)) > width) {
    const auto by_rank = [](const auto& a, const auto& b) { return a.first < b.first; };
    parts.erase(std::max_element(parts.begin(), parts.end(), by_rank));
  }
  return std::string(first_characters(joined(parts), width));
}

}  // namespace

void set_verbosity(Verbosity verbosity) { verbosity_now = verbosity; }

void log_info(const std::string& message) {
  if (!quiet()) print_line(message);
}

void log_from_signal(const char* message) {
  if (quiet()) return;
  const int error = errno;
  const char* clear = line_on_screen.exchange(nullptr) != nullptr ? kClearLine
                      : terminal_columns(STDERR_FILENO) > 0       ? "\r"  // over the terminal's "^C"
                                                                  : "";
  for (const char* text : {clear, message, "\n"}) {
    if (::write(STDERR_FILENO, text, std::strlen(text)) < 0) break;  // nobody to tell it
  }
  errno = error;
}

size_t terminal_columns(int descriptor) {
  winsize size = {};
  return ::ioctl(descriptor, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

void log_warning(const std::string& message) {
  print_line((is_coloured() ? "\x1b[33mwarning:\x1b[0m " : "warning: ") + message);
}

std::string human_count(double value) { return scaled(value, 1000, {"", " k", " M", " G", " T", " P"}); }
std::string human_bytes(double bytes) { return scaled(bytes, 1024, {" B", " KiB", " MiB", " GiB", " TiB"}); }

std::string human_duration(double seconds) {
  if (!std::isfinite(seconds) || seconds > 1e9) return "?";
  const int64_t s = std::llround(std::max(seconds, 0.0));
  if (s < 3600) return fmt::format("{}m{:02}s", s / 60, s % 60);
  if (s < 24 * 3600) return fmt::format("{}h{:02}m", s / 3600, s / 60 % 60);
  return fmt::format("{}d{:02}h", s / 86400, s / 3600 % 24);
}

Progress::Progress(std::string label, int64_t total, std::string unit, int64_t done)
    : label_(std::move(label)),
      unit_(std::move(unit)),
      total_(total),
      first_(done),
      start_(Clock::now()),
      terminal_(is_terminal()) {}

Progress::~Progress() {
  if (!parts_.empty()) draw(true);
}

void Progress::update(int64_t steps_done, double units, const std::string& detail) {
  if (quiet()) return;
  const double elapsed = std::chrono::duration<double>(Clock::now() - start_).count();
  const int64_t steps = steps_done - first_;
  const double remaining =
      steps > 0 ? elapsed / static_cast<double>(steps) * static_cast<double>(total_ - steps_done) : INFINITY;
  const double percent =
      total_ > 0 ? 100.0 * static_cast<double>(steps_done) / static_cast<double>(total_) : 100.0;
  const std::string rate =
      fmt::format("{} {}/s", human_count(std::round(elapsed > 0 ? units / elapsed : 0)), unit_);
  if (total_ == kUnknownTotal)
    parts_ = {{2, label_},
              {3, human_count(static_cast<double>(steps_done))},
              {1, rate},
              {0, human_duration(elapsed)}};
  else
    parts_ = {{2, label_},
              {4, fmt::format("{}/{}", steps_done, total_)},
              {3, fmt::format("{:.0f} %", percent)},
              {1, rate},
              {0, fmt::format("{} < {}", human_duration(elapsed), human_duration(remaining))}};
  constexpr std::string_view kGap = "  ";
  for (size_t begin = 0; begin < detail.size();) {
    const size_t end = std::min(detail.find(kGap, begin), detail.size());
    parts_.emplace_back(static_cast<int>(parts_.size()), detail.substr(begin, end - begin));
    begin = end + kGap.size();
  }
  draw(false);
}

void Progress::draw(bool last) {
  const auto now = Clock::now();
  const bool due =
      !drawn_ || now - shown_ >= (terminal_ ? Clock::duration(kRedrawEvery) : Clock::duration(kLogEvery));
  if (!due && !last) return;
  const std::string line = terminal_ ? fitting_line(parts_, line_width()) : joined(parts_);
  if (last && !terminal_ && line == shown_line_) return;  // it is in the log already
  const std::lock_guard lock(output);
  if (terminal_) {
    std::fputs(fmt::format("{}{}{}", kClearLine, line, last ? "\n" : "").c_str(), stderr);
    line_on_screen = last ? nullptr : this;
  } else {
    std::fputs((line + "\n").c_str(), stderr);
  }
  std::fflush(stderr);
  shown_ = now;
  shown_line_ = line;
  drawn_ = true;
}

}  // namespace exactmamba::core
