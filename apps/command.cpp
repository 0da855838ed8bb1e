#include "apps/command.h"

#include <torch/torch.h>

#include "sememe/base/error.h"
#include "sememe/base/json.h"
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

LanguageModel load_on(const std::filesystem::path& folder, const CommonOptions& options) {
  LanguageModel model = LanguageModel::load(folder);
  model.network->to(torch::Device(options.device));
  return model;
}

std::string one_line(std::string_view text) {
  std::string line;
  for (const char c : text) {
    if (c == '\n') {
      line += "⏎";
    } else if (static_cast<unsigned char>(c) < 32 || c == 127) {
      line += ' ';
    } else {
      line += c;
    }
  }
  return line;
}

std::string site_of(const std::filesystem::path& dictionary, const std::string& given) {
  if (!given.empty()) return given;
  const std::filesystem::path path = dictionary / "config.json";
  const auto site = json_member_or<std::string>(read_json(path), "site", "", path.string());
  if (site.empty()) fail_usage("{}: does not say at which site the dictionary was learnt; give --site", path.string());
  return site;
}

}  // namespace sememe
