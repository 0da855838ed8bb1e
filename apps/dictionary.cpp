#include <memory>

#include "apps/command.h"
#include "sememe/base/json.h"
#include "sememe/features/architectures.h"
#include "sememe/features/dictionary_training.h"

namespace sememe {
namespace {

struct TrainCommand {
  CommonOptions common;
  std::filesystem::path activations, out;
  DictionaryTrainingOptions options;

  void run() {
    apply(common);
    options.seed = common.seed;
    const Json result = train_dictionary(ActivationStore::open(activations), options, out);
    fmt::print("{}: loss {:.4f}, fvu {:.4f}, l0 {:.1f}, {} dead of {} latents, {:.0f} tokens per second\n", out.string(),
               result["loss"].get<double>(), result["fvu"].get<double>(), result["l0"].get<double>(),
               result["dead"].get<int64_t>(), options.latents, result["tokens_per_second"].get<double>());
    if (!common.json.empty()) write_json(common.json, result);
  }
};

std::string architecture_help() {
  std::string help = "Kind of dictionary: ";
  for (const Architecture& architecture : architectures())
    help += fmt::format("{}{}, {}", help.ends_with(": ") ? "" : "; ", architecture.name, architecture.what);
  return help;
}

void add_train_command(CLI::App& group) {
  const auto command = std::make_shared<TrainCommand>();
  DictionaryTrainingOptions& options = command->options;
  CLI::App* const app = add_command(group, "train", "Learn a dictionary from activations",
                                    "sememe dictionary train --activations runs/capture --architecture topk --latents 2048 "
                                    "--k 16 --tokens 2000000 --out runs/topk --json runs/topk.json");
  app->option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app->add_option("--activations", command->activations, "Folder made by capture, .npy or .safetensors")->required();
  app->add_option("--architecture", options.architecture, architecture_help())->capture_default_str();
  app->add_option("--latents", options.latents, "Number of latents")->capture_default_str();
  app->add_option("--k", options.k, "Latents that are active for a token")->capture_default_str();
  app->add_option("--tokens", options.tokens, "Rows to train on, over several epochs where need be")->capture_default_str();
  app->add_option("--batch", options.batch, "Rows a step")->capture_default_str();
  app->add_option("--out", command->out, "Folder to write")->required();
  app->add_option("--learning-rate", options.learning_rate, "0 takes 0.002 / sqrt(latents / 1024)")->capture_default_str();
  app->add_option("--decay", options.decay, "Last share of the run in which the rate falls to 0")->capture_default_str();
  app->add_option("--auxiliary-k", options.auxiliary_k, "Dead latents that model the error; -1 takes width / 2, 0 none")
      ->capture_default_str();
  app->add_option("--dead-after", options.dead_after, "Rows unselected that make a latent dead; 0 takes a tenth of the run")
      ->capture_default_str();
  app->add_flag("--drop-sinks", options.drop_sinks, "Leave out rows whose norm is over 10 times the median");
  app->add_option("--beta", options.gradient.beta, "gsae: weight of the gradient in selection")->capture_default_str();
  app->add_option("--score", options.gradient.score, "gsae: additive or product")->capture_default_str();
  app->add_option("--gradient-scaling", options.gradient.scaling, "gsae: batch-mean or raw")->capture_default_str();
  app->add_option("--checkpoint-every", options.checkpoint_every, "Steps; 0 saves once a minute")->capture_default_str();
  app->add_flag("--resume", options.resume, "Continue from the checkpoint, if there is one");
  add_common_options(*app, command->common);
  app->callback([command] { command->run(); });
}

}  // namespace

void add_dictionary_commands(CLI::App& program) {
  CLI::App* const group = program.add_subcommand("dictionary", "Learn dictionaries of features, test them, use them");
  group->require_subcommand(1);
  add_train_command(*group);
}

}  // namespace sememe
