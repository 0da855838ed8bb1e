#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "apps/command.h"
#include "sememe/base/error.h"
#include "sememe/base/files.h"
#include "sememe/base/json.h"
#include "sememe/base/progress.h"
#include "sememe/features/architectures.h"
#include "sememe/features/comparison.h"
#include "sememe/features/dictionary_training.h"
#include "sememe/features/evaluation.h"
#include "sememe/features/report.h"

namespace sememe {
namespace {

struct CompareCommand {
  CommonOptions common;
  std::vector<std::filesystem::path> folders;
  std::vector<std::string> evaluations;  // NAME=FILE
  std::filesystem::path activations, text, out;
  ModelOptions model;
  EvaluationOptions evaluation;
  ComparisonOptions options;

  void run() {
    apply(common);
    if (model.path.empty() != text.empty()) fail_usage("--model and --text: give both, so that dictionaries without an evaluation get one");
    std::vector<ComparedDictionary> dictionaries = find_compared(folders);
    for (const std::string& given : evaluations) take_evaluation(given, dictionaries);
    if (!model.path.empty()) evaluate_missing(dictionaries);
    if (!activations.empty()) options.activations = activations;
    const Json result = compare_dictionaries(dictionaries, options);
    if (!out.empty()) write_file(out, comparison_page(result));
    if (!common.json.empty()) write_json(common.json, result);
    print(result);
    if (!out.empty()) fmt::print("\n{}: open it in a browser\n", out.string());
  }

  static void take_evaluation(const std::string& given, std::vector<ComparedDictionary>& dictionaries) {
    const size_t equals = given.find('=');
    const std::string name = given.substr(0, equals);
    const auto named = std::find_if(dictionaries.begin(), dictionaries.end(), [&](const ComparedDictionary& one) { return one.name == name; });
    if (equals == std::string::npos || named == dictionaries.end()) {
      std::vector<std::string> names;
      for (const ComparedDictionary& one : dictionaries) names.push_back(one.name);
      fail_usage("--evaluation-of {}: give NAME=FILE, where NAME is one of {}", given, fmt::join(names, ", "));
    }
    named->evaluation_source = given.substr(equals + 1);
    named->evaluation = read_json(named->evaluation_source);
  }

  void evaluate_missing(std::vector<ComparedDictionary>& dictionaries) {
    const bool gradients = std::any_of(dictionaries.begin(), dictionaries.end(), [](const ComparedDictionary& one) {
      return !one.evaluation && find_architecture(load_dictionary(one.folder)->architecture()).needs_gradients;
    });
    const LanguageModel language_model = load_on(model, common, gradients);
    for (ComparedDictionary& one : dictionaries) {
      if (one.evaluation) continue;
      EvaluationOptions wanted = evaluation;
      wanted.site = site_of(one.folder, "");
      wanted.seed = common.seed;
      wanted.device = torch::Device(common.device);
      one.evaluation = evaluate_dictionary(*load_dictionary(one.folder), language_model, text, wanted);
      one.evaluation_source = one.name + ", evaluated just now";
    }
  }

  static void print(const Json& result) {
    const Json& dictionaries = result.at("dictionaries");
    size_t longest = 10;
    for (const Json& one : dictionaries) longest = std::max(longest, one.at("name").get<std::string>().size());
    const Json none = Json::object();
    const auto number = [](const Json& of, const char* key, int digits) {
      return of.contains(key) ? fmt::format("{:.{}f}", of.at(key).get<double>(), digits) : std::string("-");
    };
    fmt::print("{:<{}}  {:>12} {:>7} {:>5} {:>7} {:>8} {:>7}  {:<22} {:>7}\n", "dictionary", longest, "architecture", "latents", "k", "l0",
               "fvu", "dead", "ce recovered", "kl");
    for (const Json& one : dictionaries) {
      // Figures on held-out text before those on the rows given, before those of training.
      const Json& figures = one.contains("evaluation") ? one.at("evaluation") : one.contains("on_activations") ? one.at("on_activations")
                                                                              : one.value("training", none);
      std::string recovered = number(figures, "ce_recovered", 4);
      if (figures.contains("ce_recovered_low"))
        recovered += " (" + number(figures, "ce_recovered_low", 3) + " to " + number(figures, "ce_recovered_high", 3) + ")";
      fmt::print("{:<{}}  {:>12} {:>7} {:>5} {:>7} {:>8} {:>7}  {:<22} {:>7}\n", one_line(one.at("name").get<std::string>()), longest,
                 one_line(one.at("architecture").get<std::string>()), one.at("latents").get<int64_t>(), number(one, "k", 0),
                 number(figures, "l0", 2), number(figures, "fvu", 4), number(figures, "dead", 0), recovered, number(figures, "kl", 4));
    }
    fmt::print("\n{:<{}}  {:>7} {:>6} {:>6}  {:>7}\n", "pair", 2 * longest + 5, "matched", "> 0.7", "> 0.9", "nearest");
    for (const Json& pair : result.at("pairs")) {
      const auto name = [&](const char* which) { return one_line(dictionaries[pair.at(which).get<size_t>()].at("name").get<std::string>()); };
      const bool matched = !pair.at("matched_cosine").is_null();
      fmt::print("{:<{}}  {:>7} {:>6} {:>6}  {:.3f} and back {:.3f}{}\n", name("first") + " and " + name("second"), 2 * longest + 5,
                 matched ? number(pair, "matched_cosine", 3) : "-", number(pair, "matched_above_07", 3), number(pair, "matched_above_09", 3),
                 pair.at("first_nearest").at("mean_cosine").get<double>(), pair.at("second_nearest").at("mean_cosine").get<double>(),
                 pair.at("seeds").get<bool>() ? "  (seeds)" : "");
    }
    fmt::print("\n");
    for (const Json& sentence : result.at("findings")) fmt::print("{}\n", one_line(sentence.get<std::string>()));
    for (const Json& sentence : result.at("warnings")) fmt::print("{}\n", one_line(sentence.get<std::string>()));
  }
};

void add_compare_command(CLI::App& group) {
  const auto command = std::make_shared<CompareCommand>();
  CLI::App* const app = add_command(group, "compare", "Hold dictionaries against one another: figures, Pareto picture, likeness of atoms",
                                    "sememe dictionary compare runs/sweep --activations runs/capture --out runs/compare.html --json "
                                    "runs/compare.json");
  app->option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app->add_option("dictionaries", command->folders,
                  "Dictionaries, or folders that hold some; each with its NAME-evaluation.json beside or evaluation.json inside")
      ->required()
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app->add_option("--evaluation-of", command->evaluations, "NAME=FILE: another evaluation of a dictionary; may be given several times")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->allow_extra_args(false);
  app->add_option("--model", command->model.path, "Language model with which to evaluate those that have no evaluation");
  add_model_options(*app, command->model);
  app->add_option("--text", command->text, "Text on which to evaluate them");
  app->add_option("--tokens", command->evaluation.tokens, "Tokens of the text")->capture_default_str();
  app->add_option("--activations", command->activations, "Rows that all encode: figures, and where split atoms fire");
  app->add_option("--rows", command->options.rows, "Of them, at most")->capture_default_str();
  app->add_option("--threshold", command->options.threshold, "Cosine above which atoms of a larger dictionary are parts of one of a smaller")
      ->capture_default_str();
  app->add_option("--out", command->out, "HTML page to write");
  add_common_options(*app, command->common);
  app->callback([command] { command->run(); });
}

struct SweepCommand {
  CommonOptions common;
  std::filesystem::path activations, out;
  DictionaryTrainingOptions options;
  std::vector<int64_t> ks{8, 16, 32};
  std::vector<uint64_t> seeds;

  void run() {
    apply(common);
    options.device = torch::Device(common.device);
    if (!find_architecture(options.architecture).takes("k"))
      fail_usage("--architecture {}: has no --k; train its dictionaries one by one", options.architecture);
    if (seeds.empty()) seeds = {common.seed};
    const ActivationStore store = ActivationStore::open(activations);
    // A killed or interrupted sweep goes on inside the cell where it was.
    options.resume = true;
    Json cells = Json::array();
    for (const int64_t k : ks) {
      for (const uint64_t seed : seeds) {
        options.k = k;
        options.seed = seed;
        cells.push_back(cell(store));
        if (!common.json.empty()) write_json(common.json, {{"cells", cells}});
      }
    }
    fmt::print("{}: hold them against one another with: sememe dictionary compare {}\n", out.string(), out.string());
  }

  Json cell(const ActivationStore& store) const {
    const std::string name = fmt::format("{}-k{}-s{}", options.architecture, *options.k, options.seed);
    const std::filesystem::path folder = out / name;
    const bool done = is_dictionary(folder);
    if (done) check_same(folder, store);
    std::filesystem::create_directories(out);
    const Json training = done ? read_json(folder / "training.json") : train_dictionary(store, options, folder);
    const std::string where = (folder / "training.json").string();
    Json cell{{"name", name}, {"k", *options.k}, {"seed", options.seed}, {"done_before", done}};
    for (const char* const key : {"loss", "fvu", "l0", "dead"}) cell[key] = json_member<double>(training, key, where);
    fmt::print("{}: fvu {:.4f}, l0 {:.1f}, {:.0f} dead of {}{}\n", name, cell["fvu"].get<double>(), cell["l0"].get<double>(),
               cell["dead"].get<double>(), options.latents, done ? " (was done)" : "");
    return cell;
  }

  /// A cell of other options under the same name would be taken for one of this sweep.
  void check_same(const std::filesystem::path& folder, const ActivationStore& store) const {
    const std::string where = (folder / "training.json").string();
    const Json settings = json_member<Json>(read_json(where), "settings", where);
    const Json wanted{{"latents", options.latents}, {"tokens", options.tokens}, {"batch", options.batch}, {"rows", store.rows()}};
    for (const auto& [key, value] : wanted.items())
      if (json_member<int64_t>(settings, key.c_str(), where) != value.get<int64_t>())
        fail("{}: was trained with {} {}, not {}; give another --out or remove it", folder.string(), key, settings.at(key).dump(), value.dump());
  }
};

void add_sweep_command(CLI::App& group) {
  const auto command = std::make_shared<SweepCommand>();
  CLI::App* const app = add_command(group, "sweep", "Learn one dictionary for each k and seed; what is done already is kept",
                                    "sememe dictionary sweep --activations runs/capture --architecture topk --latents 256 --k 4,8 "
                                    "--seeds 1,2 --tokens 20000 --out runs/sweep");
  app->option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app->add_option("--activations", command->activations, "Folder made by capture, .npy or .safetensors")->required();
  app->add_option("--architecture", command->options.architecture, "One that has --k; see dictionary train --help")->capture_default_str();
  app->add_option("--latents", command->options.latents, "Number of latents")->capture_default_str();
  app->add_option("--k", command->ks, "Numbers of active latents, as 8,16,32")->delimiter(',')->capture_default_str();
  app->add_option("--seeds", command->seeds, "Seeds, as 1,2,3; that of --seed unless given")->delimiter(',');
  app->add_option("--tokens", command->options.tokens, "Rows to train each on")->capture_default_str();
  app->add_option("--batch", command->options.batch, "Rows a step")->capture_default_str();
  app->add_option("--out", command->out, "Folder to fill with ARCHITECTURE-kK-sSEED")->required();
  add_common_options(*app, command->common);
  app->callback([command] { command->run(); });
}

}  // namespace

void add_compare_commands(CLI::App& dictionary) {
  add_compare_command(dictionary);
  add_sweep_command(dictionary);
}

}  // namespace sememe
