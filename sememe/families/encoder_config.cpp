#include "sememe/families/encoder_config.h"

#include <algorithm>
#include <set>

#include "sememe/base/error.h"
#include "sememe/families/config_json.h"
#include "sememe/formats/shown.h"

namespace sememe {
namespace {

/// Without the endings ".weight" and ".bias", which each of these has or, of the tables, the first.
struct Row {
  std::string parameter, tensor;
  std::vector<int64_t> shape;
  bool bias = true;
};

std::vector<Row> rows_of(const EncoderConfig& config) {
  const int64_t width = config.width, hidden = config.feed_forward_width;
  std::vector<Row> rows = {{"embedding", "embeddings.word_embeddings", {config.vocabulary, width}, false},
                           {"positions", "embeddings.position_embeddings", {config.context + config.position_offset, width}, false},
                           {"token_types", "embeddings.token_type_embeddings", {config.token_types, width}, false},
                           {"embedding_norm", "embeddings.LayerNorm", {width}}};
  for (int64_t i = 0; i < config.layers; ++i) {
    const std::string block = fmt::format("block{}.", i), layer = fmt::format("encoder.layer.{}.", i);
    rows.insert(rows.end(), {{block + "query", layer + "attention.self.query", {width, width}},
                             {block + "key", layer + "attention.self.key", {width, width}},
                             {block + "value", layer + "attention.self.value", {width, width}},
                             {block + "output", layer + "attention.output.dense", {width, width}},
                             {block + "attention_norm", layer + "attention.output.LayerNorm", {width}},
                             {block + "up", layer + "intermediate.dense", {hidden, width}},
                             {block + "down", layer + "output.dense", {width, hidden}},
                             {block + "mlp_norm", layer + "output.LayerNorm", {width}}});
  }
  return rows;
}

bool begins_with_any(std::string_view name, std::initializer_list<std::string_view> beginnings) {
  return std::any_of(beginnings.begin(), beginnings.end(), [&](std::string_view beginning) { return name.starts_with(beginning); });
}

/// Buffers, and heads above the encoder.
bool says_nothing_here(std::string_view name) {
  return begins_with_any(name, {"embeddings.position_ids", "pooler.", "cls.", "lm_head.", "classifier.", "qa_outputs."});
}

/// XLM-RoBERTa (Conneau et al. 2020) is RoBERTa with another vocabulary.
bool is_roberta(std::string_view model_type) { return model_type == "roberta" || model_type == "xlm-roberta"; }

}  // namespace

bool is_encoder(std::string_view model_type) { return model_type == "bert" || is_roberta(model_type); }

bool is_encoder_folder(const std::filesystem::path& folder) {
  const std::filesystem::path place = folder / "config.json";
  if (!std::filesystem::is_regular_file(place)) return false;
  const Json json = read_json(place);
  return json.is_object() && json.contains("model_type") && json["model_type"].is_string() && is_encoder(json["model_type"].get<std::string>());
}

EncoderConfig encoder_config(const Json& json, std::string_view where) {
  const auto type = json_member<std::string>(json, "model_type", where);
  if (!is_encoder(type)) fail("{}: \"model_type\" is \"{}\"; of encoders, \"bert\", \"roberta\" and \"xlm-roberta\" are supported", where, shown(type));
  EncoderConfig config;
  config.vocabulary = size_member(json, "vocab_size", {}, where);
  config.context = size_member(json, "max_position_embeddings", {}, where);
  config.width = size_member(json, "hidden_size", {}, where);
  config.layers = size_member(json, "num_hidden_layers", {}, where);
  config.heads = size_member(json, "num_attention_heads", {}, where);
  config.feed_forward_width = size_member(json, "intermediate_size", {}, where);
  config.token_types = size_member(json, "type_vocab_size", 2, where);
  config.feed_forward = feed_forward_member(json, "hidden_act", "gelu", false, where);
  config.norm_epsilon = json_member_or<double>(json, "layer_norm_eps", 1e-12, where);
  if (is_roberta(type)) {
    // Its table has rows for padding, whose id is the last of them, before those of the tokens.
    config.position_offset = json_member_or<int64_t>(json, "pad_token_id", 1, where) + 1;
    if (config.position_offset < 1 || config.position_offset >= config.context)
      fail("{}: \"pad_token_id\" is {}; it must be from 0 and leave positions for tokens", where, config.position_offset - 1);
    config.context -= config.position_offset;
  }
  if (config.width % config.heads != 0)
    fail("{}: \"hidden_size\" ({}) is not a multiple of \"num_attention_heads\" ({})", where, config.width, config.heads);
  if (config.layers > 10000) fail("{}: \"num_hidden_layers\" is {}, which is too large", where, config.layers);
  if (!(config.norm_epsilon > 0 && config.norm_epsilon < 1)) fail("{}: \"layer_norm_eps\" is {}; it must be above 0 and below 1", where, config.norm_epsilon);
  only(json, "position_embedding_type", {"absolute"}, where);
  only(json, "is_decoder", {false}, where);
  only(json, "add_cross_attention", {false}, where);
  only(json, "quantization_config", {}, where);
  return config;
}

EncoderDescription describe_encoder(const WeightFiles& files) {
  const std::string where = (files.folder() / "config.json").string();
  const Json json = read_json(where);
  EncoderDescription description{encoder_config(json, where), {}};
  // Files of an encoder with a head have its type before the names.
  const std::string prefix = is_roberta(json_member<std::string>(json, "model_type", where)) ? "roberta." : "bert.";
  const auto named = [&](const std::string& name) { return files.contains(prefix + name) ? prefix + name : name; };
  std::set<std::string> used;
  const auto place = [&](const std::string& parameter, const std::string& tensor, const char* ending, const char* old_ending,
                         const std::vector<int64_t>& shape) {
    std::string name = named(tensor + ending);
    if (const std::string old = named(tensor + old_ending); !files.contains(name) && files.contains(old)) name = old;
    const SafetensorsFile& file = files.holding(name);
    if (const std::vector<int64_t>& found = file.tensor(name).shape; found != shape)
      fail("{}: tensor \"{}\" is [{}] but the config says [{}]", file.path().string(), name, fmt::join(found, ", "), fmt::join(shape, ", "));
    used.insert(name);
    description.parameters.push_back({parameter, name, shape});
  };
  for (const Row& row : rows_of(description.config)) {
    place(row.parameter, row.tensor, ".weight", ".gamma", row.shape);
    if (row.bias) place(row.parameter + "_bias", row.tensor, ".bias", ".beta", {row.shape[0]});
  }
  for (const auto& [name, file] : files.names()) {
    const std::string_view bare = std::string_view(name).substr(name.starts_with(prefix) ? prefix.size() : 0);
    if (!used.contains(name) && !says_nothing_here(bare))
      fail("{}: the tensor \"{}\" has no place in this network; a model with it is not supported", files.holding(name).path().string(),
           shown(name));
  }
  return description;
}

}  // namespace sememe
