#include <vector>

#include "apps/bench.h"
#include "apps/command.h"
#include "apps/sparsity.h"
#include "sememe/base/error.h"
#include "sememe/base/json.h"
#include "sememe/base/progress.h"
#include "sememe/base/threads.h"
#include "sememe/inference/random_model.h"
#include "sememe/inference/sparse_speed.h"

namespace sememe {
namespace {

namespace fs = std::filesystem;

struct SparseBench {
  CommonOptions common;
  SparsityCommand sparsity;
  fs::path model;
  std::string shape = "llama-3.2-1b";
  std::vector<std::string> types = {"q4_0", "q8_0", "f16"};
  fs::path work = "runs/bench";
  int64_t prompt = 128, tokens = 64, rounds = 5;

  void run() {
    apply(common);
    Json results = Json::array();
    if (!model.empty()) {
      results.push_back(measure(model, model.string()));
    } else {
      fs::create_directories(work);
      for (const std::string& type : types)
        for (const std::string& name : {shape, shape + "-mlp"}) {
          const fs::path path = work / fmt::format("{}-{}.gguf", name, type);
          if (!fs::exists(path)) write_random_model(path, find_shape(name), type_of(type), common.seed);
          results.push_back(measure(path, fmt::format("{} of {}", name, type)));
        }
    }
    if (!common.json.empty()) write_json(common.json, results);
  }

  static GgmlType type_of(const std::string& name) {
    if (name == "q4_0") return GgmlType::kQ4_0;
    if (name == "q8_0") return GgmlType::kQ8_0;
    if (name == "f16") return GgmlType::kF16;
    fail_usage("--type {}: give q4_0, q8_0 or f16", name);
  }

  Json measure(const fs::path& path, const std::string& what) {
    QuantizedTransformer engine(path, thread_count());
    SparsityOptions options = sparsity.options_for(common.seed);
    if (sparsity.layers.empty()) options.layers = LayerRange{0, engine.config().layers - 1};
    SparseDecoder decoder(engine, options, sparsity.load_profile(engine));
    const SparseSpeed speed = measure_speed(engine, decoder, prompt, tokens, rounds);
    const LayerRange layers = decoder.layers();
    fmt::print("{}: {:.0f} MB, {} keeps {} of the neurons of layers {} to {}, {} threads, {} rounds\n", what, static_cast<double>(engine.weight_bytes()) / 1e6,
               options.policy, options.keep, layers.first, layers.last, thread_count(), rounds);
    fmt::print("  tokens a second, {} decoded behind {}: all neurons {:.1f}, kept ones {:.1f}: {:.2f} times\n", tokens, prompt, median(speed.dense_rates),
               median(speed.rates), speed.ratio());
    fmt::print("  choosing and copying adds to the prompt's {:.0f} ms what decoding {:.1f} tokens takes\n", 1e3 * median(speed.prompt_seconds),
               speed.choice_in_tokens());
    return {{"what", what}, {"weight_bytes", engine.weight_bytes()}, {"kept_bytes", decoder.subset() == nullptr ? 0 : decoder.subset()->weight_bytes()},
            {"policy", options.policy}, {"keep", options.keep}, {"first_layer", layers.first}, {"last_layer", layers.last}, {"threads", thread_count()},
            {"dense_tokens_per_second", speed.dense_rates}, {"sparse_tokens_per_second", speed.rates}, {"ratio", speed.ratio()},
            {"prompt_seconds", speed.prompt_seconds}, {"prompt_and_choice_seconds", speed.choosing_prompt_seconds},
            {"choice_seconds", speed.choice_seconds}, {"choice_in_dense_steps", speed.choice_in_tokens()}};
  }
};

}  // namespace

void add_sparse_bench(CLI::App& group) {
  const auto command = std::make_shared<SparseBench>();
  command->sparsity.options.policy = "coreinfer-stability";
  CLI::App* const app = add_command(group, "sparse", "Decoding with a part of the neurons, beside all of them", "sememe bench sparse --type q4_0 --keep 0.4");
  CLI::Option* const model = app->add_option("--model", command->model, "A .gguf file or a folder; else random weights of a published shape");
  app->add_option("--shape", command->shape, "The shape of random weights; of its MLPs alone too")->excludes(model)->capture_default_str();
  app->add_option("--type", command->types, "Of random weights: q4_0, q8_0, f16; several may be given")->allow_extra_args(false)->excludes(model);
  app->add_option("--work", command->work, "Folder for the files of random weights")->capture_default_str();
  app->add_option("--prompt", command->prompt, "Tokens of the prompt that is read")->check(CLI::PositiveNumber)->capture_default_str();
  app->add_option("--tokens", command->tokens, "Tokens that are decoded one by one")->check(CLI::PositiveNumber)->capture_default_str();
  app->add_option("--rounds", command->rounds, "Rounds, in each of which everything is measured once")->check(CLI::PositiveNumber)->capture_default_str();
  command->sparsity.add_to(*app, true);
  add_common_options(*app, command->common);
  app->callback([command] { command->run(); });
}

}  // namespace sememe
