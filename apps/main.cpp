#include <fmt/format.h>
#include <torch/torch.h>

#include <cstdio>
#include <exception>
#include <new>

#include "apps/command.h"
#include "sememe/base/error.h"
#include "sememe/base/interrupt.h"
#include "sememe/base/progress.h"
#include "sememe/base/threads.h"

namespace sememe {

CLI::App* add_command(CLI::App& parent, const std::string& name, const std::string& what, const std::string& example) {
  CLI::App* const command = parent.add_subcommand(name, what);
  command->footer("Example:\n  " + example);
  return command;
}

void add_common_options(CLI::App& command, CommonOptions& options, bool with_json) {
  command.add_option("--seed", options.seed, "Seed of every random draw")->capture_default_str();
  command.add_option("--threads", options.threads, "Worker threads; 0 takes all cores")->capture_default_str();
  command.add_option("--device", options.device, "cpu or cuda")->capture_default_str();
  command.add_flag("--quiet", options.quiet, "No progress and no notes");
  if (with_json) command.add_option("--json", options.json, "Also write the result to this file");
}

void apply(const CommonOptions& options) {
  if (options.threads != 0) set_thread_count(options.threads);
  torch::set_num_threads(thread_count());
  set_quiet(options.quiet);
  if (options.device == "cuda" && !torch::cuda::is_available())
    fail_usage("--device cuda: this LibTorch sees no CUDA device; use --device cpu");
  if (options.device != "cpu" && options.device != "cuda") fail_usage("--device {}: give cpu or cuda", options.device);
}

}  // namespace sememe

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
