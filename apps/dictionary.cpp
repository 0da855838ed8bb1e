#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "apps/command.h"
#include "sememe/base/error.h"
#include "sememe/base/interrupt.h"
#include "sememe/base/json.h"
#include "sememe/base/progress.h"
#include "sememe/features/architectures.h"
#include "sememe/features/dictionary_training.h"
#include "sememe/features/evaluation.h"
#include "sememe/formats/npy.h"
#include "sememe/ranks/ranks.h"

namespace sememe {
namespace {

struct TrainCommand {
  CommonOptions common;
  std::filesystem::path activations, out;
  DictionaryTrainingOptions options;

  void run() {
    apply(common);
    options.seed = common.seed;
    options.device = torch::Device(common.device);
    const Json result = train_dictionary(ActivationStore::open(activations), options, out);
    if (!Ranks::of_run().first()) return;
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

/// " (of topk, gsae)": which architectures have the option.
std::string owners(std::string_view option) {
  std::vector<std::string_view> names;
  for (const Architecture& architecture : architectures())
    if (architecture.takes(option)) names.push_back(architecture.name);
  return fmt::format(" (of {})", fmt::join(names, ", "));
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
  app->add_option("--k", options.k, "Latents that are active for a token; 16 unless given" + owners("k"));
  app->add_option("--tokens", options.tokens, "Rows to train on, over several epochs where need be")->capture_default_str();
  app->add_option("--batch", options.batch, "Rows a step")->capture_default_str();
  app->add_option("--out", command->out, "Folder to write")->required();
  app->add_option("--learning-rate", options.learning_rate,
                  "0 takes 0.005 / sqrt(latents / 1024), and 0.3 of it for gated and jumprelu; kmeans, pca and ica have none")
      ->capture_default_str();
  app->add_option("--decay", options.decay, "Last share of the run in which the rate falls to 0")->capture_default_str();
  app->add_option("--auxiliary-k", options.auxiliary_k,
                  "Dead latents that model the error; 0 is none, width / 2 unless given" + owners("auxiliary-k"));
  app->add_option("--dead-after", options.dead_after, "Rows unselected that make a latent dead; 0 takes a tenth of the run")
      ->capture_default_str();
  app->add_flag("--drop-sinks", options.drop_sinks, "Leave out rows whose norm is over 10 times the median");
  app->add_option("--beta", options.gradient.beta, "Weight of the gradient in selection; 1 unless given" + owners("beta"));
  app->add_option("--score", options.gradient.score, "additive (default) or product" + owners("score"));
  app->add_option("--gradient-scaling", options.gradient.scaling, "batch-mean (default) or raw" + owners("gradient-scaling"));
  app->add_flag("--multi-topk", options.multi_top_k, "Add 1/8 of the loss with 4 k latents" + owners("multi-topk"));
  app->add_option("--sparsity", options.sparsity,
                  "Weight of the sparsity term; unless given it is found by aiming at --target-l0" + owners("sparsity"));
  app->add_option("--target-l0", options.target_l0,
                  "Active latents a token to aim at; 16 unless it or --sparsity is given" + owners("target-l0"));
  app->add_option("--penalty", options.penalty,
                  "relu: decoder-norm (default) or classic; jumprelu: l0 (default) or tanh" + owners("penalty"));
  app->add_option("--attribution", options.attribution,
                  "Weight of the latents' influence on the loss; 1 unless given" + owners("attribution"));
  app->add_option("--unexplained", options.unexplained,
                  "Weight of the error's influence on the loss; 1 unless given" + owners("unexplained"));
  app->add_option("--prefixes", options.prefixes,
                  "Numbers of latents that must do without the later, as 128,256,2048; 1/16, 1/8, 1/4, 1/2 and all unless given" +
                      owners("prefixes"))
      ->delimiter(',');
  app->add_option("--shards", options.shards,
                  "Under mpirun: parts of the latents, each on its own ranks; 0 takes as many as exchange the fewest bytes")
      ->capture_default_str();
  app->add_option("--checkpoint-every", options.checkpoint_every, "Steps; 0 saves once a minute")->capture_default_str();
  app->add_flag("--resume", options.resume, "Continue from the checkpoint, if there is one");
  command->common.on_ranks = true;
  add_common_options(*app, command->common);
  app->callback([command] { command->run(); });
}

struct EvaluateCommand {
  CommonOptions common;
  std::filesystem::path dictionary, text;
  ModelOptions model;
  EvaluationOptions options;
  InterventionOptions interventions;

  void run() {
    apply(common);
    const std::shared_ptr<Dictionary> loaded = load_dictionary(dictionary);
    options.site = site_of(dictionary, options.site);
    options.seed = common.seed;
    options.device = torch::Device(common.device);
    LanguageModel language_model = load_on(model, common, find_architecture(loaded->architecture()).needs_gradients);
    const Json acting = add_interventions(interventions, language_model);
    Json result = evaluate_dictionary(*loaded, language_model, text, options);
    if (!acting.empty()) result["interventions"] = acting;
    print(result, "", "plain selection");
    if (result.contains("l0_gradient")) print(result, "_gradient", "gradient selection (looks at the next token)");
    if (!common.json.empty()) write_json(common.json, result);
  }

  static void print(const Json& result, const std::string& suffix, const char* title) {
    const auto number = [&](const std::string& key) { return result.at(key + suffix).get<double>(); };
    // " (0.91 to 0.95)" where the text had contexts enough for an interval
    const auto interval = [&](const std::string& key) {
      if (!result.contains(key + suffix + "_low")) return std::string();
      return fmt::format(" ({:.4f} to {:.4f})", result.at(key + suffix + "_low").get<double>(),
                         result.at(key + suffix + "_high").get<double>());
    };
    const Json& percentiles = result.at("density_percentiles" + suffix);
    fmt::print("{} over {} tokens in {} contexts (in brackets: 95 % intervals)\n", title, result["tokens"].get<int64_t>(),
               result["contexts"].get<int64_t>());
    fmt::print("  sparsity        l0 {:.2f}  dead {} and dense {} of {} latents\n", number("l0"), number("dead"), number("dense"),
               result["latents"].get<int64_t>());
    fmt::print("                  density {:.2g} at the 5th percentile, median {:.2g}, {:.2g} at the 95th\n", percentiles["5"].get<double>(),
               percentiles["50"].get<double>(), percentiles["95"].get<double>());
    const Json& bias = result.at("relative_bias" + suffix);
    fmt::print("  reconstruction  fvu {:.4f}{}  explained variance {:.4f}\n", number("fvu"), interval("fvu"), number("explained_variance"));
    fmt::print("                  nmse {:.4f}  cosine {:.4f}  norm ratio {:.4f}  relative bias {}\n", number("nmse"), number("cosine"),
               number("l2_ratio"), bias.is_null() ? "none" : fmt::format("{:.4f}", bias.get<double>()));
    fmt::print("  cross-entropy   clean {:.4f}  dictionary {:.4f} (delta {:.4f})  mean {:.4f}  zero {:.4f}\n", result["ce_clean"].get<double>(),
               number("ce_dictionary"), number("delta_ce"), result["ce_mean"].get<double>(), result["ce_zero"].get<double>());
    fmt::print("  recovered       {:.4f}{} of what zeros lose\n", number("ce_recovered"), interval("ce_recovered"));
    fmt::print("                  {:.4f}{} of what the mean loses\n", number("ce_recovered_mean"), interval("ce_recovered_mean"));
    fmt::print("  kl              {:.4f}{}  score {:.4f} against zeros, {:.4f} against the mean\n", number("kl"), interval("kl"),
               number("kl_score"), number("kl_score_mean"));
  }
};

void add_evaluate_command(CLI::App& group) {
  const auto command = std::make_shared<EvaluateCommand>();
  CLI::App* const app = add_command(group, "evaluate", "Measure a dictionary on held-out text",
                                    "sememe dictionary evaluate --dictionary runs/topk --model models/english --text "
                                    "held-out.txt --json runs/evaluation.json");
  app->option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app->add_option("--dictionary", command->dictionary, "Folder made by dictionary train")->required();
  app->add_option("--model", command->model.path, "Folder of the language model, or its .gguf file")->required();
  add_model_options(*app, command->model);
  app->add_option("--text", command->text, "Text that neither of them was trained on")->required();
  app->add_option("--site", command->options.site, "Where in the network; by default where the dictionary was learnt");
  app->add_option("--tokens", command->options.tokens, "Tokens of the text")->capture_default_str();
  app->add_option("--batch", command->options.batch_tokens, "Tokens a forward pass")->capture_default_str();
  add_intervention_options(*app, command->interventions, false);
  add_common_options(*app, command->common);
  app->callback([command] { command->run(); });
}

struct ReconstructCommand {
  CommonOptions common;
  std::filesystem::path dictionary, activations, out;
  int64_t batch = 8192;

  void run() {
    apply(common);
    const std::shared_ptr<Dictionary> loaded = load_dictionary(dictionary);
    const ActivationStore store = ActivationStore::open(activations);
    if (store.width() != loaded->width())
      fail("{}: has rows of width {}, the dictionary takes {}", activations.string(), store.width(), loaded->width());
    if (batch < 1) fail_usage("--batch {}: give at least 1", batch);
    NpyWriter writer(out, store.width());
    ReconstructionFigures figures(loaded->size(), loaded->width());
    Progress progress("reconstruct", store.rows(), "rows");
    for (int64_t row = 0; row < store.rows(); row += batch) {
      const torch::Tensor x = store.read(row, std::min(batch, store.rows() - row)).activations.to(torch::Device(common.device));
      const SparseCodes codes = loaded->encode(x);
      const torch::Tensor reconstruction = loaded->decode(codes).cpu();
      figures.add(x.cpu(), codes, reconstruction);
      writer.write({reconstruction.data_ptr<float>(), static_cast<size_t>(reconstruction.numel())});
      progress.update(row + x.size(0));
      if (interrupted()) throw Interrupted("interrupted while reconstructing; nothing was written");
    }
    writer.commit();
    fmt::print("{}: {} rows, l0 {:.2f}, fvu {:.4f}\n", out.string(), store.rows(), figures.l0(), figures.fvu());
    if (!common.json.empty())
      write_json(common.json, {{"rows", store.rows()}, {"l0", figures.l0()}, {"fvu", figures.fvu()}, {"dead", figures.dead()}});
  }
};

void add_reconstruct_command(CLI::App& group) {
  const auto command = std::make_shared<ReconstructCommand>();
  CLI::App* const app = add_command(group, "reconstruct", "Write what a dictionary makes of activations",
                                    "sememe dictionary reconstruct --dictionary runs/topk --activations runs/capture --out "
                                    "reconstruction.npy");
  app->option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app->add_option("--dictionary", command->dictionary, "Folder made by dictionary train")->required();
  app->add_option("--activations", command->activations, "Folder made by capture, .npy or .safetensors")->required();
  app->add_option("--batch", command->batch, "Rows at a time")->capture_default_str();
  app->add_option("--out", command->out, ".npy file to write, float32")->required();
  add_common_options(*app, command->common);
  app->callback([command] { command->run(); });
}

}  // namespace

void add_dictionary_commands(CLI::App& program) {
  CLI::App* const group = program.add_subcommand("dictionary", "Learn dictionaries of features, test them, use them");
  group->require_subcommand(1);
  add_train_command(*group);
  add_evaluate_command(*group);
  add_reconstruct_command(*group);
  add_describe_commands(*group);
  add_convert_command(*group);
  add_steer_commands(*group);
  add_factorize_command(*group);
  add_compare_commands(*group);
}

}  // namespace sememe
