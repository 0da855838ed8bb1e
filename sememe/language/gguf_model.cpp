#include "sememe/language/gguf_model.h"

#include <algorithm>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "sememe/base/error.h"
#include "sememe/formats/gguf.h"
#include "sememe/formats/shown.h"

namespace sememe {
namespace {

/// The numbers of one architecture, whose keys begin with its name.
class Settings {
 public:
  Settings(const GgufFile& file, std::string architecture) : file_(file), architecture_(std::move(architecture)) {}

  bool has(const char* key) const { return file_.has_key(full(key)); }
  /// @throws Error unless it is a size from 1 to 2^31
  int64_t size(const char* key) const {
    const int64_t size = file_.integer(full(key));
    if (size < 1 || size > (int64_t{1} << 31)) fail("{}: {} is {}; it must be from 1 to 2^31", file_.path().string(), full(key), size);
    return size;
  }
  int64_t size_or(const char* key, int64_t fallback) const { return has(key) ? size(key) : fallback; }
  double number_or(const char* key, double fallback) const { return has(key) ? file_.number(full(key)) : fallback; }
  double number(const char* key) const { return file_.number(full(key)); }
  /// Fails if the key is there and has another value.
  void only(const char* key, int64_t value) const {
    if (has(key) && file_.integer(full(key)) != value)
      fail("{}: {} is {}, which is not supported", file_.path().string(), full(key), file_.integer(full(key)));
  }
  void only(const char* key, std::string_view value) const {
    if (has(key) && file_.text(full(key)) != value)
      fail("{}: {} is \"{}\", which is not supported", file_.path().string(), full(key), shown(file_.text(full(key))));
  }

 private:
  std::string full(const char* key) const { return architecture_ + "." + key; }
  const GgufFile& file_;
  std::string architecture_;
};

TransformerConfig llama_config(const GgufFile& file, const Tokenizer& tokenizer) {
  const Settings settings(file, "llama");
  TransformerConfig config;
  config.context = settings.size("context_length");
  config.width = settings.size("embedding_length");
  config.layers = settings.size("block_count");
  config.heads = settings.size("attention.head_count");
  config.key_value_heads = settings.size_or("attention.head_count_kv", config.heads);
  config.head_width = settings.size_or("attention.key_length", std::max<int64_t>(config.width / config.heads, 1));
  config.feed_forward_width = settings.size("feed_forward_length");
  config.norm_epsilon = settings.number("attention.layer_norm_rms_epsilon");
  config.rotary_base = settings.number_or("rope.freq_base", 10000.0);
  config.vocabulary = tokenizer.size();
  config.tied_head = !file.contains("output.weight");
  settings.only("attention.value_length", config.head_width);
  settings.only("rope.dimension_count", config.head_width);
  settings.only("rope.scaling.type", "none");
  settings.only("expert_count", 0);
  if (config.context > (int64_t{1} << 20)) fail("{}: a context of {} tokens is too long", file.path().string(), config.context);
  try {
    check_config(config);
  } catch (const Error& error) {
    fail("{}: {}", file.path().string(), error.what());
  }
  return config;
}

/// A tensor of the file and the parameter that it is.
struct Place {
  std::string tensor, parameter;
  int64_t rotated_heads = 0;  ///< of queries and keys, whose rows are in another order there
};

std::vector<Place> llama_places(const TransformerConfig& config) {
  std::vector<Place> places = {{"token_embd.weight", "embedding"}, {"output_norm.weight", "norm"}};
  if (!config.tied_head) places.push_back({"output.weight", "head"});
  for (int64_t i = 0; i < config.layers; ++i) {
    const std::string theirs = fmt::format("blk.{}.", i), ours = fmt::format("block{}.", i);
    const auto add = [&](const char* tensor, const char* parameter, int64_t rotated_heads = 0) {
      places.push_back({theirs + tensor + ".weight", ours + parameter, rotated_heads});
    };
    add("attn_norm", "attention_norm");
    add("attn_q", "query", config.heads);
    add("attn_k", "key", config.key_value_heads);
    add("attn_v", "value");
    add("attn_output", "output");
    add("ffn_norm", "mlp_norm");
    add("ffn_gate", "gate");
    add("ffn_up", "up");
    add("ffn_down", "down");
  }
  return places;
}

/// Rotary positions turn pairs of rows (2 i, 2 i + 1) of a head there, (i, i + half) here.
torch::Tensor in_halves(const torch::Tensor& matrix, int64_t heads) {
  return matrix.view({heads, -1, 2, matrix.size(1)}).transpose(1, 2).reshape(matrix.sizes());
}

/// Before anything of the config's size is allocated: each tensor is there and of its shape, and none is left over.
void check_tensors(const GgufFile& file, const TransformerConfig& config, const std::vector<Place>& places) {
  const std::string where = file.path().string();
  const int64_t width = config.width, inner = config.feed_forward_width;
  const std::map<std::string, std::vector<int64_t>, std::less<>> shapes = {
      {"embedding", {config.vocabulary, width}}, {"head", {config.vocabulary, width}}, {"norm", {width}},
      {"attention_norm", {width}}, {"mlp_norm", {width}}, {"query", {config.heads * config.head_width, width}},
      {"key", {config.key_value_heads * config.head_width, width}}, {"value", {config.key_value_heads * config.head_width, width}},
      {"output", {width, config.heads * config.head_width}}, {"gate", {inner, width}}, {"up", {inner, width}}, {"down", {width, inner}}};
  for (const Place& place : places) {
    const std::vector<int64_t>& wanted = shapes.find(place.parameter.substr(place.parameter.find('.') + 1))->second;
    if (const GgufTensor& tensor = file.tensor(place.tensor); tensor.shape != wanted)
      fail("{}: tensor \"{}\" is [{}] but the metadata says [{}]", where, place.tensor, fmt::join(tensor.shape, ", "), fmt::join(wanted, ", "));
  }
  for (const GgufTensor& tensor : file.tensors()) {
    const bool known = std::any_of(places.begin(), places.end(), [&](const Place& place) { return place.tensor == tensor.name; });
    if (!known) fail("{}: the tensor \"{}\" has no place in this network; a model with it is not supported", where, shown(tensor.name));
  }
}

}  // namespace

LanguageModel load_gguf(const std::filesystem::path& path) {
  const GgufFile file(path);
  const std::string& architecture = file.text("general.architecture");
  if (architecture != "llama")
    fail("{}: general.architecture is \"{}\"; \"llama\" is supported", path.string(), shown(architecture));
  const Tokenizer tokenizer = Tokenizer::of_gguf(file);
  const TransformerConfig config = llama_config(file, tokenizer);
  const std::vector<Place> places = llama_places(config);
  check_tensors(file, config, places);
  const torch::NoGradGuard no_grad;
  auto network = std::make_shared<Transformer>(config);
  auto parameters = network->named_parameters();
  for (const Place& place : places) {
    const GgufTensor& tensor = file.tensor(place.tensor);
    std::vector<float> weights = dequantize(tensor);
    torch::Tensor whole = torch::from_blob(weights.data(), tensor.shape);
    if (!torch::isfinite(whole).all().item<bool>())
      fail("{}: tensor \"{}\" holds a NaN or infinite value", path.string(), place.tensor);
    if (place.rotated_heads > 0) whole = in_halves(whole, place.rotated_heads);
    parameters[place.parameter].copy_(whole);
  }
  network->eval();
  return {network, tokenizer, path};
}

}  // namespace sememe
