#pragma once
// What the benchmarks of the program share.

#include <CLI/CLI.hpp>
#include <chrono>
#include <string>
#include <vector>

namespace sememe {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start);

/// How often a second something was done, one figure a round.
struct Measured {
  std::string name;
  std::vector<double> rates;
  double memory = 0.0;  ///< most that the process held at once, MiB; 0 if that says nothing

  double median() const;
};

/// The most memory that this process held at once so far, MiB.
double peak_memory();

/// What a command prints. @throws Error if it fails
std::string output_of(const std::string& command);

void add_decode_bench(CLI::App& group);
void add_sparse_bench(CLI::App& group);

}  // namespace sememe
