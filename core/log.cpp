#include "core/log.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <mutex>
#include <sys/ioctl.h>
#include <unistd.h>
#include <utility>

#include <fmt/format.h>

namespace exactmamba::core {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kRedrawEvery = std::chrono::milliseconds(100);
constexpr auto kLogEvery = std::chrono::seconds(5);
constexpr const char* kClearLine = "\r\x1b[K";

std::atomic<Verbosity> verbosity_now{Verbosity::kNormal};
std::mutex output;                         // guards stderr and the next line
const Progress* line_on_screen = nullptr;  // whose line the cursor stands on

bool quiet() { return verbosity_now.load() == Verbosity::kQuiet; }

bool is_terminal() {
  const char* term = std::getenv("TERM");
  return ::isatty(STDERR_FILENO) && term && std::string_view(term) != "dumb";
}

bool is_coloured() {
  const char* no_color = std::getenv("NO_COLOR");
  return is_terminal() && !(no_color && *no_color);
}

/// The first `width` characters of UTF-8 text.
std::string_view clipped(std::string_view text, size_t width) {
  size_t seen = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool starts_character = (static_cast<unsigned char>(text[i]) & 0xC0) != 0x80;
    if (starts_character && seen++ == width) return text.substr(0, i);
  }
  return text;
}

size_t terminal_width() {
  winsize size = {};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col - 1u : 79u;
}

void print_line(const std::string& line) {
  const std::lock_guard lock(output);
  const char* clear = line_on_screen ? kClearLine : "";
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

}  // namespace

void set_verbosity(Verbosity verbosity) { verbosity_now = verbosity; }

void log_info(const std::string& message) {
  if (!quiet()) print_line(message);
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
  if (!last_line_.empty()) draw(last_line_, true);
}

void Progress::update(int64_t steps_done, double units, const std::string& detail) {
  if (quiet()) return;
  const double elapsed = std::chrono::duration<double>(Clock::now() - start_).count();
  const int64_t steps = steps_done - first_;
  const double remaining =
      steps > 0 ? elapsed / static_cast<double>(steps) * static_cast<double>(total_ - steps_done) : INFINITY;
  const double percent =
      total_ > 0 ? 100.0 * static_cast<double>(steps_done) / static_cast<double>(total_) : 100.0;
  last_line_ =
      fmt::format("{}  {}/{}  {:.0f} %  {} {}/s  {} < {}{}{}", label_, steps_done, total_, percent,
                  human_count(std::round(elapsed > 0 ? units / elapsed : 0)), unit_, human_duration(elapsed),
                  human_duration(remaining), detail.empty() ? "" : "  ", detail);
  draw(last_line_, false);
}

void Progress::draw(const std::string& line, bool last) {
  const auto now = Clock::now();
  const bool due =
      !drawn_ || now - shown_ >= (terminal_ ? Clock::duration(kRedrawEvery) : Clock::duration(kLogEvery));
  const bool already_in_log = !terminal_ && drawn_ && line == shown_line_;
  if (last ? already_in_log : !due) return;
  const std::lock_guard lock(output);
  if (terminal_) {
    std::fputs(fmt::format("{}{}{}", kClearLine, clipped(line, terminal_width()), last ? "\n" : "").c_str(),
               stderr);
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
