#pragma once
// A trained language model in a folder: config.json, model.safetensors, tokenizer.json (a bundle).

#include <torch/torch.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "sememe/base/json.h"
#include "sememe/families/family.h"
#include "sememe/language/transformer.h"
#include "sememe/network/network.h"
#include "sememe/text/tokenizer.h"

namespace sememe {

/// In which numbers a model works.
enum class Precision {
  kFloat32,  ///< in LibTorch, with gradients
  kFile      ///< its file's own, in the quantised engine, without
};

struct LanguageModel {
  std::shared_ptr<DecoderNetwork> network;
  Tokenizer tokenizer;
  std::filesystem::path folder;  ///< or the file
  int64_t context = 0;  ///< tokens of a context where text is cut into contexts; 0: see text_context()

  /// `context`, or the network's own, but at most 1,024: longer ones cost much and say little more about what tokens mean.
  int64_t text_context() const { return std::min(context > 0 ? context : int64_t{1024}, network->config().context); }

  /// Reads a bundle, a Hugging Face folder, a GGUF file of a family that sememe/families knows, or a checkpoint of llama2.c (.bin); all
  /// but GGUF's weights become float32.
  /// @param tokenizer of a checkpoint, which holds none; empty takes the tokenizer.bin beside it
  /// @throws Error naming the file and key that is missing, malformed or not supported; UsageError if a tokenizer is given for what has one
  static LanguageModel load(const std::filesystem::path& path, Precision precision = Precision::kFloat32,
                            const std::filesystem::path& tokenizer = {});
  /// Writes the folder, whole or not at all, in Hugging Face's names so that `transformers` loads it.
  /// @param weights element type of the weights on disk: float32 or float16
  /// @throws Error if no family's folder holds the network, or it runs in a file's own precision
  void save(const std::filesystem::path& folder, torch::ScalarType weights = torch::kFloat32) const;
  /// As save, into a folder that exists, file by file.
  void write_files(const std::filesystem::path& folder, torch::ScalarType weights = torch::kFloat32) const;
};

/// Hugging Face's config.json of a network. @throws Error as describe_written
Json config_to_json(const TransformerConfig& config, const Tokenizer& tokenizer, torch::ScalarType weights);

/// Copies a file's tensor, in float32, into the parameters that are in it.
void place_weight(const TensorPlace& place, torch::Tensor whole, const ParameterShapes& shapes,
                  torch::OrderedDict<std::string, torch::Tensor>& parameters);

struct GenerateOptions {
  int64_t tokens = 64;       ///< at most this many new tokens
  double temperature = 0.8;  ///< 0 takes the most likely token
  int64_t top_k = 50;        ///< 0 keeps all
  uint64_t seed = 1;
  double top_p = 1.0;        ///< then of these only the likeliest that hold this much of their probability; 1 keeps all
  std::vector<std::string> stops = {};  ///< the text ends before the first of these that appears
};

/// Continues `prompt` with the KV cache until end-of-text, `tokens` or the end of the context; the visitor sees the prompt (after
/// Tokenizer::opening(), but for GGUF files that say that nothing stands before a text) once and then each new token ([1, 1, width] at a site). `on_text` gets each piece as it is decided, which
/// is later where it may be the beginning of a stop.
/// @returns the continuation
/// @throws Error if the prompt does not fit the context
std::string generate(const LanguageModel& model, const std::string& prompt, const GenerateOptions& options,
                     SiteVisitor& visitor, const std::function<void(std::string_view)>& on_text = {});

/// Several continuations of one prompt, side by side in one batch; the visitor sees [rows, tokens, width] at a site and may treat rows
/// differently. Row i draws from a stream of its own, whatever the other rows do.
/// @returns the new ids of each row, up to its end-of-text
/// @throws Error as generate
std::vector<std::vector<int32_t>> generate_samples(const LanguageModel& model, const std::string& prompt, int64_t rows,
                                                   const GenerateOptions& options, SiteVisitor& visitor);

/// Continues many prompts on the quantised engine, `at_once` of them in a pass: each as generate() would alone, but with a stream of draws of its own.
/// @param on_text gets the number of a prompt and its continuation as it ends; after an interrupt what there is
/// @throws UsageError if the model runs in LibTorch or `at_once` cannot be; Error naming the prompt that does not fit the context
void generate_many(const LanguageModel& model, const std::vector<std::string>& prompts, const GenerateOptions& options, int64_t at_once,
                   const std::function<void(size_t prompt, const std::string& text)>& on_text);

}  // namespace sememe
