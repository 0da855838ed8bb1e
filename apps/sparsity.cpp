#include "apps/sparsity.h"

#include <algorithm>
#include <charconv>
#include <functional>

#include "sememe/base/error.h"
#include "sememe/base/json.h"
#include "sememe/base/progress.h"
#include "sememe/base/threads.h"
#include "sememe/data/corpus.h"
#include "sememe/inference/decoding_quality.h"
#include "sememe/language/predictor_training.h"
#include "sememe/language/token_texts.h"

namespace sememe {
namespace {

namespace fs = std::filesystem;

std::string policy_names() {
  std::vector<std::string_view> names;
  for (const SparsePolicyEntry& entry : sparse_policies()) names.push_back(entry.name);
  return fmt::format("{}", fmt::join(names, ", "));
}

LayerRange layers_of(const std::string& text) {
  LayerRange range{};
  const size_t colon = text.find(':');
  const auto number = [&](const std::string& part, int64_t& to) {
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), to);
    if (error != std::errc() || end != part.data() + part.size() || part.empty()) fail_usage("--layers {}: give FIRST:LAST, for example 6:26", text);
  };
  if (colon == std::string::npos) fail_usage("--layers {}: give FIRST:LAST, for example 6:26", text);
  number(text.substr(0, colon), range.first), number(text.substr(colon + 1), range.last);
  return range;
}

QuantizedNetwork& engine_of(const LanguageModel& model) {
  const auto network = std::dynamic_pointer_cast<QuantizedNetwork>(model.network);
  if (network == nullptr) fail_usage("neurons are left out by the quantised engine only, which runs .gguf files and folders; leave out --float32 and --device");
  return *network;
}

/// Of a model and its text, what both commands below take.
struct EngineText {
  CommonOptions common;
  ModelOptions model;
  fs::path text;

  void add_to(CLI::App& command) {
    command.add_option("folder", model.path, "The model's folder, or its .gguf file")->required();
    command.add_option("--text", text, "The text: .txt, .jsonl, plain or compressed")->required();
    add_common_options(command, common);
  }
  LanguageModel load() {
    apply(common);
    model.engine = true;
    return load_on(model, common);
  }
};

struct ProfileModel {
  EngineText from;
  fs::path out;
  int64_t texts = 300, tokens = 256;
  bool predictors = false, thresholds = false;
  ProfileOptions options;
  PredictorOptions predictor_options;

  void run() {
    const LanguageModel model = from.load();
    check_output_folder(out, "profile.safetensors");
    const int64_t most = std::min(tokens, model.network->config().context);
    const auto ids = token_texts(*open_corpus(from.text), model.tokenizer, std::min<int64_t>(16, most), most, texts);
    if (ids.empty()) fail("{}: no document has {} tokens", from.text.string(), std::min<int64_t>(16, most));
    QuantizedTransformer& engine = engine_of(model).engine();
    options.seed = predictor_options.seed = from.common.seed;
    NeuronProfile profile = make_profile(engine, ids, options);
    if (predictors) profile.predictors = std::make_shared<const std::vector<NeuronPredictor>>(train_predictors(engine, ids, predictor_options));
    if (thresholds) profile.input_paths = search_thresholds(engine, profile, ids, {});
    profile.save(out);
    std::vector<int64_t> sizes(profile.clusters.centroids.size());
    for (const int32_t cluster : profile.clusters.of_texts) ++sizes[cluster];
    fmt::print("{}: {} texts, {} tokens, {} layers of {} neurons\n", out.string(), ids.size(), profile.tokens, profile.layers, profile.neurons);
    fmt::print("{} clusters of texts by layer {}: {} texts\n", sizes.size(), profile.clusters.layer, fmt::join(sizes, ", "));
    fmt::print("{:>5}  {:>16}  {:>22}  {:>22}\n", "layer", "positive a token", "neurons for 80 % of it", "sizes below the median");
    Json layers = Json::array();
    for (int64_t layer = 0; layer < profile.layers; ++layer) {
      const auto [share, hot] = activity(profile, layer);
      const float median = NeuronProfile::quantile(profile.inputs[layer][static_cast<int>(MatrixInput::kMlpDown)], 0.5);
      fmt::print("{:>5}  {:>15.1f}%  {:>21.1f}%  {:>22.4g}\n", layer, 100 * share, 100 * hot, median);
      layers.push_back({{"layer", layer}, {"positive_share", share}, {"hot_share", hot}, {"median_size", median}});
    }
    if (!from.common.json.empty())
      write_json(from.common.json, {{"texts", ids.size()}, {"tokens", profile.tokens}, {"clusters", sizes}, {"layers", layers}});
  }

  /// Share of neurons that are positive for a token, and share of neurons that make up 80 % of what is.
  static std::pair<double, double> activity(const NeuronProfile& profile, int64_t layer) {
    std::vector<int32_t> counts = profile.positive[layer];
    std::sort(counts.begin(), counts.end(), std::greater<>());
    double all = 0;
    for (const int32_t count : counts) all += count;
    double sum = 0;
    int64_t hot = 0;
    while (hot < profile.neurons && sum < 0.8 * all) sum += counts[hot++];
    return {all / static_cast<double>(profile.tokens) / static_cast<double>(profile.neurons), static_cast<double>(hot) / static_cast<double>(profile.neurons)};
  }
};

struct MeasureSparsity {
  EngineText from;
  SparsityCommand sparsity;
  std::vector<std::string> policies;
  std::vector<double> keeps;
  int64_t texts = 20, prompt = 128, tokens = 128;

  void run() {
    const LanguageModel model = from.load();
    QuantizedTransformer& engine = engine_of(model).engine();
    const std::shared_ptr<const NeuronProfile> profile = sparsity.load_profile(engine);
    if (prompt + tokens > engine.config().context)
      fail_usage("--prompt-tokens {} and --tokens {} do not fit the model's context of {}", prompt, tokens, engine.config().context);
    const int64_t length = prompt + tokens + 1;
    const auto ids = token_texts(*open_corpus(from.text), model.tokenizer, length, length, texts);
    if (ids.empty()) fail("{}: no document has {} tokens", from.text.string(), length);
    if (policies.empty())
      for (const SparsePolicyEntry& entry : sparse_policies())
        if (entry.policy != SparsePolicy::kDense && entry.fits(engine.config(), profile.get())) policies.emplace_back(entry.name);
    std::vector<std::unique_ptr<SparseDecoder>> decoders;
    std::vector<SparseDecoder*> measured;
    for (const std::string& policy : policies)
      for (const double keep : keeps) {
        SparsityOptions options = sparsity.options_for(from.common.seed);
        options.policy = policy, options.keep = keep;
        options.base = std::min(options.base, keep), options.loaded = std::max(options.loaded, keep);
        decoders.push_back(std::make_unique<SparseDecoder>(engine, options, profile));
        measured.push_back(decoders.back().get());
      }
    const std::vector<DecodingQuality> qualities = measure_decoding(engine, measured, ids, prompt);
    const LayerRange layers = measured.front()->layers();
    fmt::print("{} texts: {} tokens read with all neurons, then {} decoded; layers {} to {} of {} leave neurons out\n", ids.size(), prompt, tokens,
               layers.first, layers.last, engine.config().layers);
    fmt::print("with all neurons: perplexity {:.2f}\n", qualities.front().dense_perplexity());
    fmt::print("{:<22} {:>5} {:>8}  {:>10}  {:>18}  {:>8}  {:>9}\n", "policy", "keep", "not zero", "perplexity", "nats a token more", "KL", "same best");
    Json rows = Json::array();
    for (size_t i = 0; i < qualities.size(); ++i) {
      const DecodingQuality& quality = qualities[i];
      const double more = DecodingQuality::mean(quality.nats) - DecodingQuality::mean(quality.dense_nats);
      const SparsityOptions& options = measured[i]->options();
      fmt::print("{:<22} {:>5.2f} {:>8.3f}  {:>10.2f}  {:>9.4f} ± {:<6.4f}  {:>8.4f}  {:>8.1f}%\n", options.policy, options.keep, quality.kept, quality.perplexity(), more,
                 quality.nats_interval(), DecodingQuality::mean(quality.kl), 100 * DecodingQuality::mean(quality.agreement));
      rows.push_back({{"policy", options.policy}, {"keep", options.keep}, {"not_zero", quality.kept}, {"perplexity", quality.perplexity()},
                      {"nats_more", more}, {"nats_more_interval", quality.nats_interval()}, {"kl", DecodingQuality::mean(quality.kl)},
                      {"same_best", DecodingQuality::mean(quality.agreement)}});
    }
    if (!from.common.json.empty())
      write_json(from.common.json, {{"texts", ids.size()}, {"prompt_tokens", prompt}, {"tokens", tokens}, {"first_layer", layers.first}, {"last_layer", layers.last},
                                    {"dense_perplexity", qualities.front().dense_perplexity()}, {"policies", rows}});
  }
};

}  // namespace

void SparsityCommand::add_to(CLI::App& command, bool one_policy) {
  if (one_policy) {
    command.add_option("--policy", options.policy, "Which neurons take part behind the prompt: " + policy_names())->capture_default_str();
    command.add_option("--keep", options.keep, "Share of the neurons that take part")->capture_default_str();
  }
  command.add_option("--profile", profile, "Folder made by model profile");
  command.add_option("--layers", layers, "FIRST:LAST, the layers that leave neurons out; by default the middle ones, of 32 layers 6 to 26");
  command.add_option("--token-share", options.core.token_share, "Share of a token's positive activations that count as its core")->capture_default_str();
  command.add_flag("--own-number", options.core.own_number, "That share of each token's own number, not of the prompt's mean");
  command.add_option("--rank-by", rank_by, "What ranks neurons: product (their activation), gate or absolute (its size)")->capture_default_str();
  command.add_option("--refresh", options.refresh, "Choose anew after so many tokens, by these too; 0: never")->capture_default_str();
  command.add_option("--neurons", options.neurons, "Of partinfer: a file {\"neurons\": [[...], ...]} of each layer's, the most important first");
}

SparsityOptions SparsityCommand::options_for(uint64_t seed) const {
  SparsityOptions found = options;
  found.seed = seed;
  if (!layers.empty()) found.layers = layers_of(layers);
  if (rank_by == "product")
    found.core.rank_by = RankBy::kProduct;
  else if (rank_by == "gate")
    found.core.rank_by = RankBy::kGate;
  else if (rank_by == "absolute")
    found.core.rank_by = RankBy::kAbsoluteProduct;
  else
    fail_usage("--rank-by {}: give product, gate or absolute", rank_by);
  return found;
}

std::shared_ptr<const NeuronProfile> SparsityCommand::load_profile(const QuantizedTransformer& engine) const {
  return profile.empty() ? nullptr : std::make_shared<const NeuronProfile>(NeuronProfile::load(profile, engine));
}

const SparseDecoder* SparsityCommand::use(const LanguageModel& model, uint64_t seed) const {
  if (find_sparse_policy(options.policy).policy == SparsePolicy::kDense) return nullptr;
  QuantizedNetwork& network = engine_of(model);
  network.decode_sparsely(options_for(seed), load_profile(network.engine()));
  return network.sparse_decoder();
}

void add_sparsity_commands(CLI::App& group) {
  {
    const auto work = std::make_shared<ProfileModel>();
    CLI::App* const command = add_command(group, "profile", "Count which neurons of a model's MLPs fire on a text, for sparse decoding",
                                          "sememe model profile models/english --text book.txt --out runs/profile");
    work->from.add_to(*command);
    command->add_option("--out", work->out, "Folder for the profile")->required();
    command->add_option("--texts", work->texts, "Documents, from the beginning of the text")->check(CLI::PositiveNumber)->capture_default_str();
    command->add_option("--tokens", work->tokens, "At most so many tokens of each")->check(CLI::PositiveNumber)->capture_default_str();
    command->add_option("--token-share", work->options.token_share, "Share of a token's positive activations that count as its core")->capture_default_str();
    command->add_option("--clusters", work->options.clusters, "Clusters of texts; 0: by the elbow of 1 to 10, at least 4")->capture_default_str();
    command->add_option("--cluster-layer", work->options.cluster_layer, "Whose neurons tell texts apart; -1: at 25 of 32")->capture_default_str();
    command->add_flag("--predictors", work->predictors, "Also train predictors, for the policies dejavu and powerinfer");
    command->add_flag("--thresholds", work->thresholds, "Also search how much of each matrix's input can be left out, for the policy teal");
    command->add_option("--rank", work->predictor_options.rank, "Of the predictors")->capture_default_str();
    command->add_option("--predictor-keep", work->predictor_options.keep, "Share of a token's largest activations that predictors learn, without a ReLU")
        ->capture_default_str();
    command->callback([work] { work->run(); });
  }
  const auto work = std::make_shared<MeasureSparsity>();
  CLI::App* const command = add_command(group, "sparsity", "Measure what leaving neurons out costs in decoding",
                                        "sememe model sparsity models/english --text book.txt --policy coreinfer-stability --policy oracle --keep 0.4");
  work->from.add_to(*command);
  command->add_option("--policy", work->policies, "Which to measure, several may be given; by default all that can be. There are " + policy_names())
      ->allow_extra_args(false);
  command->add_option("--keep", work->keeps, "Shares of the neurons that take part, several may be given")->allow_extra_args(false)->default_val(std::vector<double>{0.4});
  command->add_option("--texts", work->texts, "Documents, the first that are long enough")->check(CLI::PositiveNumber)->capture_default_str();
  command->add_option("--prompt-tokens", work->prompt, "Tokens of each that are read with all neurons")->check(CLI::PositiveNumber)->capture_default_str();
  command->add_option("--tokens", work->tokens, "Tokens behind them that are decoded and scored")->check(CLI::PositiveNumber)->capture_default_str();
  work->sparsity.add_to(*command, false);
  command->callback([work] { work->run(); });
}

}  // namespace sememe
