#include <fmt/format.h>

#include <cstdio>
#include <exception>
#include <new>

#include "apps/command.h"
#include "sememe/base/error.h"
#include "sememe/base/interrupt.h"

int main(int count, char** arguments) {
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
    fmt::print(stderr, "sememe: {}; see --help\n", error.what());
    return 2;
  } catch (const sememe::UsageError& error) {
    fmt::print(stderr, "sememe: {}\n", error.what());
    return 2;
  } catch (const sememe::Interrupted& error) {
    fmt::print(stderr, "sememe: {}\n", error.what());
    return 130;
  } catch (const std::bad_alloc&) {
    fmt::print(stderr, "sememe: out of memory; use fewer --threads, a smaller --batch or fewer latents\n");
    return 1;
  } catch (const c10::Error& error) {
    fmt::print(stderr, "sememe: {}\n", error.what_without_backtrace());
    return 1;
  } catch (const std::exception& error) {
    fmt::print(stderr, "sememe: {}\n", error.what());
    return 1;
  }
}
