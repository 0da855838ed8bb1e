#include <unistd.h>

#include <algorithm>
#include <memory>

#include "apps/command.h"
#include "sememe/base/error.h"
#include "sememe/base/json.h"
#include "sememe/features/description.h"

namespace sememe {
namespace {

namespace fs = std::filesystem;

struct DescribeCommand {
  CommonOptions common;
  fs::path dictionary, text, out;
  ModelOptions model;
  DescriptionOptions options;
  InterventionOptions interventions;

  void run() {
    apply(common);
    options.seed = common.seed;
    options.device = torch::Device(common.device);
    options.site = site_of(dictionary, options.site);
    const auto loaded = load_dictionary(dictionary);
    LanguageModel language_model = load_on(model, common);
    add_interventions(interventions, language_model);
    const Json summary = describe_dictionary(*loaded, language_model, text, options, out);
    fmt::print("{}: {} latents over {} tokens, {} never fired\n", out.string(), summary["latents"].get<int64_t>(),
               summary["tokens"].get<int64_t>(), summary["dead"].get<int64_t>());
    fmt::print("the clearest ({}):\n", summary["clarity"].get<std::string>());
    const auto clearest = summary["clearest"].get<std::vector<int64_t>>();
    for (size_t i = 0; i < std::min<size_t>(10, clearest.size()); ++i) {
      const LatentDescription latent = load_latent(out, clearest[i]);
      fmt::print("  {:>6}  {:.2f}  {}\n", latent.latent, latent.clarity.value_or(0.0),
                 listed(latent.key_words, [](const DescribedWord& word) { return one_line(word.text); }));
    }
    if (!common.json.empty()) write_json(common.json, summary);
  }
};

void add_describe_command(CLI::App& group) {
  const auto command = std::make_shared<DescribeCommand>();
  CLI::App* const app = add_command(group, "describe", "Say what each latent fires on, from held-out text",
                                    "sememe dictionary describe --dictionary runs/topk --model models/english --text "
                                    "held-out.txt --out runs/topk-description");
  app->option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app->add_option("--dictionary", command->dictionary, "Folder made by dictionary train")->required();
  app->add_option("--model", command->model.path, "Folder of the language model, or its .gguf file")->required();
  add_model_options(*app, command->model);
  app->add_option("--text", command->text, "Text that neither of them was trained on")->required();
  app->add_option("--out", command->out, "Folder to write")->required();
  app->add_option("--site", command->options.site, "Where in the network; by default where the dictionary was learnt");
  app->add_option("--tokens", command->options.tokens, "Tokens of the text")->capture_default_str();
  app->add_option("--batch", command->options.batch_tokens, "Tokens a forward pass")->capture_default_str();
  add_intervention_options(*app, command->interventions, false);
  add_common_options(*app, command->common);
  app->callback([command] { command->run(); });
}

/// Marks tokens by how strongly a latent fires: shades of background on a terminal, brackets elsewhere.
std::string marked(const std::string& part, double activation, double maximum, bool colour) {
  const std::string text = one_line(part);
  if (!(activation > 0)) return text;
  if (!colour) return "[[" + text + "]]";
  // From dark brown to bright orange in the 256-colour palette; black text from the middle up.
  static constexpr int kShades[] = {52, 94, 130, 166, 208, 214};
  const int shade = std::clamp(static_cast<int>(activation / maximum * 6.0), 0, 5);
  return fmt::format("\033[48;5;{}m\033[38;5;{}m{}\033[0m", kShades[shade], shade < 3 ? 231 : 16, text);
}

void print_latent(const LatentDescription& latent, bool colour) {
  const auto word = [](const DescribedWord& described) {
    return fmt::format("{} ({}/{})", one_line(described.text), described.firings, described.occurrences);
  };
  const auto share = [](const DescribedToken& token) { return fmt::format("'{}' {:.0f}%", one_line(token.text), token.value * 100); };
  const auto logit = [](const DescribedToken& token) { return fmt::format("'{}'", one_line(token.text)); };
  fmt::print("latent {}: fires on {:.4g}% of tokens ({} times), clarity {}\n", latent.latent, latent.density * 100, latent.firings,
             latent.clarity ? fmt::format("{:.2f}", *latent.clarity) : "unknown (too few firings)");
  if (latent.firings == 0) return fmt::print("it never fired on the text it was described on\n");
  fmt::print("key words     {}\n", listed(latent.key_words, word));
  fmt::print("words before  {}\n", listed(latent.context_words, word));
  fmt::print("fires on      {}\n", listed(latent.fires_on, share));
  if (!latent.promoted.empty()) {
    fmt::print("promotes      {}\n", listed(latent.promoted, logit));
    fmt::print("suppresses    {}\n", listed(latent.suppressed, logit));
  }
  fmt::print("nearest       {}\n", listed(latent.nearest, [](const NearLatent& near) {
               return fmt::format("{} (cosine {:.2f})", near.latent, near.cosine);
             }));
  fmt::print("activations   0 {} {:.3g}\n", sparkline({latent.histogram.begin(), latent.histogram.end()}), latent.maximum);
  std::string group;
  for (const Example& example : latent.examples) {
    if (example.group != group) {
      group = example.group;
      fmt::print("\n{}\n", group == "top" ? "strongest" : "about " + group + " of its peaks are weaker");
    }
    std::string line;
    for (size_t i = 0; i < example.parts.size(); ++i)
      line += marked(example.parts[i], example.activations[i], latent.maximum, colour);
    fmt::print("  {:>7.3g}  {}\n", example.activation, line);
  }
}

struct ShowCommand {
  CommonOptions common;
  fs::path folder;
  int64_t latent = 0;

  void run() const {
    apply(common);
    const auto found = find_description(folder);
    if (!found)
      fail("{}: holds no description; make one with: sememe dictionary describe --dictionary {} --model MODEL --text TEXT --out {}",
           folder.string(), folder.string(), (folder / "description").string());
    const LatentDescription description = load_latent(*found, latent);
    print_latent(description, isatty(STDOUT_FILENO) == 1);
    if (!common.json.empty()) write_json(common.json, description.to_json());
  }
};

void add_show_command(CLI::App& group) {
  const auto command = std::make_shared<ShowCommand>();
  CLI::App* const app = add_command(group, "show", "Show what a latent fires on", "sememe dictionary show runs/topk-description 17");
  app->option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app->add_option("folder", command->folder, "Folder made by dictionary describe, or a dictionary's that has one inside or beside it")
      ->required();
  app->add_option("latent", command->latent, "Number of the latent")->required();
  add_common_options(*app, command->common);
  app->callback([command] { command->run(); });
}

}  // namespace

void add_describe_commands(CLI::App& dictionary) {
  add_describe_command(dictionary);
  add_show_command(dictionary);
}

}  // namespace sememe
