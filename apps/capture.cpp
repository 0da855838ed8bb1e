#include "sememe/features/capture.h"

#include <memory>

#include "apps/command.h"
#include "sememe/base/error.h"
#include "sememe/base/json.h"

namespace sememe {
namespace {

struct CaptureCommand {
  CommonOptions common;
  std::filesystem::path text, out;
  ModelOptions model;
  CaptureOptions options;
  InterventionOptions interventions;
  std::string dtype = "float16", reduction = "sum", target = "next";

  void run() {
    apply(common);
    options.half = dtype == "float16";
    options.gradient_loss = {.mean = reduction == "mean", .own_choice = target == "argmax"};
    options.device = torch::Device(common.device);
    const int64_t rows = is_encoder_folder(model.path) ? of_encoder() : of_language_model();
    fmt::print("{}: {} tokens at {}{}\n", out.string(), rows, options.site, options.gradients ? ", with gradients" : "");
    if (!common.json.empty()) write_json(common.json, {{"rows", rows}, {"site", options.site}, {"gradients", options.gradients}});
  }

  int64_t of_language_model() {
    LanguageModel language_model = load_on(model, common, options.gradients);
    options.interventions = add_interventions(interventions, language_model);
    return capture(language_model, text, options, out);
  }

  int64_t of_encoder() const {
    if (!interventions.files.empty()) fail_usage("--intervention: {} is an encoder, on which no intervention acts yet", model.path.string());
    return capture(load_encoder_on(model, common), text, options, out);
  }
};

}  // namespace

void add_capture_command(CLI::App& program) {
  const auto command = std::make_shared<CaptureCommand>();
  CaptureOptions& options = command->options;
  CLI::App* const app = add_command(program, "capture", "Store a model's activations at a site, over a text",
                                    "sememe capture --model models/english --site blocks.1.output --text prose.txt --tokens "
                                    "1000000 --gradients --out runs/capture");
  app->option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app->add_option("--model", command->model.path, "Folder of the language model or encoder, or a .gguf file")->required();
  add_model_options(*app, command->model);
  app->add_option("--site", options.site, "Where in the network, e.g. blocks.1.output; for a crosscoder or transcoder several, joined with +")->required();
  app->add_option("--text", command->text, "Text file: .txt or .jsonl, plain or compressed")->required();
  app->add_option("--tokens", options.tokens, "How many tokens to store")->capture_default_str();
  app->add_flag("--gradients", options.gradients, "Also store the gradients of the loss");
  app->add_option("--gradient-loss", command->reduction, "Loss over the tokens of a context: sum or mean")
      ->check(CLI::IsMember({"sum", "mean"}))
      ->capture_default_str();
  app->add_option("--gradient-target", command->target, "Loss against the next token, or the model's own argmax (no label)")
      ->check(CLI::IsMember({"next", "argmax"}))
      ->capture_default_str();
  app->add_option("--dtype", command->dtype, "On disk: float16 or float32")
      ->check(CLI::IsMember({"float16", "float32"}))
      ->capture_default_str();
  app->add_option("--batch", options.batch_tokens, "Tokens a forward pass")->capture_default_str();
  app->add_option("--out", command->out, "Folder to write; an interrupted capture there is continued")->required();
  add_intervention_options(*app, command->interventions);
  add_common_options(*app, command->common);
  app->callback([command] { command->run(); });
}

}  // namespace sememe
