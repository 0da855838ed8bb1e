#include "sememe/language/training.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "sememe/base/error.h"
#include "sememe/base/files.h"
#include "sememe/base/progress.h"
#include "sememe/base/threads.h"
#include "sememe/data/corpus.h"
#include "sememe/data/recipe.h"
#include "sememe/language/evaluation.h"
#include "sememe/language/kneser_ney.h"
#include "sememe/language/language_model.h"
#include "sememe/language/packed_tokens.h"
#include "sememe/network/trainer.h"

namespace sememe {

namespace {

namespace fs = std::filesystem;

constexpr const char* kWeightsFile = "model.safetensors";  // by which a model's folder is known

/// A member that is not known is a spelling mistake that would otherwise train something else for hours.
void know(const Json& object, std::string_view where, const std::set<std::string>& names) {
  if (!object.is_object()) fail("{}: an object is wanted", where);
  for (const auto& [key, value] : object.items())
    if (!names.contains(key)) fail("{}: the key \"{}\" is not known; there are: {}", where, key, fmt::join(names, ", "));
}

TransformerConfig read_network(const Json& json, std::string_view where) {
  know(json, where,
       {"family", "context", "width", "layers", "heads", "key_value_heads", "head_width", "feed_forward_width", "tied_head",
        "norm_epsilon", "rotary_base", "activation"});
  TransformerConfig config;
  const auto family = json_member_or<std::string>(json, "family", "llama", where);
  if (family != "llama" && family != "gpt2") fail("{}: \"family\" is \"{}\"; give \"llama\" or \"gpt2\"", where, family);
  if (family == "gpt2") {
    config.norm = Norm::kLayer;
    config.positions = Positions::kLearned;
    config.feed_forward = FeedForward::kGelu;
    config.bias = true;
  }
  const auto activation = json_member_or<std::string>(json, "activation", family == "gpt2" ? "gelu" : "silu", where);
  if (family == "llama" && activation == "relu")
    config.feed_forward = FeedForward::kGatedRelu;
  else if (activation != (family == "gpt2" ? "gelu" : "silu"))
    fail("{}: \"activation\" is \"{}\"; {}", where, activation, family == "gpt2" ? "gpt2 has \"gelu\"" : "llama has \"silu\" or \"relu\"");
  config.context = json_member_or<int64_t>(json, "context", config.context, where);
  config.width = json_member_or<int64_t>(json, "width", config.width, where);
  config.layers = json_member_or<int64_t>(json, "layers", config.layers, where);
  config.heads = json_member_or<int64_t>(json, "heads", config.heads, where);
  if (config.heads < 1) fail("{}: \"heads\" is {}; it must be at least 1", where, config.heads);
  config.key_value_heads = json_member_or<int64_t>(json, "key_value_heads", config.heads, where);
  config.head_width = json_member_or<int64_t>(json, "head_width", config.width / config.heads, where);
  const int64_t hidden = family == "gpt2" ? 4 * config.width : 3 * config.width;
  config.feed_forward_width = json_member_or<int64_t>(json, "feed_forward_width", hidden, where);
  config.tied_head = json_member_or<bool>(json, "tied_head", config.tied_head, where);
  config.norm_epsilon = json_member_or<double>(json, "norm_epsilon", config.norm_epsilon, where);
  config.rotary_base = json_member_or<double>(json, "rotary_base", config.rotary_base, where);
  return config;
}

Json network_json(const TransformerConfig& config) {
  return {{"family", config.norm == Norm::kLayer ? "gpt2" : "llama"},
          {"context", config.context},
          {"width", config.width},
          {"layers", config.layers},
          {"heads", config.heads},
          {"key_value_heads", config.key_value_heads},
          {"head_width", config.head_width},
          {"feed_forward_width", config.feed_forward_width},
          {"tied_head", config.tied_head},
          {"norm_epsilon", config.norm_epsilon},
          {"rotary_base", config.rotary_base},
          {"activation", config.norm == Norm::kLayer ? "gelu" : config.feed_forward == FeedForward::kGatedRelu ? "relu" : "silu"}};
}

void read_corpus(const Json& corpus, const fs::path& path, Recipe& recipe) {
  const fs::path beside = path.parent_path();
  const std::string where = path.string() + ": corpus";
  if (corpus.is_string()) {
    recipe.corpus = beside / corpus.get<std::string>();
    return;
  }
  know(corpus, where, {"train", "heldout"});
  recipe.train = beside / json_member<std::string>(corpus, "train", where);
  recipe.heldout = beside / json_member<std::string>(corpus, "heldout", where);
}

/// The stages of one training, each of which leaves a file in the work folder and is passed over where that file is.
class Workshop {
 public:
  Workshop(const Recipe& recipe, fs::path out, bool resume, torch::Device device)
      : recipe_(recipe), out_(std::move(out)), work_(out_.string() + ".work"), resume_(resume), device_(device) {
    check_output_folder(out_, kWeightsFile);
    const fs::path settings = work_ / "recipe.json";
    if (resume_ && fs::exists(settings) && read_json(settings) != recipe_.to_json())
      fail("{}: the work folder is of another recipe; train without --resume to begin anew", settings.string());
    if (!resume_) fs::remove_all(work_);
    fs::create_directories(work_);
    if (!fs::exists(settings)) write_json(settings, recipe_.to_json());
  }

  Json run() {
    prepare_corpus();
    const Tokenizer tokenizer = prepare_tokenizer();
    const fs::path ids = work_ / "tokens.bin";
    if (!fs::exists(ids)) {
      note("reading the corpus as tokens");
      pack_tokens(*open_corpus(train_), tokenizer, ids);
    }
    TransformerConfig config = recipe_.network;
    config.vocabulary = tokenizer.size();  // a short text may not have as many merges as were asked for
    const auto network = std::make_shared<Transformer>(config);
    const LanguageModel model{network, tokenizer, out_};
    PackedTokens packed(ids, recipe_.network.context, recipe_.seed);
    const TrainingResult result = train_on(*network, packed);
    return finish(model, packed, result);
  }

 private:
  void prepare_corpus() {
    if (recipe_.corpus.empty()) {
      train_ = recipe_.train;
      heldout_ = recipe_.heldout;
      return;
    }
    const fs::path corpus = work_ / "corpus";
    if (!fs::exists(corpus)) {
      note("building the corpus");
      build_corpus(recipe_.corpus, corpus, recipe_.seed);
    }
    train_ = corpus / "train.jsonl.zst";
    heldout_ = corpus / "heldout.jsonl.zst";
  }

  Tokenizer prepare_tokenizer() {
    const fs::path place = work_ / "tokenizer.json";
    if (!fs::exists(place)) {
      note("learning the tokenizer");
      const std::unique_ptr<Corpus> corpus = open_corpus(train_);
      const auto next = [&]() -> std::optional<std::string> {
        std::optional<Document> document = corpus->next();
        if (!document) return std::nullopt;
        return std::move(document->text);
      };
      Tokenizer::train(next, recipe_.network.vocabulary).save(place);
    }
    return Tokenizer::load(place);
  }

  TrainingResult train_on(Transformer& network, PackedTokens& packed) {
    network.initialize(recipe_.seed);
    network.to(device_);
    const int64_t rows = recipe_.batch_tokens / recipe_.network.context;
    TrainerOptions options;
    options.steps = std::max<int64_t>(recipe_.tokens / recipe_.batch_tokens, 1);
    options.matrix_learning_rate = recipe_.matrix_learning_rate;
    options.learning_rate = recipe_.learning_rate;
    options.weight_decay = recipe_.weight_decay;
    options.clip = recipe_.clip;
    options.warmup_steps = std::llround(recipe_.warmup_fraction * static_cast<double>(options.steps));
    options.decay_fraction = recipe_.decay_fraction;
    options.checkpoint = work_ / "checkpoint";
    options.resume = resume_;
    options.settings = recipe_.to_json();
    options.label = "train model";
    options.rows_per_step = recipe_.batch_tokens;
    const auto batch = [&](int64_t step, int64_t) {
      const Batch next = packed.batch(step, rows);
      return Batch{next.inputs.to(device_), next.targets.to(device_)};
    };
    return train(network, batch, options);
  }

  Json finish(const LanguageModel& model, const PackedTokens& packed, const TrainingResult& result) {
    AtomicFolder folder(out_, kWeightsFile);
    model.write_files(folder.path(), torch::kFloat16);
    // The figures are those of the weights as they were saved.
    const LanguageModel saved = LanguageModel::load(folder.path());
    saved.network->to(device_);
    const TextLoss heldout = evaluate(saved, open_corpus(heldout_));
    note("counting 5-grams for the baseline");
    const double ngram_bits = kneser_ney_bits(packed.ids(), model.tokenizer, *open_corpus(heldout_));
    int64_t parameters = 0;
    for (const torch::Tensor& parameter : model.network->parameters()) parameters += parameter.numel();
    const int64_t steps = static_cast<int64_t>(result.losses.size());
    const Json report = {{"parameters", parameters},
                         {"corpus_tokens", packed.size()},
                         {"tokens", steps * recipe_.batch_tokens},
                         {"seconds", result.seconds},
                         {"device", device_.str()},
                         {"threads", thread_count()},
                         {"tokens_per_second", static_cast<double>(steps * recipe_.batch_tokens) / result.seconds},
                         {"heldout_tokens", heldout.tokens},
                         {"heldout_bytes", heldout.bytes},
                         {"heldout_nats_per_token", heldout.nats_per_token()},
                         {"heldout_bits_per_byte", heldout.bits_per_byte()},
                         {"kneser_ney_bits_per_byte", ngram_bits / static_cast<double>(heldout.bytes)},
                         {"loss", result.losses}};
    write_json(folder.path() / "recipe.json", recipe_.to_json());
    if (!recipe_.corpus.empty()) {
      fs::copy_file(recipe_.corpus, folder.path() / recipe_.corpus.filename());
      fs::copy_file(work_ / "corpus" / "sources.json", folder.path() / "sources.json");
    }
    write_json(folder.path() / "training.json", report);
    folder.commit();
    fs::remove_all(work_);
    return report;
  }

  const Recipe& recipe_;
  fs::path out_, work_, train_, heldout_;
  bool resume_;
  torch::Device device_;
};

}  // namespace

Recipe Recipe::load(const fs::path& path) {
  const Json json = read_json(path);
  const std::string where = path.string();
  know(json, where, {"corpus", "tokenizer", "network", "training", "seed"});
  Recipe recipe;
  read_corpus(json_member<Json>(json, "corpus", where), path, recipe);
  recipe.network = read_network(json.value("network", Json::object()), where + ": network");
  const Json tokenizer = json.value("tokenizer", Json::object());
  know(tokenizer, where + ": tokenizer", {"vocabulary"});
  recipe.network.vocabulary = json_member_or<int64_t>(tokenizer, "vocabulary", 4096, where + ": tokenizer");
  try {
    check_config(recipe.network);
  } catch (const Error& error) {
    fail("{}: network: {}", where, error.what());
  }
  const Json training = json.value("training", Json::object());
  const std::string there = where + ": training";
  know(training, there,
       {"tokens", "batch_tokens", "matrix_learning_rate", "learning_rate", "weight_decay", "clip", "warmup_fraction",
        "decay_fraction"});
  recipe.tokens = json_member_or(training, "tokens", recipe.tokens, there);
  recipe.batch_tokens = json_member_or(training, "batch_tokens", recipe.batch_tokens, there);
  recipe.matrix_learning_rate = json_member_or(training, "matrix_learning_rate", recipe.matrix_learning_rate, there);
  recipe.learning_rate = json_member_or(training, "learning_rate", recipe.learning_rate, there);
  recipe.weight_decay = json_member_or(training, "weight_decay", recipe.weight_decay, there);
  recipe.clip = json_member_or(training, "clip", recipe.clip, there);
  recipe.warmup_fraction = json_member_or(training, "warmup_fraction", recipe.warmup_fraction, there);
  recipe.decay_fraction = json_member_or(training, "decay_fraction", recipe.decay_fraction, there);
  recipe.seed = json_member_or(json, "seed", recipe.seed, where);
  return recipe;
}

Json Recipe::to_json() const {
  Json corpus_json = corpus.filename().string();
  if (corpus.empty()) corpus_json = {{"train", train.filename().string()}, {"heldout", heldout.filename().string()}};
  return {{"corpus", corpus_json},
          {"tokenizer", {{"vocabulary", network.vocabulary}}},
          {"network", network_json(network)},
          {"training",
           {{"tokens", tokens},
            {"batch_tokens", batch_tokens},
            {"matrix_learning_rate", matrix_learning_rate},
            {"learning_rate", learning_rate},
            {"weight_decay", weight_decay},
            {"clip", clip},
            {"warmup_fraction", warmup_fraction},
            {"decay_fraction", decay_fraction}}},
          {"seed", seed}};
}

Json train_language_model(const Recipe& recipe, const fs::path& out, bool resume, torch::Device device) {
  check_config(recipe.network);
  if (recipe.tokens < 1) fail_usage("{} tokens are nothing to train on; give at least 1", recipe.tokens);
  if (recipe.batch_tokens < recipe.network.context || recipe.batch_tokens % recipe.network.context != 0)
    fail_usage("a batch of {} tokens is no multiple of the context, {}", recipe.batch_tokens, recipe.network.context);
  if (recipe.network.vocabulary < 257)
    fail_usage("a vocabulary of {} is too small; 256 bytes and end-of-text need 257", recipe.network.vocabulary);
  // OUT.work must lie beside OUT, also where a shell has completed its name to "OUT/".
  return Workshop(recipe, out.has_filename() ? out : out.parent_path(), resume, device).run();
}

}  // namespace sememe
