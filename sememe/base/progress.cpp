#include "sememe/base/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <utility>

namespace sememe {
namespace {

std::atomic<bool> quiet_mode = false;

std::string duration(double seconds) {
  const auto whole = static_cast<int64_t>(std::min(std::max(seconds, 0.0), 359999.0) + 0.5);
  return whole >= 3600 ? fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60)
                       : fmt::format("{}:{:02}", whole / 60, whole % 60);
}

std::string short_number(double value) {
  if (value >= 1e9) return fmt::format("{:.1f}G", value / 1e9);
  if (value >= 1e6) return fmt::format("{:.1f}M", value / 1e6);
  if (value >= 1e4) return fmt::format("{:.1f}k", value / 1e3);
  return value >= 100 ? fmt::format("{:.0f}", value) : fmt::format("{:.3g}", value);
}

int terminal_width() {
  winsize size{};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

}  // namespace

void note(std::string_view text) {
  if (!quiet_mode) fmt::print(stderr, "{}\n", text);
}

void set_quiet(bool quiet) { quiet_mode = quiet; }

Progress::Progress(std::string label, int64_t total, std::string unit, int64_t done)
    : label_(std::move(label)),
      unit_(std::move(unit)),
      total_(std::max<int64_t>(total, 0)),
      done_(done),
      first_(done),
      start_(std::chrono::steady_clock::now()),
      shown_(start_),
      terminal_(isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() {
  try {
    show(true);
  } catch (...) {
  }
}

double Progress::seconds() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

double Progress::rate() const {
  const double elapsed = seconds();
  return elapsed > 0 ? static_cast<double>(done_ - first_) / elapsed : 0.0;
}

void Progress::update(int64_t done, std::string_view detail) {
  done_ = done;
  detail_ = detail;
  const auto now = std::chrono::steady_clock::now();
  const auto pause = terminal_ ? std::chrono::milliseconds(100) : std::chrono::milliseconds(60000);
  if (now - shown_ < pause) return;
  shown_ = now;
  show(false);
}

void Progress::show(bool last) {
  if (quiet_mode) return;
  const double share = total_ > 0 ? std::min(1.0, static_cast<double>(done_) / static_cast<double>(total_)) : 1.0;
  const double left = rate() > 0 ? static_cast<double>(total_ - done_) / rate() : 0.0;
  const std::string time = last ? "in " + duration(seconds()) : duration(left) + " left";
  const std::string tail = fmt::format("{}/{} {}  {}/s  {}{}{}", short_number(static_cast<double>(done_)),
                                       short_number(static_cast<double>(total_)), unit_, short_number(rate()), time,
                                       detail_.empty() ? "" : "  ", detail_);
  if (!terminal_) {
    fmt::print(stderr, "{}: {:.0f} %  {}\n", label_, 100 * share, tail);
    return;
  }
  const int room = terminal_width() - static_cast<int>(label_.size() + tail.size()) - 5;
  const int width = std::clamp(room, 0, 30);
  std::string bar;
  for (int i = 0; i < width; ++i) bar += i < share * width ? "━" : "─";
  fmt::print(stderr, "\r\033[K{} {} {}{}", label_, bar, tail, last ? "\n" : "");
  std::fflush(stderr);
}

}  // namespace sememe
