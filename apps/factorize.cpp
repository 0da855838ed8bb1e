#include <algorithm>
#include <memory>

#include "apps/command.h"
#include "sememe/base/error.h"
#include "sememe/base/files.h"
#include "sememe/base/json.h"
#include "sememe/features/activation_store.h"
#include "sememe/features/feature_tree.h"
#include "sememe/features/semi_nmf.h"
#include "sememe/features/semi_nmf_dictionary.h"

namespace sememe {
namespace {

namespace fs = std::filesystem;

constexpr const char* kMark = "dictionary.safetensors";
constexpr const char* kTreeMark = "tree.json";

struct FactorizeCommand {
  CommonOptions common;
  fs::path activations, out;
  int64_t rows = 20'000;
  SemiNmfOptions options;
  std::vector<int64_t> ranks;  ///< of a hierarchy; empty: one factorisation
  FeatureTreeOptions tree;

  void run() {
    apply(common);
    if (common.device != "cpu") fail_usage("--device {}: dictionary factorize runs on the cpu only", common.device);
    options.seed = common.seed;
    check_output_folder(out, ranks.empty() ? kMark : kTreeMark);
    const ActivationStore store = ActivationStore::open(activations);
    const torch::Tensor x = store.read(0, std::min(rows, store.rows())).activations;
    Json origin = store.origin();
    origin["activations"] = store.path().filename().string();
    const Json result = ranks.empty() ? factorise(x, origin) : factorise_hierarchy(x, origin);
    if (!common.json.empty()) write_json(common.json, result);
  }

  Json factorise(const torch::Tensor& x, const Json& origin) const {
    const SemiNmf found = semi_nmf(x, options);
    const Json result = described(found, x, options.features);
    AtomicFolder folder(out, kMark);
    write(folder.path(), found, found.coefficients, origin, result);
    folder.commit();
    print(out, result);
    return result;
  }

  /// One dictionary a level, level-0 the finest, and the tree of them.
  Json factorise_hierarchy(const torch::Tensor& x, const Json& origin) const {
    const std::vector<SemiNmf> levels = semi_nmf_hierarchy(x, ranks, options);
    Json result = feature_tree_to_json(levels, tree);
    AtomicFolder folder(out, kTreeMark);
    write_json(folder.path() / kTreeMark, result);
    write_file(folder.path() / "tree.dot", feature_tree_to_dot(levels, tree));
    for (size_t i = 0; i < levels.size(); ++i) {
      // What a level factorises are the features of the level below.
      const torch::Tensor& rows = i == 0 ? x : levels[i - 1].features;
      const std::string name = fmt::format("level-{}", i);
      const Json level = described(levels[i], rows, ranks[i]);
      fs::create_directory(folder.path() / name);
      write(folder.path() / name, levels[i], effective_coefficients(levels, static_cast<int64_t>(i)), origin, level);
      print(out / name, level);
      result["levels"].push_back(level);
    }
    folder.commit();
    return result;
  }

  Json described(const SemiNmf& found, const torch::Tensor& rows, int64_t features) const {
    return {{"rows", rows.size(0)},    {"features", features},
            {"kept", options.kept},    {"beginning", options.beginning},
            {"seed", options.seed},    {"iterations", found.losses.size()},
            {"best", found.best + 1},  {"reseeded", found.reseeded},
            {"losses", found.losses},  {"unexplained", found.losses[found.best] / rows.square().sum(torch::kDouble).item<double>()}};
  }

  static void write(const fs::path& folder, const SemiNmf& found, const torch::Tensor& coefficients, const Json& origin,
                    const Json& result) {
    SemiNmfDictionary(found.features, origin).save(folder);
    save_tensors(folder / "coefficients.safetensors", {{"coefficients", coefficients}});
    write_json(folder / "training.json", result);
  }

  static void print(const fs::path& folder, const Json& result) {
    const auto reseeded = result["reseeded"].get<int64_t>();
    fmt::print("{}: {} features of {} rows, {:.4f} of the squares unexplained, best of {} iterations: {}{}\n", folder.string(),
               result["features"].get<int64_t>(), result["rows"].get<int64_t>(), result["unexplained"].get<double>(),
               result["iterations"].get<int64_t>(), result["best"].get<int64_t>(),
               reseeded > 0 ? fmt::format(", {} features had died and began anew", reseeded) : "");
  }
};

}  // namespace

void add_factorize_command(CLI::App& dictionary) {
  const auto command = std::make_shared<FactorizeCommand>();
  SemiNmfOptions& options = command->options;
  CLI::App* const app = add_command(dictionary, "factorize", "Learn a few features from a few thousand rows, by semi-NMF",
                                    "sememe dictionary factorize --activations runs/capture --features 100 --kept 0.02 --out runs/snmf\n  "
                                    "sememe dictionary factorize --activations runs/capture --ranks 100,50,20 --out runs/tree");
  app->add_option("--activations", command->activations, "Folder made by capture, .npy or .safetensors")->required();
  app->add_option("--out", command->out, "Folder to write")->required();
  app->add_option("--rows", command->rows, "At most this many of the first rows")->check(CLI::PositiveNumber)->capture_default_str();
  CLI::Option* const features = app->add_option("--features", options.features, "Number of features")->capture_default_str();
  CLI::Option* const ranks =
      app->add_option("--ranks", command->ranks,
                      "Descending numbers of features, as 100,50,20: each level's features are made of those below. Writes a dictionary a "
                      "level and tree.json and tree.dot")
          ->delimiter(',')
          ->excludes(features);
  app->add_option("--child-share", command->tree.share, "In the tree a child weighs at least this share of the heaviest one")
      ->needs(ranks)
      ->capture_default_str();
  app->add_option("--kept", options.kept, "Share of a feature's units that are kept; 1 keeps all")->capture_default_str();
  app->add_option("--beginning", options.beginning, "random, svd or kmeans")->capture_default_str();
  app->add_option("--iterations", options.iterations, "At most")->capture_default_str();
  app->add_option("--patience", options.patience, "Iterations without an improvement before it stops")->capture_default_str();
  app->add_option("--tolerance", options.tolerance, "What counts as an improvement, relative")->capture_default_str();
  add_common_options(*app, command->common);
  app->callback([command] { command->run(); });
}

}  // namespace sememe
