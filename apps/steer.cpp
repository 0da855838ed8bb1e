#include <algorithm>
#include <charconv>
#include <memory>
#include <optional>
#include <tuple>
#include <utility>

#include "apps/command.h"
#include "sememe/features/control_vector.h"
#include "sememe/base/error.h"
#include "sememe/base/json.h"
#include "sememe/features/description.h"
#include "sememe/features/dose_response.h"
#include "sememe/features/steering.h"

namespace sememe {
namespace {

namespace fs = std::filesystem;

/// The whole text as a number.
template <class T>
std::optional<T> number_in(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// What --add, --clamp, --ablate, --swap and --scale are given.
Edit edit_in(EditKind kind, const std::string& text) {
  const std::string option = "--" + std::string(name_of(kind));
  if (kind == EditKind::kAblate) {
    if (const auto latent = number_in<int64_t>(text)) return Edit::ablate(*latent);
    fail_usage("{} {}: give the number of a latent", option, text);
  }
  const bool swap = kind == EditKind::kSwap;
  const size_t middle = text.find(swap ? ',' : '=');
  if (middle != std::string::npos) {
    const auto latent = number_in<int64_t>(std::string_view(text).substr(0, middle));
    const std::string_view rest = std::string_view(text).substr(middle + 1);
    if (swap) {
      if (const auto other = number_in<int64_t>(rest); latent && other) return Edit::swap(*latent, *other);
    } else if (const auto amount = number_in<double>(rest); latent && amount) {
      return {kind, *latent, *amount, 1.0, 0};
    }
  }
  fail_usage("{} {}: give {}", option, text,
             swap ? "two latents as 3,8" : "a latent and a number as " + std::string(kind == EditKind::kScale ? "17=0.5" : "17=2"));
}

std::optional<fs::path> description_of(const fs::path& dictionary, const fs::path& given) {
  const auto folder = find_description(given.empty() ? dictionary : given);
  if (!folder && !given.empty()) fail("{}: holds no description", given.string());
  return folder;
}

std::vector<std::string> key_words_of(const LatentDescription& latent) {
  std::vector<std::string> words;
  for (const DescribedWord& word : latent.key_words) words.push_back(word.text);
  return words;
}

std::string name_of_folder(const fs::path& folder) { return (folder.has_filename() ? folder : folder.parent_path()).filename().string(); }

struct SteerCommand {
  CommonOptions common;
  fs::path dictionary, description, save;
  ModelOptions model;
  SteeringOptions options;
  std::optional<int64_t> latent;
  std::vector<Edit> edits;  ///< in the order of the command line

  void run() {
    apply(common);
    if (edits.empty() && (!latent || options.strengths.empty()))
      fail_usage("give --latent with --strength, or edits: --add, --clamp, --ablate, --swap, --scale");
    if (!edits.empty() && (latent || !options.strengths.empty()))
      fail_usage("--latent and --strength cannot be mixed with other edits; write --add LATENT=STRENGTH");
    if (!save.empty() && options.strengths.size() > 1) fail_usage("--save: an intervention has one strength; give one --strength");
    options.site = site_of(dictionary, options.site);
    options.generate.seed = common.seed;
    const auto loaded = load_dictionary(dictionary);
    const LanguageModel language_model = load_on(model, common);
    const auto folder = description_of(dictionary, description);
    Json result = edits.empty() ? steer_latent(*loaded, language_model, folder) : edit_latents(*loaded, language_model, folder);
    if (!common.json.empty()) write_json(common.json, result);
  }

  /// The unit of a latent and its key words.
  std::pair<SteeringUnit, std::vector<std::string>> unit_of(const Dictionary& loaded, const LanguageModel& language_model,
                                                            const std::optional<fs::path>& folder, int64_t which) const {
    if (!folder || which < 0 || which >= loaded.size()) return {unit_of_prompt(language_model, options.site, options.prompt), {}};
    const LatentDescription described = load_latent(*folder, which);
    return {unit_of_description(loaded, which, described.typical_maximum), key_words_of(described)};
  }

  Json steer_latent(const Dictionary& loaded, const LanguageModel& language_model, const std::optional<fs::path>& folder) {
    options.latent = *latent;
    std::vector<std::string> key_words;
    std::tie(options.unit, key_words) = unit_of(loaded, language_model, folder, *latent);
    Json result = steer(loaded, language_model, options);
    result["dictionary"] = name_of_folder(dictionary);
    result["key_words"] = key_words;
    if (!save.empty()) write_intervention(loaded, {Edit::add(*latent, options.strengths[0], options.unit.norm)});
    print(result);
    return result;
  }

  Json edit_latents(const Dictionary& loaded, const LanguageModel& language_model, const std::optional<fs::path>& folder) {
    for (Edit& edit : edits) {
      if (const auto fault = fault_of(edit, loaded)) fail_usage("{}", *fault);
      if (edit.kind == EditKind::kAdd) edit.unit = unit_of(loaded, language_model, folder, edit.latent).first.norm;
    }
    Intervention intervention(options.site, dictionary, loaded);
    intervention.edits = edits;
    Json result = intervene(loaded, language_model, intervention, options.prompt, options.generate);
    result["dictionary"] = name_of_folder(dictionary);
    if (!save.empty()) write_intervention(loaded, edits);
    const std::string prompt = one_line(options.prompt);
    for (const Edit& edit : edits)
      fmt::print("{}{}\n", to_string(edit), edit.kind == EditKind::kAdd ? fmt::format(" (one unit has norm {:.4g})", edit.unit) : "");
    fmt::print("\nbefore        {}|{}\n\nafter         {}|{}\n", prompt, one_line(result["before"].get<std::string>()), prompt,
               one_line(result["after"].get<std::string>()));
    print_move(result);
    return result;
  }

  void write_intervention(const Dictionary& loaded, const std::vector<Edit>& wanted) const {
    Intervention intervention(options.site, dictionary, loaded);
    intervention.edits = wanted;
    if (save.extension() == ".gguf")
      control_vector_of(intervention, loaded).save(save);
    else
      intervention.save(save);
  }

  static void print_move(const Json& move) {
    const auto probability = [](const Json& token) {
      return fmt::format("'{}' {:.1f}% -> {:.1f}%", one_line(token["text"].get<std::string>()), token["before"].get<double>() * 100,
                         token["after"].get<double>() * 100);
    };
    fmt::print("  next token: kl {:.3f} nats ({:.3f} on average over the prompt)\n", move["kl"].get<double>(), move["kl_prompt"].get<double>());
    fmt::print("  more likely  {}\n  less likely  {}\n", listed(move["raised"], probability), listed(move["lowered"], probability));
  }

  static void print(const Json& result) {
    const auto words = result["key_words"].get<std::vector<std::string>>();
    fmt::print("latent {}, key words: {}\n", result["latent"].get<int64_t>(), listed(words, one_line));
    fmt::print("one unit of strength has norm {:.4g}: {}\n\n", result["unit"].get<double>(), result["unit_meaning"].get<std::string>());
    const std::string prompt = one_line(result["prompt"].get<std::string>());
    fmt::print("before        {}|{}\n", prompt, one_line(result["before"].get<std::string>()));
    for (const Json& steered : result["steered"]) {
      fmt::print("\nstrength {:<4g} {}|{}\n", steered["strength"].get<double>(), prompt, one_line(steered["after"].get<std::string>()));
      print_move(steered);
    }
  }
};

void add_steer_command(CLI::App& group) {
  const auto command = std::make_shared<SteerCommand>();
  SteeringOptions& options = command->options;
  CLI::App* const app = add_command(group, "steer", "Add, clamp, ablate, swap or scale latents while the model writes",
                                    "sememe dictionary steer --dictionary runs/topk --model models/english --latent 17 "
                                    "--strength 2 --prompt \"The old house\"\n  sememe dictionary steer --dictionary runs/topk --model "
                                    "models/english --add 17=2 --ablate 9 --prompt \"The old house\" --save runs/edits.json");
  app->add_option("--dictionary", command->dictionary, "Folder made by dictionary train")->required();
  app->add_option("--model", command->model.path, "Folder of the language model, or its .gguf file")->required();
  add_model_options(*app, command->model);
  app->add_option("--latent", command->latent, "Number of the latent whose direction is added");
  app->add_option("--strength", options.strengths,
                  "How much, in units of what the latent adds where it fires strongly (without a description: of the mean norm at "
                  "the site); several may be given");
  const auto add_edit = [&](EditKind kind, const std::string& what) {
    // Each is read where it stands, so that edits of several kinds keep their order.
    app->add_option_function<std::string>(
           "--" + std::string(name_of(kind)), [command, kind](const std::string& text) { command->edits.push_back(edit_in(kind, text)); },
           what + "; several may be given")
        ->trigger_on_parse();
  };
  add_edit(EditKind::kAdd, "Add a latent's direction, LATENT=STRENGTH, in the units of --strength");
  add_edit(EditKind::kClamp, "Set a latent's activation, LATENT=ACTIVATION");
  add_edit(EditKind::kAblate, "Set a latent's activation to 0");
  add_edit(EditKind::kSwap, "Exchange the activations of two latents, as 3,8");
  add_edit(EditKind::kScale, "Multiply a latent's activation where it fires, LATENT=FACTOR");
  app->add_option("--prompt", options.prompt, "Text to continue")->required();
  app->add_option("--tokens", options.generate.tokens, "New tokens")->capture_default_str();
  app->add_option("--temperature", options.generate.temperature, "0 takes the most likely token")->capture_default_str();
  app->add_option("--top-k", options.generate.top_k, "Draw from the likeliest tokens only; 0 takes all")->capture_default_str();
  app->add_option("--save", command->save, "Also write the edits to this file, for --intervention of other commands; what is only added, also as a control vector, .gguf");
  app->add_option("--description", command->description,
                  "Folder made by dictionary describe; by default looked for inside and beside the dictionary's");
  app->add_option("--site", options.site, "Where in the network; by default where the dictionary was learnt");
  add_common_options(*app, command->common);
  app->callback([command] { command->run(); });
}

struct DoseCommand {
  CommonOptions common;
  fs::path dictionary, description;
  ModelOptions model;
  std::vector<int64_t> latents;
  std::vector<double> strengths;
  DoseOptions options;

  void run() {
    apply(common);
    options.site = site_of(dictionary, options.site);
    options.generate.seed = common.seed;
    options.device = torch::Device(common.device);
    if (!strengths.empty()) options.strengths = strengths;
    const auto loaded = load_dictionary(dictionary);
    const LanguageModel language_model = load_on(model, common);
    const auto folder = description_of(dictionary, description);
    for (const int64_t latent : latents) {
      DosedLatent dosed{latent, {}, {}};
      if (folder && latent >= 0 && latent < loaded->size()) {
        const LatentDescription described = load_latent(*folder, latent);
        dosed.unit = unit_of_description(*loaded, latent, described.typical_maximum);
        dosed.key_words = key_words_of(described);
      }
      options.latents.push_back(std::move(dosed));
    }
    Json result = dose_response(*loaded, language_model, options);
    result["dictionary"] = name_of_folder(dictionary);
    for (const Json& latent : result["latents"]) print_curve(latent);
    print_comparison(fmt::format("with a norm of {:.4g} injected", result["equal_norm"]["norm"].get<double>()), result["equal_norm"], "kl");
    print_comparison(fmt::format("with predictions moved by {:.4g} nats", result["equal_kl"]["kl"].get<double>()), result["equal_kl"], "norm");
    if (!common.json.empty()) write_json(common.json, result);
  }

  /// Percent, or "-" for what is not measured.
  static std::string percent(const Json& share) {
    return share.is_number() ? fmt::format("{:.2f}%", share.get<double>() * 100) : "-";
  }
  static std::string number(const Json& value, const char* form) {
    return value.is_number() ? fmt::format(fmt::runtime(form), value.get<double>()) : "-";
  }

  static void print_comparison(const std::string& title, const Json& comparison, const char* measured) {
    constexpr const char* kForm = "{:<42} {:>8}  {:>11}  {:>9}\n";
    fmt::print(kForm, title, measured, "loss change", "promoted");
    for (const Json& row : comparison["rows"])
      fmt::print(kForm, "  " + row["name"].get<std::string>(), number(row[measured], "{:.4g}"), number(row["ce_change"], "{:+.4f}"),
                 row["promoted_mass_change"].is_number() ? fmt::format("{:+.2f}%", row["promoted_mass_change"].get<double>() * 100) : "-");
    fmt::print("\n");
  }

  static void print_curve(const Json& latent) {
    const auto words = latent["key_words"].get<std::vector<std::string>>();
    const auto promoted = latent["promoted"].get<std::vector<std::string>>();
    fmt::print("latent {}, key words: {}; promotes: {}\n", latent["latent"].get<int64_t>(), listed(words, one_line),
               listed(promoted, [](const std::string& text) { return "'" + one_line(text) + "'"; }));
    fmt::print("one unit of strength has norm {:.4g}: {}\n", latent["unit"].get<double>(), latent["unit_meaning"].get<std::string>());
    fmt::print("  strength      kl  loss change  promoted  key words  continuation\n");
    for (const Json& dose : latent["doses"])
      fmt::print("  {:>8g} {:>7.4f}  {:>+11.4f}  {:>8}  {:>9}  {}\n", dose["strength"].get<double>(), dose["kl"].get<double>(),
                 dose["ce_change"].get<double>(), percent(dose["promoted_mass"]), percent(dose["key_word_share"]),
                 one_line(dose["text"].get<std::string>()));
    static constexpr std::pair<const char*, const char*> kPictures[] = {
        {"kl", "kl"}, {"loss change", "ce_change"}, {"promoted", "promoted_mass"}, {"key words", "key_word_share"}};
    for (const auto& [title, key] : kPictures) {
      std::vector<double> values;
      for (const Json& dose : latent["doses"])
        if (dose[key].is_number()) values.push_back(dose[key].get<double>());
      if (!values.empty())
        fmt::print("  {:<12} {:g} {} {:g}\n", title, latent["doses"].front()["strength"].get<double>(), sparkline(values),
                   latent["doses"].back()["strength"].get<double>());
    }
    fmt::print("\n");
  }
};

void add_dose_command(CLI::App& group) {
  const auto command = std::make_shared<DoseCommand>();
  DoseOptions& options = command->options;
  CLI::App* const app = add_command(group, "dose", "Measure what more and more of a latent does to predictions and text",
                                    "sememe dictionary dose --dictionary runs/topk --model models/english --latent 17 --latent 40 "
                                    "--text held-out.txt --json runs/dose.json");
  app->add_option("--dictionary", command->dictionary, "Folder made by dictionary train")->required();
  app->add_option("--model", command->model.path, "Folder of the language model, or its .gguf file")->required();
  add_model_options(*app, command->model);
  app->add_option("--latent", command->latents, "Number of a latent; several are also compared")->required();
  app->add_option("--text", options.text, "Text to measure predictions on; by default the prompt");
  app->add_option("--prompt", options.prompt, "Text to continue; by default beginnings taken from the text");
  app->add_option("--strength", command->strengths, "How much, in the units of dictionary steer; -4 to 8 unless given");
  app->add_option("--tokens", options.tokens, "Tokens of the text")->capture_default_str();
  app->add_option("--norm", options.norm, "Norm at which latents are compared; 0 takes half the mean norm at the site")->capture_default_str();
  app->add_option("--kl", options.kl, "Shift of the predictions in nats at which latents are compared")->capture_default_str();
  app->add_option("--new-tokens", options.generate.tokens, "Tokens to write at each strength")->capture_default_str();
  app->add_option("--temperature", options.generate.temperature, "0 takes the most likely token")->capture_default_str();
  app->add_option("--top-k", options.generate.top_k, "Draw from the likeliest tokens only; 0 takes all")->capture_default_str();
  app->add_option("--description", command->description,
                  "Folder made by dictionary describe; by default looked for inside and beside the dictionary's");
  app->add_option("--site", options.site, "Where in the network; by default where the dictionary was learnt");
  add_common_options(*app, command->common);
  app->callback([command] { command->run(); });
}

}  // namespace

void add_steer_commands(CLI::App& dictionary) {
  add_steer_command(dictionary);
  add_dose_command(dictionary);
}

}  // namespace sememe
