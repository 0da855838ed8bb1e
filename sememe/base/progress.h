#pragma once
// Long work shows that it goes on: a bar on a terminal, one line a minute elsewhere, nothing when quiet.

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace sememe {

/// One line to stderr, for what the user should know besides the result.
void note(std::string_view text);

/// Turns progress and notes off (`--quiet`) or on.
void set_quiet(bool quiet);

class Progress {
 public:
  /// @param label what is going on, e.g. "train topk"
  /// @param total number of `unit`s that make up the whole
  /// @param done  how many of them an earlier run had done already
  Progress(std::string label, int64_t total, std::string unit, int64_t done = 0);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// Cheap enough for every step. `detail` is shown after the rate, e.g. "loss 1.234".
  void update(int64_t done, std::string_view detail = {});
  /// Units per second since the start (not counting a resumed part).
  double rate() const;
  double seconds() const;

 private:
  void show(bool last);
  std::string label_, unit_, detail_;
  int64_t total_, done_, first_;
  std::chrono::steady_clock::time_point start_, shown_;
  bool terminal_;
};

}  // namespace sememe
