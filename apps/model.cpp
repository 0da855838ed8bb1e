#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <variant>
#include <vector>

#include "apps/command.h"
#include "apps/sparsity.h"
#include "sememe/base/error.h"
#include "sememe/base/files.h"
#include "sememe/base/interrupt.h"
#include "sememe/base/json.h"
#include "sememe/base/progress.h"
#include "sememe/data/corpus.h"
#include "sememe/data/recipe.h"
#include "sememe/formats/gguf.h"
#include "sememe/formats/npy.h"
#include "sememe/language/evaluation.h"
#include "sememe/language/language_model.h"
#include "sememe/language/training.h"

namespace sememe {

namespace {

namespace fs = std::filesystem;

int64_t parameter_count(const Network& network) {
  int64_t count = 0;
  for (const torch::Tensor& parameter : network.parameters()) count += parameter.numel();
  return count;
}

struct BuildCorpus {
  CommonOptions common;
  fs::path sources, out;

  void run() const {
    apply(common);
    build_corpus(sources, out, common.seed);
    const fs::path place = out / "sources.json";
    const Json report = read_json(place);
    for (const char* split : {"train", "validation", "heldout"}) {
      const Json counts = json_member<Json>(report, split, place.string());
      fmt::print("{:<40} {:>8} documents {:>10.1f} MB\n", (out / fmt::format("{}.jsonl.zst", split)).string(),
                 json_member<int64_t>(counts, "documents", place.string()),
                 static_cast<double>(json_member<int64_t>(counts, "bytes", place.string())) / 1e6);
    }
    if (!common.json.empty()) write_json(common.json, report);
  }
};

struct TrainModel {
  CommonOptions common;
  fs::path recipe, out;
  bool resume = false;
  std::optional<int64_t> tokens, batch;
  CLI::Option* seed = nullptr;

  void run() const {
    apply(common);
    Recipe wanted = Recipe::load(recipe);
    if (tokens) wanted.tokens = *tokens;
    if (batch) wanted.batch_tokens = *batch;
    if (seed->count() > 0) wanted.seed = common.seed;
    const Json report = train_language_model(wanted, out, resume, torch::Device(common.device));
    if (!common.json.empty()) write_json(common.json, report);
    fmt::print("{}: {} parameters, {} tokens in {:.0f} s ({:.0f} tokens/s)\n", out.string(),
               report.at("parameters").get<int64_t>(), report.at("tokens").get<int64_t>(), report.at("seconds").get<double>(),
               report.at("tokens_per_second").get<double>());
    fmt::print("held out: {:.3f} bits per byte, {:.3f} nats per token\n", report.at("heldout_bits_per_byte").get<double>(),
               report.at("heldout_nats_per_token").get<double>());
    fmt::print("Kneser-Ney 5-gram of the same tokens: {:.3f} bits per byte\n",
               report.at("kneser_ney_bits_per_byte").get<double>());
  }
};

constexpr size_t kShownElements = 8, kShownBytes = 100;

std::string shortened(const std::string& text) {
  if (text.size() <= kShownBytes) return one_line(text);
  size_t shown = kShownBytes;
  while (shown > 0 && (static_cast<unsigned char>(text[shown]) & 0xc0) == 0x80) --shown;  // whole characters
  return fmt::format("{}... ({} bytes)", one_line(text.substr(0, shown)), text.size());
}

template <class T>
std::string shortened(const T& number) {
  return fmt::format("{}", number);
}

template <class T>
std::string shortened(const std::vector<T>& values) {
  std::string elements;
  for (size_t i = 0; i < std::min(values.size(), kShownElements); ++i)
    elements += (i == 0 ? "" : ", ") + shortened(static_cast<const T&>(values[i]));
  return values.size() > kShownElements ? fmt::format("[{}, ...] ({} values)", elements, values.size()) : fmt::format("[{}]", elements);
}

/// A value of GGUF's metadata on one line; of long strings and arrays the beginning and the length.
std::string shortened(const GgufValue& value) {
  return std::visit([](const auto& held) { return shortened(held); }, value);
}

/// Metadata and tensors of a GGUF file.
void show_gguf(const fs::path& path, const fs::path& json) {
  const GgufFile file(path);
  Json metadata = Json::array(), tensors = Json::array();
  int64_t weights = 0;
  uint64_t bytes = 0;
  for (const GgufEntry& entry : file.metadata())
    metadata.push_back({{"key", entry.key}, {"type", gguf_type_name(entry.value)}, {"value", gguf_to_json(entry.value)}});
  for (const GgufTensor& tensor : file.tensors()) {
    const BlockLayout& layout = block_layout(tensor.type);
    tensors.push_back({{"name", tensor.name},
                       {"type", layout.name},
                       {"shape", tensor.shape},
                       {"bytes", tensor.data.size()},
                       {"bits_per_weight", layout.bits_per_weight()}});
    weights += tensor.num_weights();
    bytes += tensor.data.size();
  }
  const double bits_per_weight = weights == 0 ? 0 : 8.0 * static_cast<double>(bytes) / static_cast<double>(weights);
  if (!json.empty())
    write_json(json, {{"format", "gguf"},
                      {"version", file.version()},
                      {"parameters", weights},
                      {"bits_per_weight", bits_per_weight},
                      {"metadata", metadata},
                      {"tensors", tensors}});
  fmt::print("{}: GGUF version {}, {} parameters in {} tensors, {:.2f} bits per weight\n", path.string(), file.version(), weights,
             tensors.size(), bits_per_weight);
  fmt::print("metadata:\n");
  for (const GgufEntry& entry : file.metadata())
    fmt::print("  {:40} {:16} {}\n", one_line(entry.key), gguf_type_name(entry.value), shortened(entry.value));
  fmt::print("tensors:\n");
  for (const GgufTensor& tensor : file.tensors()) {
    const BlockLayout& layout = block_layout(tensor.type);
    fmt::print("  {:40} {:5} {:>6.3f} bits per weight  [{}]\n", one_line(tensor.name), layout.name, layout.bits_per_weight(),
               fmt::join(tensor.shape, ", "));
  }
}

struct ShowModel {
  CommonOptions common;
  fs::path folder, tokenizer;

  void run() const {
    apply(common);
    if (folder.extension() == ".gguf") return show_gguf(folder, common.json);
    if (is_encoder_folder(folder)) return show_encoder();
    const LanguageModel model = LanguageModel::load(folder, Precision::kFloat32, tokenizer);
    const TransformerConfig& config = model.network->config();
    const bool in_folder = fs::is_directory(folder);
    const Json info = described(in_folder ? read_json(folder / "config.json") : config_to_json(config, model.tokenizer, torch::kFloat32),
                                *model.network, model.tokenizer);
    if (!common.json.empty()) write_json(common.json, info);
    fmt::print("{}: {}, {} parameters\n", folder.string(), info.at("model_type").get<std::string>(),
               parameter_count(*model.network));
    fmt::print("{} layers, width {}, {} heads ({} for keys and values) of {}, feed-forward {}, context {}, vocabulary {}\n",
               config.layers, config.width, config.heads, config.key_value_heads, config.head_width,
               config.feed_forward_width, config.context, config.vocabulary);
    show_sites(*model.network);
  }

  void show_encoder() const {
    const SentenceEncoder encoder = SentenceEncoder::load(folder);
    const EncoderConfig& config = encoder.network->config();
    Json info = described(read_json(folder / "config.json"), *encoder.network, encoder.tokenizer);
    info["embedding"] = encoder.pooling.description();
    info["context"] = encoder.text_context();
    if (!common.json.empty()) write_json(common.json, info);
    fmt::print("{}: {}, an encoder, {} parameters\n", folder.string(), info.at("model_type").get<std::string>(), parameter_count(*encoder.network));
    fmt::print("{} layers, width {}, {} heads, feed-forward {}, context {}, vocabulary {}\n", config.layers, config.width, config.heads,
               config.feed_forward_width, encoder.text_context(), config.vocabulary);
    fmt::print("embeds a text as {}\n", encoder.pooling.description());
    show_sites(*encoder.network);
  }

  /// The config.json with what is counted.
  static Json described(Json info, const Network& network, const Tokenizer& tokenizer) {
    info.erase("torch_dtype");
    info["parameters"] = parameter_count(network);
    info["tokenizer_size"] = tokenizer.size();
    info["sites"] = Json::array();
    for (const Site& site : network.sites()) info["sites"].push_back({{"name", site.name}, {"width", site.width}});
    return info;
  }

  static void show_sites(const Network& network) {
    fmt::print("sites:\n");
    for (const Site& site : network.sites()) fmt::print("  {:24} {}\n", site.name, site.width);
  }
};

/// "interventions": the files' contents, if there are any.
void add_to(Json& result, const Interventions& interventions) {
  if (!interventions.empty()) result["interventions"] = interventions.to_json();
}

struct EvaluateModel {
  CommonOptions common;
  fs::path text, baseline;
  ModelOptions options;
  InterventionOptions interventions;
  int64_t tokens = 0, batch = 8192;

  void run() const {
    apply(common);
    const LanguageModel model = load_on(options, common);
    Interventions acting = load_interventions(interventions, *model.network, Passes::kWholeContexts);
    const TextLoss loss = evaluate(model, open_corpus(text), batch, tokens, acting.empty() ? nullptr : &acting);
    Json result = {{"tokens", loss.tokens},
                   {"bytes", loss.bytes},
                   {"nats_per_token", loss.nats_per_token()},
                   {"perplexity", loss.perplexity()},
                   {"bits_per_byte", loss.bits_per_byte()}};
    add_to(result, acting);
    if (!baseline.empty()) result["kneser_ney_bits_per_byte"] = baseline_bits(model.tokenizer) / static_cast<double>(loss.bytes);
    if (!common.json.empty()) write_json(common.json, result);
    fmt::print("{}", acting.description());
    fmt::print("{} tokens, {} bytes: {:.4f} nats per token (perplexity {:.2f}), {:.4f} bits per byte\n", loss.tokens,
               loss.bytes, loss.nats_per_token(), loss.perplexity(), loss.bits_per_byte());
    if (!baseline.empty())
      fmt::print("Kneser-Ney 5-gram: {:.4f} bits per byte\n", result.at("kneser_ney_bits_per_byte").get<double>());
  }

  double baseline_bits(const Tokenizer& tokenizer) const {
    if (tokens > 0) fail_usage("--baseline needs the whole text; leave out --tokens");
    std::vector<int32_t> ids;
    const std::unique_ptr<Corpus> corpus = open_corpus(baseline);
    while (const std::optional<Document> document = corpus->next()) {
      ids.push_back(tokenizer.end_of_text());
      const std::vector<int32_t> piece = tokenizer.encode(document->text);
      ids.insert(ids.end(), piece.begin(), piece.end());
    }
    return kneser_ney_bits(ids, tokenizer, *open_corpus(text));
  }
};

struct GenerateText {
  CommonOptions common;
  ModelOptions model_options;
  std::string prompt;
  fs::path prompts, out;
  int64_t at_once = 8;
  CLI::Option* one = nullptr;
  bool greedy = false, no_echo = false;
  InterventionOptions interventions;
  GenerateOptions options;
  SparsityCommand sparsity;

  void run_many();
  void run() {
    apply(common);
    if (!prompts.empty()) return run_many();
    if (one->count() == 0) fail_usage("give --prompt or --prompts");
    model_options.engine = sparsity.options.policy != "dense";
    const LanguageModel model = load_on(model_options, common);
    const SparseDecoder* const decoder = sparsity.use(model, common.seed);
    options.seed = common.seed;
    if (greedy) options.temperature = 0;
    Interventions acting = load_interventions(interventions, *model.network, Passes::kOneContext);
    if (!no_echo) fmt::print("{}", prompt);
    const std::string text = generate(model, prompt, options, acting, [](std::string_view piece) {
      fmt::print("{}", piece);
      std::fflush(stdout);
    });
    fmt::print("\n");
    Json result{{"prompt", prompt}, {"text", text}};
    if (decoder != nullptr) {
      if (!decoder->exception().empty()) note(decoder->exception());
      result["policy"] = sparsity.options.policy, result["exception"] = decoder->exception();
    }
    add_to(result, acting);
    if (!common.json.empty()) write_json(common.json, result);
  }
};

void GenerateText::run_many() {
  if (out.empty()) fail_usage("--prompts: give --out, the file for the continuations");
  if (!interventions.files.empty() || sparsity.options.policy != "dense")
    fail_usage("--prompts: interventions and policies work on one prompt at a time");
  model_options.engine = true;
  const LanguageModel model = load_on(model_options, common);
  options.seed = common.seed;
  if (greedy) options.temperature = 0;
  std::vector<std::string> texts, continuations;
  const std::unique_ptr<Corpus> corpus = open_corpus(prompts);
  while (std::optional<Document> document = corpus->next()) texts.push_back(std::move(document->text));
  if (texts.empty()) fail("{}: there is no prompt in it", prompts.string());
  continuations.resize(texts.size());
  Progress progress("generate", static_cast<int64_t>(texts.size()), "prompts");
  int64_t done = 0;
  generate_many(model, texts, options, at_once, [&](size_t i, const std::string& text) {
    continuations[i] = text;
    progress.update(++done);
  });
  std::string lines;
  for (size_t i = 0; i < texts.size(); ++i)
    lines += Json{{"prompt", texts[i]}, {"text", continuations[i]}}.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  write_file(out, lines);
  if (interrupted()) throw Interrupted(fmt::format("stopped; {} holds what there was", out.string()));
  fmt::print("{}: {} continuations\n", out.string(), texts.size());
}

void add_corpus(CLI::App& group) {
  auto work = std::make_shared<BuildCorpus>();
  CLI::App* const command = add_command(group, "corpus", "Make training, validation and held-out text that share no sentence",
                                        "sememe model corpus --sources models/corpus.json --out runs/text");
  command->add_option("--sources", work->sources, "The list of sources (JSON)")->required();
  command->add_option("--out", work->out, "Folder for train, validation and heldout.jsonl.zst, and sources.json")->required();
  add_common_options(*command, work->common);
  command->callback([work] { work->run(); });
}

void add_train(CLI::App& group) {
  auto work = std::make_shared<TrainModel>();
  CLI::App* const command = add_command(group, "train", "Train a language model as a recipe says",
                                        "sememe model train --recipe models/english.json --out runs/english");
  command->add_option("--recipe", work->recipe, "The recipe (JSON)")->required();
  command->add_option("--out", work->out, "Folder for the model; OUT.work holds what is made on the way")->required();
  command->add_flag("--resume", work->resume, "Go on where an interrupted or killed run was");
  command->add_option("--tokens", work->tokens, "Train on this many tokens instead of the recipe's number")
      ->check(CLI::PositiveNumber);
  command->add_option("--batch", work->batch, "Tokens in one step instead of the recipe's number")->check(CLI::PositiveNumber);
  add_common_options(*command, work->common);
  work->seed = command->get_option("--seed");
  command->callback([work] { work->run(); });
}

void add_info(CLI::App& group) {
  auto work = std::make_shared<ShowModel>();
  CLI::App* const command = add_command(group, "info", "Show a model's shape and its sites, or what a GGUF file holds",
                                        "sememe model info models/english");
  command->add_option("folder", work->folder, "The folder of a language model or encoder, a .gguf file or a llama2.c checkpoint (.bin)")->required();
  add_tokenizer_option(*command, work->tokenizer);
  add_common_options(*command, work->common);
  command->callback([work] { work->run(); });
}

void add_evaluate(CLI::App& group) {
  auto work = std::make_shared<EvaluateModel>();
  CLI::App* const command = add_command(group, "evaluate", "Measure how well a model predicts a text",
                                        "sememe model evaluate models/english --text book.txt --json result.json");
  command->add_option("folder", work->options.path, "The model's folder, its .gguf file or a llama2.c checkpoint (.bin)")->required();
  add_model_options(*command, work->options);
  command->add_option("--text", work->text, "The text: .txt, .jsonl, plain or compressed")->required();
  command->add_option("--tokens", work->tokens, "Stop after about this many tokens; 0 reads all")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--baseline", work->baseline, "Also count a Kneser-Ney 5-gram model on this training text and measure it");
  command->add_option("--batch", work->batch, "Tokens in one pass")->check(CLI::PositiveNumber)->capture_default_str();
  add_intervention_options(*command, work->interventions);
  add_common_options(*command, work->common);
  command->callback([work] { work->run(); });
}

void add_generate(CLI::App& group) {
  auto work = std::make_shared<GenerateText>();
  CLI::App* const command = add_command(group, "generate", "Continue a text",
                                        "sememe model generate models/english --prompt 'The sea is' --tokens 40");
  command->add_option("folder", work->model_options.path, "The model's folder, its .gguf file or a llama2.c checkpoint (.bin)")->required();
  add_tokenizer_option(*command, work->model_options.tokenizer);
  command->add_flag("--float32", work->model_options.float32, "Run a .gguf file in float32 rather than in its own precision, which is faster");
  CLI::Option* const prompt = command->add_option("--prompt", work->prompt, "The text to continue");
  CLI::Option* const prompts =
      command->add_option("--prompts", work->prompts, "Or many: a .jsonl of {\"text\": ...}, or a .txt with lines of <|endoftext|> between them")->excludes(prompt);
  command->add_option("--out", work->out, "Of --prompts: the .jsonl for {\"prompt\", \"text\"}, one a line")->needs(prompts);
  command->add_option("--at-once", work->at_once, "Of --prompts: how many are continued in one pass")->needs(prompts)->capture_default_str();
  work->one = prompt;
  command->add_option("--tokens", work->options.tokens, "At most this many new tokens")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--temperature", work->options.temperature, "0 takes the most likely token each time")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--top-k", work->options.top_k, "Draw among this many most likely tokens; 0 keeps all")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--top-p", work->options.top_p, "Then draw among the likeliest of these that hold this much of their probability")
      ->capture_default_str();
  command->add_flag("--greedy", work->greedy, "The same as --temperature 0");
  command->add_option("--stop", work->options.stops, "End before this text appears; several may be given")->allow_extra_args(false);
  command->add_flag("--no-echo", work->no_echo, "Print the continuation alone, without the prompt");
  work->sparsity.add_to(*command, true);
  add_intervention_options(*command, work->interventions);
  add_common_options(*command, work->common);
  command->callback([work] { work->run(); });
}

}  // namespace

void add_model_commands(CLI::App& program) {
  CLI::App* const group = program.add_subcommand("model", "Train, inspect, evaluate and run language models and encoders");
  group->require_subcommand(1);
  add_corpus(*group);
  add_train(*group);
  add_info(*group);
  add_evaluate(*group);
  add_generate(*group);
  add_sparsity_commands(*group);
  add_embed_command(*group);
  add_import_command(*group);
}

}  // namespace sememe
