#include "apps/command.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>

#include "sememe/base/error.h"
#include "sememe/base/progress.h"
#include "sememe/base/threads.h"
#include "sememe/features/interchange/format.h"
#include "sememe/ranks/ranks.h"

namespace sememe {

CLI::App* add_command(CLI::App& parent, const std::string& name, const std::string& what, const std::string& example) {
  CLI::App* const command = parent.add_subcommand(name, what);
  command->footer("Example:\n  " + example);
  return command;
}

void add_common_options(CLI::App& command, CommonOptions& options, bool with_json) {
  command.add_option("--seed", options.seed, "Seed of every random draw")->capture_default_str();
  command.add_option("--threads", options.threads, "Worker threads; 0 takes the cores that it may run on")->capture_default_str();
  command.add_option("--device", options.device, "cpu or cuda")->capture_default_str();
  command.add_flag("--quiet", options.quiet, "No progress and no notes");
  if (with_json) command.add_option("--json", options.json, "Also write the result to this file");
}

void apply(const CommonOptions& options) {
  const Ranks& ranks = Ranks::of_run();
  if (!ranks.alone() && !options.on_ranks)
    fail_usage("mpirun: only dictionary train and bench ranks work on several ranks; run this command without it");
  if (options.threads != 0)
    set_thread_count(options.threads);
  else if (ranks.on_this_machine() > 1)  // that share all its cores
    set_thread_count(std::max(1, thread_count() / ranks.on_this_machine()));
  torch::set_num_threads(thread_count());
  set_quiet(options.quiet || !ranks.first());
  if (options.device == "cuda" && !torch::cuda::is_available())
    fail_usage("--device cuda: this LibTorch sees no CUDA device; use --device cpu");
  if (options.device != "cpu" && options.device != "cuda") fail_usage("--device {}: give cpu or cuda", options.device);
}

void add_model_options(CLI::App& command, ModelOptions& options) {
  command.add_option("--context", options.context, "Tokens of a context that text is cut into; 0 takes the model's own, at most 1024")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command.add_flag("--float32", options.float32, "Run a .gguf file in float32 rather than in its own precision, which is faster");
  add_tokenizer_option(command, options.tokenizer);
}

void add_tokenizer_option(CLI::App& command, std::filesystem::path& tokenizer) {
  command.add_option("--tokenizer", tokenizer, "Of a llama2.c checkpoint (.bin), which has none; by default tokenizer.bin beside it");
}

LanguageModel load_on(const ModelOptions& options, const CommonOptions& common, bool gradients) {
  const bool float32 = options.float32 || gradients || common.device != "cpu";
  const bool engine = !float32 && (options.engine || options.path.extension() == ".gguf");
  LanguageModel model = LanguageModel::load(options.path, engine ? Precision::kFile : Precision::kFloat32, options.tokenizer);
  if (gradients && !options.float32 && options.path.extension() == ".gguf")
    note("gradients are wanted: the model runs in float32 rather than in its own precision");
  if (options.context > model.network->config().context)
    fail_usage("--context {}: the model's own is {}", options.context, model.network->config().context);
  model.context = options.context;
  model.network->to(torch::Device(common.device));
  return model;
}

SentenceEncoder load_encoder_on(const ModelOptions& options, const CommonOptions& common) {
  SentenceEncoder encoder = SentenceEncoder::load(options.path);
  const int64_t own = encoder.network->config().context;
  if (options.context > own) fail_usage("--context {}: the encoder's own is {}", options.context, own);
  if (options.context > 0) encoder.context = options.context;
  encoder.network->to(torch::Device(common.device));
  return encoder;
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

std::string sparkline(const std::vector<double>& values) {
  static constexpr const char* kBars[] = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  if (values.empty()) return "";
  const double least = std::min(0.0, *std::min_element(values.begin(), values.end()));
  const double range = *std::max_element(values.begin(), values.end()) - least;
  std::string line;
  for (const double value : values)
    line += kBars[value > least ? std::clamp(static_cast<int>(std::ceil(8.0 * (value - least) / range)), 1, 8) : 0];
  return line;
}

void add_intervention_options(CLI::App& command, InterventionOptions& options, bool with_dictionary) {
  command
      .add_option("--intervention", options.files,
                  "File made by dictionary steer --save, or a control vector FILE.gguf[:SCALE], that acts while the model runs; several may be given")
      ->allow_extra_args(false);
  if (with_dictionary)
    command.add_option("--dictionary", options.dictionary, "Folder of the intervention's dictionary; by default the one its file says");
}

Interventions load_interventions(const InterventionOptions& options, const Network& network, Passes passes) {
  if (options.files.empty() && !options.dictionary.empty()) fail_usage("--dictionary: belongs to --intervention, which is not given");
  return {options.files, options.dictionary, network, passes};
}

Json add_interventions(const InterventionOptions& options, LanguageModel& model) {
  if (options.files.empty()) return Json::array();
  const auto acting = std::make_shared<Interventions>(load_interventions(options, *model.network, Passes::kWholeContexts));
  model.network->add_visitor(acting);
  note(acting->description());
  return acting->to_json();
}

std::string site_of(const std::filesystem::path& dictionary, const std::string& given) {
  if (!given.empty()) return given;
  std::string site = dictionary_site(dictionary);
  if (site.empty()) fail_usage("{}: does not say at which site the dictionary was learnt; give --site", dictionary.string());
  return site;
}

}  // namespace sememe
