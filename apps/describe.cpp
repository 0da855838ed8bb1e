#include <unistd.h>

#include <algorithm>
#include <memory>

#include "apps/command.h"
#include "sememe/base/error.h"
#include "sememe/base/json.h"
#include "sememe/features/description.h"
#include "sememe/features/steering.h"

namespace sememe {
namespace {

namespace fs = std::filesystem;

template <class List, class Show>
std::string listed(const List& list, const Show& show) {
  std::string text;
  for (const auto& element : list) text += (text.empty() ? "" : "  ") + show(element);
  return text.empty() ? "-" : text;
}

struct DescribeCommand {
  CommonOptions common;
  fs::path dictionary, model, text, out;
  DescriptionOptions options;

  void run() {
    apply(common);
    options.seed = common.seed;
    options.device = torch::Device(common.device);
    options.site = site_of(dictionary, options.site);
    const auto loaded = load_dictionary(dictionary);
    const LanguageModel language_model = load_on(model, common);
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
  app->add_option("--model", command->model, "Folder of the language model")->required();
  app->add_option("--text", command->text, "Text that neither of them was trained on")->required();
  app->add_option("--out", command->out, "Folder to write")->required();
  app->add_option("--site", command->options.site, "Where in the network; by default where the dictionary was learnt");
  app->add_option("--tokens", command->options.tokens, "Tokens of the text")->capture_default_str();
  app->add_option("--batch", command->options.batch_tokens, "Tokens a forward pass")->capture_default_str();
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

std::string sparkline(const std::vector<int64_t>& counts) {
  static constexpr const char* kBars[] = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  const int64_t most = counts.empty() ? 0 : *std::max_element(counts.begin(), counts.end());
  std::string line;
  // Any firing at all shows.
  for (const int64_t count : counts) line += kBars[count <= 0 || most == 0 ? 0 : 1 + 7 * (count - 1) / std::max<int64_t>(most, 1)];
  return line;
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
  fmt::print("activations   0 {} {:.3g}\n", sparkline(latent.histogram), latent.maximum);
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

struct SteerCommand {
  CommonOptions common;
  fs::path dictionary, model, description;
  SteeringOptions options;

  void run() {
    apply(common);
    options.site = site_of(dictionary, options.site);
    options.generate.seed = common.seed;
    const auto loaded = load_dictionary(dictionary);
    const LanguageModel language_model = load_on(model, common);
    Json key_words = Json::array();
    const auto folder = find_description(description.empty() ? dictionary : description);
    if (!folder && !description.empty()) fail("{}: holds no description", description.string());
    if (folder && options.latent >= 0 && options.latent < loaded->size()) {
      const LatentDescription latent = load_latent(*folder, options.latent);
      options.unit = unit_of_description(*loaded, options.latent, latent.typical_maximum);
      for (const DescribedWord& word : latent.key_words) key_words.push_back(word.text);
    } else {
      options.unit = unit_of_prompt(language_model, options.site, options.prompt);
    }
    Json result = steer(*loaded, language_model, options);
    result["dictionary"] = (dictionary.has_filename() ? dictionary : dictionary.parent_path()).filename().string();
    result["key_words"] = key_words;
    print(result);
    if (!common.json.empty()) write_json(common.json, result);
  }

  static void print(const Json& result) {
    const auto words = result["key_words"].get<std::vector<std::string>>();
    fmt::print("latent {}, key words: {}\n", result["latent"].get<int64_t>(), listed(words, one_line));
    fmt::print("one unit of strength has norm {:.4g}: {}\n\n", result["unit"].get<double>(),
               result["unit_meaning"].get<std::string>());
    const std::string prompt = one_line(result["prompt"].get<std::string>());
    fmt::print("before        {}|{}\n", prompt, one_line(result["before"].get<std::string>()));
    const auto probability = [](const Json& token) {
      return fmt::format("'{}' {:.1f}% -> {:.1f}%", one_line(token["text"].get<std::string>()), token["before"].get<double>() * 100,
                         token["after"].get<double>() * 100);
    };
    for (const Json& steered : result["steered"]) {
      fmt::print("\nstrength {:<4g} {}|{}\n", steered["strength"].get<double>(), prompt,
                 one_line(steered["after"].get<std::string>()));
      fmt::print("  next token: kl {:.3f} nats ({:.3f} on average over the prompt)\n", steered["kl"].get<double>(),
                 steered["kl_prompt"].get<double>());
      fmt::print("  more likely  {}\n  less likely  {}\n", listed(steered["raised"], probability),
                 listed(steered["lowered"], probability));
    }
  }
};

void add_steer_command(CLI::App& group) {
  const auto command = std::make_shared<SteerCommand>();
  SteeringOptions& options = command->options;
  CLI::App* const app = add_command(group, "steer", "Add a latent's direction while the model writes",
                                    "sememe dictionary steer --dictionary runs/topk --model models/english --latent 17 "
                                    "--strength 2 --prompt \"The old house\"");
  app->add_option("--dictionary", command->dictionary, "Folder made by dictionary train")->required();
  app->add_option("--model", command->model, "Folder of the language model")->required();
  app->add_option("--latent", options.latent, "Number of the latent")->required();
  app->add_option("--strength", options.strengths,
                  "How much, in units of what the latent adds where it fires strongly (without a description: of the mean norm at "
                  "the site); several may be given")
      ->required();
  app->add_option("--prompt", options.prompt, "Text to continue")->required();
  app->add_option("--tokens", options.generate.tokens, "New tokens")->capture_default_str();
  app->add_option("--temperature", options.generate.temperature, "0 takes the most likely token")->capture_default_str();
  app->add_option("--top-k", options.generate.top_k, "Draw from the likeliest tokens only; 0 takes all")->capture_default_str();
  app->add_option("--description", command->description,
                  "Folder made by dictionary describe; by default looked for inside and beside the dictionary's");
  app->add_option("--site", options.site, "Where in the network; by default where the dictionary was learnt");
  add_common_options(*app, command->common);
  app->callback([command] { command->run(); });
}

}  // namespace

void add_describe_commands(CLI::App& dictionary) {
  add_describe_command(dictionary);
  add_show_command(dictionary);
  add_steer_command(dictionary);
}

}  // namespace sememe
