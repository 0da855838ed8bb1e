#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>
#include <thread>

#include "apps/command.h"
#include "sememe/base/error.h"
#include "sememe/base/interrupt.h"
#include "sememe/ranks/ranks.h"

namespace {

/// Says what went wrong. What all ranks of a run find wrong the first of them says, while the others wait to be ended with it.
void complain(const char* what) {
  const sememe::Ranks* ranks = nullptr;
  try {
    ranks = &sememe::Ranks::of_run();
  } catch (const sememe::Error&) {
  }
  if (ranks != nullptr && !ranks->first()) {
    for (int i = 0; i < 30 && !sememe::interrupted(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(100));
    if (sememe::interrupted()) std::_Exit(1);
    fmt::print(stderr, "sememe: rank {}: {}\n", ranks->rank(), what);
  } else {
    fmt::print(stderr, "sememe: {}\n", what);
  }
  std::fflush(stderr);
}

int run(int count, char** arguments) {
  CLI::App program("Finds the units of meaning in neural networks, names them and puts them to use.", "sememe");
  program.set_version_flag("--version", "sememe 0.1.0");
  program.require_subcommand(1);
  program.get_formatter()->column_width(34);
  sememe::catch_interrupts();
  try {
    sememe::add_model_commands(program);
    sememe::add_capture_command(program);
    sememe::add_dictionary_commands(program);
    sememe::add_report_command(program);
    sememe::add_tokenizer_commands(program);
    sememe::add_study_commands(program);
    sememe::add_bench_commands(program);
    program.parse(count, arguments);
    return 0;
  } catch (const CLI::Success& done) {
    return program.exit(done);
  } catch (const CLI::ParseError& error) {
    complain(fmt::format("{}; see --help", error.what()).c_str());
    return 2;
  } catch (const sememe::UsageError& error) {
    complain(error.what());
    return 2;
  } catch (const sememe::Interrupted& error) {
    complain(error.what());
    return 130;
  } catch (const std::bad_alloc&) {
    complain("out of memory; use fewer --threads, a smaller --batch or fewer latents");
    return 1;
  } catch (const c10::Error& error) {
    complain(error.what_without_backtrace());
    return 1;
  } catch (const std::exception& error) {
    complain(error.what());
    return 1;
  }
}

}  // namespace

int main(int count, char** arguments) { return sememe::leave_ranks(run(count, arguments)); }
