#include <algorithm>
#include <memory>

#include "apps/command.h"
#include "sememe/base/error.h"
#include "sememe/base/files.h"
#include "sememe/base/json.h"
#include "sememe/features/activation_store.h"
#include "sememe/features/semi_nmf.h"
#include "sememe/features/semi_nmf_dictionary.h"

namespace sememe {
namespace {

namespace fs = std::filesystem;

constexpr const char* kMark = "dictionary.safetensors";

struct FactorizeCommand {
  CommonOptions common;
  fs::path activations, out;
  int64_t rows = 20'000;
  SemiNmfOptions options;

  void run() {
    apply(common);
    if (common.device != "cpu") fail_usage("--device {}: dictionary factorize runs on the cpu only", common.device);
    options.seed = common.seed;
    check_output_folder(out, kMark);
    const ActivationStore store = ActivationStore::open(activations);
    const torch::Tensor x = store.read(0, std::min(rows, store.rows())).activations;
    const SemiNmf found = semi_nmf(x, options);
    const double unexplained = found.losses[found.best] / x.square().sum(torch::kDouble).item<double>();
    Json origin = store.origin();
    origin["activations"] = store.path().filename().string();
    const Json result = {{"rows", x.size(0)},       {"features", options.features},  {"kept", options.kept},
                         {"beginning", options.beginning}, {"seed", options.seed},   {"iterations", found.losses.size()},
                         {"best", found.best + 1},  {"reseeded", found.reseeded},    {"losses", found.losses},
                         {"unexplained", unexplained}};
    AtomicFolder folder(out, kMark);
    SemiNmfDictionary(found.features, origin).save(folder.path());
    save_tensors(folder.path() / "coefficients.safetensors", {{"coefficients", found.coefficients}});
    write_json(folder.path() / "training.json", result);
    folder.commit();
    fmt::print("{}: {} features of {} rows, {:.4f} of the squares unexplained, best of {} iterations: {}{}\n", out.string(),
               options.features, x.size(0), unexplained, found.losses.size(), found.best + 1,
               found.reseeded > 0 ? fmt::format(", {} features had died and began anew", found.reseeded) : "");
    if (!common.json.empty()) write_json(common.json, result);
  }
};

}  // namespace

void add_factorize_command(CLI::App& dictionary) {
  const auto command = std::make_shared<FactorizeCommand>();
  SemiNmfOptions& options = command->options;
  CLI::App* const app = add_command(dictionary, "factorize", "Learn a few features from a few thousand rows, by semi-NMF",
                                    "sememe dictionary factorize --activations runs/capture --features 100 --kept 0.02 --out runs/snmf");
  app->add_option("--activations", command->activations, "Folder made by capture, .npy or .safetensors")->required();
  app->add_option("--out", command->out, "Folder to write")->required();
  app->add_option("--rows", command->rows, "At most this many of the first rows")->check(CLI::PositiveNumber)->capture_default_str();
  app->add_option("--features", options.features, "Number of features")->capture_default_str();
  app->add_option("--kept", options.kept, "Share of a feature's units that are kept; 1 keeps all")->capture_default_str();
  app->add_option("--beginning", options.beginning, "random, svd or kmeans")->capture_default_str();
  app->add_option("--iterations", options.iterations, "At most")->capture_default_str();
  app->add_option("--patience", options.patience, "Iterations without an improvement before it stops")->capture_default_str();
  app->add_option("--tolerance", options.tolerance, "What counts as an improvement, relative")->capture_default_str();
  add_common_options(*app, command->common);
  app->callback([command] { command->run(); });
}

}  // namespace sememe
