#pragma once
// What an encoder of BERT's kind is made of (Devlin et al. 2019), and how Hugging Face's folders of BERT and RoBERTa say it. An encoder sees
// the whole text at every token and predicts no next one.

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "sememe/base/json.h"
#include "sememe/families/transformer_config.h"
#include "sememe/families/weight_files.h"

namespace sememe {

struct EncoderConfig {
  int64_t vocabulary = 30522;
  int64_t context = 512;  ///< tokens
  int64_t width = 768;
  int64_t layers = 12;
  int64_t heads = 12;
  int64_t feed_forward_width = 3072;
  FeedForward feed_forward = FeedForward::kGeluErf;  ///< none that is gated
  double norm_epsilon = 1e-12;
  int64_t token_types = 2;      ///< rows of their table, of which a text alone needs the first
  int64_t position_offset = 0;  ///< rows of the table of positions before that of the first token (RoBERTa has 2)

  bool operator==(const EncoderConfig&) const = default;
};

/// A parameter of the network, "embedding" or "block0.query_bias", and the tensor of the files that is it.
struct EncoderParameter {
  std::string name, tensor;
  std::vector<int64_t> shape;  ///< row-major; matrices are [to, from]
};

struct EncoderDescription {
  EncoderConfig config;
  std::vector<EncoderParameter> parameters;
};

/// Whether "model_type" of a config.json is one of an encoder.
bool is_encoder(std::string_view model_type);
/// Whether the folder's config.json is there and says so.
bool is_encoder_folder(const std::filesystem::path& folder);

/// Reads the config.json of an encoder. @param where names it in an error
/// @throws Error naming the key that is missing, malformed or asks for something this network does not do
EncoderConfig encoder_config(const Json& config_json, std::string_view where);

/// Reads the config.json of Hugging Face's folder and finds the tensor of each parameter. The heads that stand above an encoder, such as
/// "pooler" and "cls", are not part of it.
/// @throws Error as encoder_config, or naming the tensor that is missing, of another shape or left over
EncoderDescription describe_encoder(const WeightFiles& files);

}  // namespace sememe
