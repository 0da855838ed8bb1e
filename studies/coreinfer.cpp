#include "studies/coreinfer.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "sememe/base/error.h"
#include "sememe/base/progress.h"
#include "sememe/base/threads.h"
#include "sememe/data/corpus.h"
#include "sememe/data/jsonl.h"
#include "sememe/inference/decoding_quality.h"
#include "sememe/inference/random_model.h"
#include "sememe/inference/sparse_speed.h"
#include "sememe/language/language_model.h"
#include "sememe/language/predictor_training.h"
#include "sememe/language/quantized_network.h"
#include "sememe/language/token_texts.h"
#include "sememe/language/training.h"

namespace sememe {
namespace {

namespace fs = std::filesystem;

constexpr double kKeep = 0.4;  // the paper's
constexpr int64_t kPrefix = 128, kContinuation = 127;
// Three kinds of text that are not of the same subject, each of long documents.
constexpr const char* kTopics[] = {"anarchism", "gcide", "linux"};

struct Plan {
  std::vector<double> keeps;
  int64_t texts;            // on which quality is measured
  int64_t profile_texts;
  std::vector<std::string> types;  // of the random weights whose speed is measured
  int64_t rounds;
};

Plan plan_of(bool full) {
  if (full) return {{0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8}, 24, 300, {"q4_0", "q8_0", "f16"}, 7};
  return {{0.2, 0.4, 0.6, 0.8}, 10, 100, {"q4_0"}, 5};
}

double jaccard(const std::vector<int32_t>& a, const std::vector<int32_t>& b) {
  std::vector<int32_t> both;
  std::set_intersection(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(both));
  return static_cast<double>(both.size()) / static_cast<double>(a.size() + b.size() - both.size());
}

double mean(const std::vector<double>& values) { return DecodingQuality::mean(values); }

/// A model in the engine, with its profile.
class Subject {
 public:
  Subject(const fs::path& path, const StudyOptions& options, const Plan& plan, std::string name)
      : options_(options), plan_(plan), name_(std::move(name)), model_(LanguageModel::load(path, Precision::kFile)),
        engine_(std::dynamic_pointer_cast<QuantizedNetwork>(model_.network)->engine()) {
    const fs::path folder = options.work / "coreinfer" / fmt::format("{}-profile-{}", name_, options.full ? "full" : "quick");
    if (!fs::exists(folder)) {
      note(fmt::format("{}: profile", name_));
      const auto texts = token_texts(*open_corpus(options.work / "text" / "train.jsonl.zst"), model_.tokenizer, 32, 256, plan.profile_texts);
      ProfileOptions profile_options;
      profile_options.seed = options.seed;
      NeuronProfile profile = make_profile(engine_, texts, profile_options);
      PredictorOptions predictor_options;
      predictor_options.seed = options.seed;
      profile.predictors = std::make_shared<const std::vector<NeuronPredictor>>(train_predictors(engine_, texts, predictor_options));
      profile.save(folder);
    }
    profile_ = std::make_shared<const NeuronProfile>(NeuronProfile::load(folder, engine_));
    layers_ = {0, engine_.config().layers - 1};
    if (engine_.config().layers > 8) layers_ = middle_layers(engine_.config());
  }

  const std::string& name() const { return name_; }

  /// The curve of every policy that works on the model.
  Json measure() {
    std::vector<std::unique_ptr<SparseDecoder>> decoders;
    std::vector<SparseDecoder*> measured;
    for (const SparsePolicyEntry& entry : sparse_policies()) {
      if (entry.policy == SparsePolicy::kDense || !entry.fits(engine_.config(), profile_.get())) continue;
      for (const double keep : plan_.keeps) decoders.push_back(decoder(std::string(entry.name), keep));
    }
    for (const auto& one : decoders) measured.push_back(one.get());
    const auto texts = token_texts(*open_corpus(options_.work / "text" / "heldout.jsonl.zst"), model_.tokenizer, kPrefix + kContinuation + 1,
                                   kPrefix + kContinuation + 1, plan_.texts);
    note(fmt::format("{}: {} policies and shares on {} texts", name_, measured.size(), texts.size()));
    const std::vector<DecodingQuality> qualities = measure_decoding(engine_, measured, texts, kPrefix);
    Json rows = Json::array();
    for (size_t i = 0; i < qualities.size(); ++i) {
      const DecodingQuality& quality = qualities[i];
      rows.push_back({{"policy", measured[i]->options().policy}, {"keep", measured[i]->options().keep}, {"not_zero", quality.kept},
                      {"perplexity", quality.perplexity()}, {"nats_more", mean(quality.nats) - mean(quality.dense_nats)},
                      {"interval", quality.nats_interval()}, {"kl", mean(quality.kl)}, {"same_best", mean(quality.agreement)}});
    }
    result_ = {{"model", name_}, {"texts", texts.size()}, {"dense_perplexity", qualities.front().dense_perplexity()}, {"first_layer", layers_.first},
               {"last_layer", layers_.last}, {"policies", rows}};
    return result_;
  }

  /// Perplexity of a policy at the share, over that with all neurons.
  double ratio(const std::string& policy, double keep = kKeep) const {
    for (const Json& row : result_.at("policies"))
      if (row.at("policy") == policy && row.at("keep") == keep)
        return row.at("perplexity").get<double>() / result_.at("dense_perplexity").get<double>();
    fail("{} at {} was not measured", policy, keep);
  }

  /// Mean overlap, over texts and layers, of the core of the first t tokens with that of kPrefix.
  std::vector<double> stability(const std::vector<int64_t>& prefixes) {
    const auto texts = token_texts(*open_corpus(options_.work / "text" / "heldout.jsonl.zst"), model_.tokenizer, kPrefix, kPrefix, plan_.texts);
    std::vector<double> overlaps(prefixes.size());
    for (const std::vector<int32_t>& ids : texts) {
      const NeuronSets whole = core_of(ids, kKeep);
      for (size_t i = 0; i < prefixes.size(); ++i) {
        const NeuronSets part = core_of(std::span(ids).first(prefixes[i]), kKeep);
        for (int64_t layer = layers_.first; layer <= layers_.last; ++layer)
          if (part[layer] && whole[layer])
            overlaps[i] += jaccard(*part[layer], *whole[layer]) / static_cast<double>(texts.size() * (layers_.last - layers_.first + 1));
      }
    }
    return overlaps;
  }

  struct Similarity {
    double within = 0, between = 0, purity = 0;
    int64_t texts = 0;
  };
  /// Overlap of the core neurons of texts of one topic and of different ones, at the layer that tells texts apart, and how pure clusters are.
  Similarity similarity() {
    std::vector<std::vector<int32_t>> texts;
    std::vector<size_t> topics;
    for (size_t topic = 0; topic < std::size(kTopics); ++topic)
      for (std::vector<int32_t>& ids : topic_texts(kTopics[topic])) texts.push_back(std::move(ids)), topics.push_back(topic);
    std::vector<std::vector<int32_t>> cores;
    const int64_t layer = profile_->clusters.layer;
    CoreNeurons core(engine_.config(), {.token_share = profile_->token_share}, {layer, layer}, engine_.threads());
    for (const std::vector<int32_t>& ids : texts) {
      core.clear();
      read(ids, core);
      std::vector<int32_t>& found = cores.emplace_back(core.ranking(layer));
      found.resize(std::min<size_t>(found.size(), static_cast<size_t>(profile_->clusters.chosen)));
      std::sort(found.begin(), found.end());
    }
    std::vector<double> within, between;
    for (size_t i = 0; i < cores.size(); ++i)
      for (size_t j = 0; j < i; ++j) (topics[i] == topics[j] ? within : between).push_back(jaccard(cores[i], cores[j]));
    ProfileOptions of_topics;
    of_topics.clusters = std::size(kTopics), of_topics.seed = options_.seed;
    const NeuronProfile clustered = make_profile(engine_, texts, of_topics);
    std::map<int32_t, std::map<size_t, int64_t>> members;
    for (size_t i = 0; i < texts.size(); ++i) ++members[clustered.clusters.of_texts[i]][topics[i]];
    int64_t pure = 0;
    for (const auto& [cluster, counts] : members) {
      int64_t most = 0;
      for (const auto& [topic, count] : counts) most = std::max(most, count);
      pure += most;
    }
    return {mean(within), mean(between), static_cast<double>(pure) / static_cast<double>(texts.size()), static_cast<int64_t>(texts.size())};
  }

  /// Perplexity over the dense one as the share of a token's activations that count grows, the share of kept neurons being the paper's.
  Json token_shares() {
    std::vector<std::unique_ptr<SparseDecoder>> decoders;
    std::vector<SparseDecoder*> measured;
    for (const double share : {0.1, 0.2, 0.3, 0.4, 0.5}) {
      SparsityOptions sparsity = sparsity_of("coreinfer-stability", kKeep);
      sparsity.core.token_share = share;
      decoders.push_back(std::make_unique<SparseDecoder>(engine_, sparsity, profile_));
      measured.push_back(decoders.back().get());
    }
    const auto texts = token_texts(*open_corpus(options_.work / "text" / "validation.jsonl.zst"), model_.tokenizer, kPrefix + kContinuation + 1,
                                   kPrefix + kContinuation + 1, plan_.texts);
    Json rows = Json::array();
    const std::vector<DecodingQuality> qualities = measure_decoding(engine_, measured, texts, kPrefix);
    for (size_t i = 0; i < qualities.size(); ++i)
      rows.push_back({{"token_share", measured[i]->options().core.token_share}, {"ratio", qualities[i].perplexity() / qualities[i].dense_perplexity()}});
    return rows;
  }

 private:
  SparsityOptions sparsity_of(const std::string& policy, double keep) const {
    SparsityOptions sparsity;
    sparsity.policy = policy, sparsity.keep = keep, sparsity.layers = layers_, sparsity.seed = options_.seed;
    sparsity.base = std::min(sparsity.base, keep), sparsity.loaded = std::max(sparsity.loaded, keep);
    return sparsity;
  }
  std::unique_ptr<SparseDecoder> decoder(const std::string& policy, double keep) {
    return std::make_unique<SparseDecoder>(engine_, sparsity_of(policy, keep), profile_);
  }
  void read(std::span<const int32_t> ids, InputVisitor& watching) {
    TokenCache cache(engine_.config());
    const TokenRun run{ids, &cache};
    engine_.forward({&run, 1}, LogitsOf::kLastTokens, {.inputs = &watching});
  }
  NeuronSets core_of(std::span<const int32_t> ids, double keep) {
    CoreNeurons core(engine_.config(), {}, layers_, engine_.threads());
    read(ids, core);
    return core.sets(keep);
  }
  /// Pieces of held-out documents of one source, of 64 tokens, at most four of each document and sixty in all.
  std::vector<std::vector<int32_t>> topic_texts(const std::string& topic) const {
    constexpr size_t kPiece = 64, kOfDocument = 4, kMost = 60;
    std::vector<std::vector<int32_t>> texts;
    JsonlReader reader(options_.work / "text" / "heldout.jsonl.zst");
    while (const std::optional<Json> object = reader.next()) {
      if (json_member<std::string>(*object, "source", reader.where()) != topic) continue;
      const std::vector<int32_t> ids = model_.tokenizer.encode(json_member<std::string>(*object, "text", reader.where()));
      for (size_t piece = 0; piece < kOfDocument && (piece + 1) * (kPiece - 1) <= ids.size() && texts.size() < kMost; ++piece) {
        std::vector<int32_t>& text = texts.emplace_back(1, model_.tokenizer.opening());
        text.insert(text.end(), ids.begin() + static_cast<std::ptrdiff_t>(piece * (kPiece - 1)),
                    ids.begin() + static_cast<std::ptrdiff_t>((piece + 1) * (kPiece - 1)));
      }
    }
    if (texts.empty()) fail("the held-out text has nothing of \"{}\"; make it by models/corpus.json", topic);
    return texts;
  }

  const StudyOptions& options_;
  const Plan& plan_;
  std::string name_;
  LanguageModel model_;
  QuantizedTransformer& engine_;
  std::shared_ptr<const NeuronProfile> profile_;
  LayerRange layers_{};
  Json result_;
};

/// A small model whose MLPs have this activation function; trained unless an earlier run left it.
fs::path train_small(const StudyOptions& options, const std::string& activation) {
  const fs::path out = options.work / "coreinfer" / activation;
  if (fs::exists(out / "model.safetensors")) return out;
  Recipe recipe;
  recipe.train = options.work / "text" / "train.jsonl.zst", recipe.heldout = options.work / "text" / "heldout.jsonl.zst";
  recipe.network.feed_forward_width = 1024;
  recipe.network.feed_forward = activation == "relu" ? FeedForward::kGatedRelu : FeedForward::kGatedSilu;
  recipe.tokens = 6'000'000;
  recipe.seed = options.seed;
  note(fmt::format("training the small model with {}", activation));
  train_language_model(recipe, out, true);
  return out;
}

struct Speeds {
  Json rows = Json::array();
  double whole = INFINITY, mlp = INFINITY, choice = 0;  // the least, the least, the most
};

Speeds measure_speeds(const StudyOptions& options, const Plan& plan) {
  Speeds speeds;
  const std::map<std::string, GgmlType> types = {{"q4_0", GgmlType::kQ4_0}, {"q8_0", GgmlType::kQ8_0}, {"f16", GgmlType::kF16}};
  for (const std::string& type : plan.types)
    for (const std::string shape : {"llama-3.2-1b", "llama-3.2-1b-mlp"}) {
      note(fmt::format("speed of {} of {}", shape, type));
      const fs::path path = options.work / "coreinfer" / fmt::format("{}-{}.gguf", shape, type);
      write_random_model(path, find_shape(shape), types.at(type), options.seed);
      {
        QuantizedTransformer engine(path, thread_count());
        SparsityOptions sparsity;
        sparsity.policy = "coreinfer-stability", sparsity.keep = kKeep, sparsity.layers = LayerRange{0, engine.config().layers - 1};
        SparseDecoder decoder(engine, sparsity, nullptr);
        const SparseSpeed speed = measure_speed(engine, decoder, 128, 64, plan.rounds);
        const bool whole = shape == "llama-3.2-1b";
        double& least = whole ? speeds.whole : speeds.mlp;
        least = std::min(least, speed.ratio());
        if (whole) speeds.choice = std::max(speeds.choice, speed.choice_in_tokens());
        speeds.rows.push_back({{"shape", shape}, {"type", type}, {"ratio", speed.ratio()}, {"dense_tokens_per_second", speed.dense_rates},
                               {"tokens_per_second", speed.rates}, {"choice_in_tokens", speed.choice_in_tokens()}, {"threads", thread_count()}});
      }
      fs::remove(path);
    }
  return speeds;
}

}  // namespace

StudyResult run_coreinfer(const StudyOptions& options) {
  const Plan plan = plan_of(options.full);
  if (!fs::exists(options.work / "text" / "heldout.jsonl.zst"))
    fail("{}: not there; make the text first with sememe model corpus --sources models/corpus.json --out {}",
         (options.work / "text" / "heldout.jsonl.zst").string(), (options.work / "text").string());
  fs::create_directories(options.work / "coreinfer");
  StudyResult result;
  const auto claim = [&](const char* id, const std::string& what, std::optional<double> paper, double here, std::optional<double> baseline,
                         const std::string& bar, bool holds) { result.claims.push_back({id, what, paper, here, baseline, bar, holds}); };

  const Speeds speeds = measure_speeds(options, plan);
  claim("speed", "tokens a second decoded with 0.4 of the neurons over all, shape of Llama 3.2 1B, the least of the types of weights", 1.6, speeds.whole,
        std::nullopt, ">= 1.45", speeds.whole >= 1.45);
  claim("speed-mlp", "the same of its MLPs alone", std::nullopt, speeds.mlp, std::nullopt, ">= 2", speeds.mlp >= 2);
  claim("choice", "what choosing and copying adds to a prompt of 128 tokens, in decoded tokens, the most of the types", std::nullopt, speeds.choice,
        std::nullopt, "<= 3", speeds.choice <= 3);

  std::vector<std::unique_ptr<Subject>> subjects;
  Subject *relu = nullptr, *silu = nullptr;
  if (options.full) {
    for (const std::string activation : {"relu", "silu"})
      subjects.push_back(std::make_unique<Subject>(train_small(options, activation), options, plan, activation));
    relu = subjects[0].get(), silu = subjects[1].get();
  }
  subjects.push_back(std::make_unique<Subject>("models/english", options, plan, "english"));
  Subject* const shipped = subjects.back().get();
  Subject* real = nullptr;
  if (const fs::path path = options.work / "models" / "smollm2.gguf"; fs::exists(path)) {
    subjects.push_back(std::make_unique<Subject>(path, options, plan, "smollm2"));
    real = subjects.back().get();
  } else {
    note(fmt::format("{}: not there, so no published model is in this run; ./setup --model smollm2 brings it", path.string()));
  }
  Json curves = Json::array(), shares = Json::object();
  for (const auto& subject : subjects) curves.push_back(subject->measure());

  if (relu != nullptr) {
    const double core = relu->ratio("coreinfer-stability");
    claim("relu", "perplexity with the prompt's core at 0.4 over all neurons', small model with a ReLU", 11.8 / 11.6, core, std::nullopt, "<= 1.1", core <= 1.1);
    claim("relu-static", "the same against the most frequent neurons of a corpus", std::nullopt, core, relu->ratio("static"), "< baseline",
          core < relu->ratio("static"));
    claim("relu-random", "the same against random neurons", std::nullopt, core, relu->ratio("random"), "< baseline", core < relu->ratio("random"));
    const double gap = silu->ratio("coreinfer-stability") - 1;
    claim("silu-gap", "what perplexity gains at 0.4 with a SiLU, over what it gains with a ReLU", std::nullopt, gap, core - 1, ">= 2 baseline",
          gap >= 2 * (core - 1));
    shares["relu"] = relu->token_shares(), shares["silu"] = silu->token_shares();
  }
  const double core = shipped->ratio("coreinfer-stability");
  claim("shipped", "perplexity with the prompt's core at 0.4 over all neurons', shipped model (SiLU)", std::nullopt, core, std::nullopt, "<= 1.1", core <= 1.1);
  claim("shipped-static", "the same against the most frequent neurons of a corpus", std::nullopt, core, shipped->ratio("static"), "< baseline",
        core < shipped->ratio("static"));
  claim("shipped-random", "the same against random neurons", std::nullopt, core, shipped->ratio("random"), "< baseline", core < shipped->ratio("random"));
  if (real != nullptr) {
    const double published = real->ratio("coreinfer-stability");
    claim("smollm2", "the same of SmolLM2-135M, layers as published", std::nullopt, published, std::nullopt, "<= 1.1", published <= 1.1);
    claim("smollm2-static", "against the most frequent neurons of a corpus", std::nullopt, published, real->ratio("static"), "< baseline",
          published < real->ratio("static"));
  }
  Subject& read = relu != nullptr ? *relu : *shipped;
  const std::vector<int64_t> prefixes = {8, 16, 32, 64, 96, 120};
  const std::vector<double> overlaps = read.stability(prefixes);
  claim("stability", fmt::format("overlap of the core of 120 tokens with that of 128, {} model; and it grows with every prefix", read.name()), std::nullopt,
        overlaps.back(), overlaps.front(), "rises", std::is_sorted(overlaps.begin(), overlaps.end()));
  const Subject::Similarity alike = read.similarity();
  claim("similarity", "overlap of the cores of texts of one topic, against texts of different topics", std::nullopt, alike.within, alike.between, "> baseline",
        alike.within > alike.between);
  claim("purity", "share of texts whose cluster, of three, is mostly of their topic", std::nullopt, alike.purity, 1.0 / std::size(kTopics), ">= 0.9",
        alike.purity >= 0.9);
  result.details = {{"speed", speeds.rows}, {"curves", curves}, {"token_shares", shares}, {"stability", {{"prefixes", prefixes}, {"overlaps", overlaps}}},
                    {"similarity", {{"within", alike.within}, {"between", alike.between}, {"purity", alike.purity}, {"texts", alike.texts}, {"topics", kTopics}}},
                    {"prefix", kPrefix}, {"continuation", kContinuation}, {"threads", thread_count()}};
  return result;
}

}  // namespace sememe
