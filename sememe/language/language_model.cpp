#include "sememe/language/language_model.h"

#include <algorithm>
#include <map>
#include <optional>

#include "sememe/base/error.h"
#include "sememe/base/files.h"
#include "sememe/language/gguf_model.h"
#include "sememe/network/tensors.h"

namespace sememe {

namespace {

bool is_llama(const TransformerConfig& config) {
  return config.norm == Norm::kRms && config.positions == Positions::kRotary && config.feed_forward == FeedForward::kGatedSilu;
}

bool is_gpt2(const TransformerConfig& config) {
  return config.norm == Norm::kLayer && config.positions == Positions::kLearned && config.feed_forward == FeedForward::kGelu &&
         config.bias && config.key_value_heads == config.heads && config.heads * config.head_width == config.width;
}

/// A tensor of a Hugging Face folder and the parameters it is made of, stacked by rows.
struct Slot {
  std::string name;
  std::vector<std::string> parameters;
  bool transposed = false;  // GPT-2 keeps its matrices as [from, to]
};

std::vector<Slot> llama_slots(const TransformerConfig& config) {
  std::vector<Slot> slots = {{"model.embed_tokens.weight", {"embedding"}}};
  for (int64_t i = 0; i < config.layers; ++i) {
    const std::string theirs = fmt::format("model.layers.{}.", i), ours = fmt::format("block{}.", i);
    const auto add = [&](const std::string& name, const std::string& parameter) {
      slots.push_back({theirs + name + ".weight", {ours + parameter}});
      if (config.bias) slots.push_back({theirs + name + ".bias", {ours + parameter + "_bias"}});
    };
    slots.push_back({theirs + "input_layernorm.weight", {ours + "attention_norm"}});
    add("self_attn.q_proj", "query");
    add("self_attn.k_proj", "key");
    add("self_attn.v_proj", "value");
    add("self_attn.o_proj", "output");
    slots.push_back({theirs + "post_attention_layernorm.weight", {ours + "mlp_norm"}});
    add("mlp.gate_proj", "gate");
    add("mlp.up_proj", "up");
    add("mlp.down_proj", "down");
  }
  slots.push_back({"model.norm.weight", {"norm"}});
  if (!config.tied_head) slots.push_back({"lm_head.weight", {"head"}});
  return slots;
}

std::vector<Slot> gpt2_slots(const TransformerConfig& config) {
  std::vector<Slot> slots = {{"transformer.wte.weight", {"embedding"}}, {"transformer.wpe.weight", {"positions"}}};
  for (int64_t i = 0; i < config.layers; ++i) {
    const std::string theirs = fmt::format("transformer.h.{}.", i), ours = fmt::format("block{}.", i);
    const auto add = [&](const std::string& name, const std::vector<std::string>& parameters, bool transposed) {
      Slot weight{theirs + name + ".weight", {}, transposed}, bias{theirs + name + ".bias", {}, false};
      for (const std::string& parameter : parameters) {
        weight.parameters.push_back(ours + parameter);
        bias.parameters.push_back(ours + parameter + "_bias");
      }
      slots.push_back(std::move(weight));
      slots.push_back(std::move(bias));
    };
    add("ln_1", {"attention_norm"}, false);
    add("attn.c_attn", {"query", "key", "value"}, true);
    add("attn.c_proj", {"output"}, true);
    add("ln_2", {"mlp_norm"}, false);
    add("mlp.c_fc", {"up"}, true);
    add("mlp.c_proj", {"down"}, true);
  }
  slots.push_back({"transformer.ln_f.weight", {"norm"}});
  slots.push_back({"transformer.ln_f.bias", {"norm_bias"}});
  if (!config.tied_head) slots.push_back({"lm_head.weight", {"head"}});
  return slots;
}

std::vector<Slot> slots_of(const TransformerConfig& config) {
  if (is_llama(config)) return llama_slots(config);
  if (is_gpt2(config)) return gpt2_slots(config);
  fail(
      "this transformer is neither Llama's kind (RMS norm, rotary positions, gated SiLU) nor GPT-2's (layer norm, learned positions, "
      "GELU, biases, as many key_value_heads as heads), so no folder format holds it");
}

/// The weights of a folder, in one file or in the shards that model.safetensors.index.json names.
class WeightFiles {
 public:
  explicit WeightFiles(const std::filesystem::path& folder) {
    const std::filesystem::path index = folder / "model.safetensors.index.json", whole = folder / "model.safetensors";
    if (std::filesystem::exists(whole) || !std::filesystem::exists(index)) {
      open(whole);
      return;
    }
    const Json map = json_member<Json>(read_json(index), "weight_map", index.string());
    if (!map.is_object()) fail("{}: the key \"weight_map\" must be an object", index.string());
    std::map<std::string, bool> opened;
    for (const auto& [tensor, file] : map.items()) {
      const std::string name = file.is_string() ? file.get<std::string>() : "";
      if (name.empty() || std::filesystem::path(name).filename() != name)
        fail("{}: the file of \"{}\" must be a plain file name", index.string(), tensor);
      if (!std::exchange(opened[name], true)) open(folder / name);
    }
  }

  const SafetensorsFile& holding(const std::string& name) const {
    const auto found = places_.find(name);
    return files_[found == places_.end() ? 0 : found->second];  // a missing tensor gives the file's own error
  }
  bool contains(const std::string& name) const { return places_.contains(name); }
  int64_t elements() const { return elements_; }

 private:
  void open(const std::filesystem::path& path) {
    files_.emplace_back(path);
    for (const TensorView& view : files_.back().tensors()) {
      places_.emplace(view.name, files_.size() - 1);
      int64_t count = 1;
      for (const int64_t size : view.shape) count *= size;
      elements_ += count;
    }
  }
  std::vector<SafetensorsFile> files_;
  std::map<std::string, size_t> places_;
  int64_t elements_ = 0;
};

/// Refuses a config that asks for more weights than the files hold, before anything of that size is allocated.
void check_size(const TransformerConfig& config, const WeightFiles& files, const std::string& where) {
  const double attention = 2.0 * config.width * (config.heads + config.key_value_heads) * config.head_width;
  const double mlp = (config.feed_forward == FeedForward::kGatedSilu ? 3.0 : 2.0) * config.width * config.feed_forward_width;
  const double positions = config.positions == Positions::kLearned ? static_cast<double>(config.context) * config.width : 0;
  const double wanted = static_cast<double>(config.vocabulary) * config.width + positions + config.layers * (attention + mlp);
  if (wanted > static_cast<double>(files.elements()))
    fail("{}: the config asks for {:.0f} weights but the files hold {}; was the folder copied whole?", where, wanted,
         files.elements());
}

void load_weights(Transformer& network, const std::filesystem::path& folder, const WeightFiles& files) {
  torch::NoGradGuard no_grad;
  auto parameters = network.named_parameters();
  for (const Slot& slot : slots_of(network.config())) {
    std::vector<int64_t> shape = parameters[slot.parameters[0]].sizes().vec();
    shape[0] *= static_cast<int64_t>(slot.parameters.size());
    if (slot.transposed) std::swap(shape[0], shape[1]);
    std::string name = slot.name;
    const std::string bare = name.starts_with("transformer.") ? name.substr(12) : name;  // as GPT-2's own files name it
    if (!files.contains(name) && files.contains(bare)) name = bare;
    torch::Tensor whole = load_weight(files.holding(name), name, shape);
    if (slot.transposed) whole = whole.t();
    const std::vector<torch::Tensor> pieces = whole.chunk(static_cast<int64_t>(slot.parameters.size()), 0);
    for (size_t i = 0; i < pieces.size(); ++i) parameters[slot.parameters[i]].copy_(pieces[i]);
  }
}

Json llama_json(const TransformerConfig& config) {
  return {{"model_type", "llama"},
          {"architectures", {"LlamaForCausalLM"}},
          {"vocab_size", config.vocabulary},
          {"max_position_embeddings", config.context},
          {"hidden_size", config.width},
          {"num_hidden_layers", config.layers},
          {"num_attention_heads", config.heads},
          {"num_key_value_heads", config.key_value_heads},
          {"head_dim", config.head_width},
          {"intermediate_size", config.feed_forward_width},
          {"hidden_act", "silu"},
          {"rms_norm_eps", config.norm_epsilon},
          {"rope_theta", config.rotary_base},
          {"attention_bias", config.bias},
          {"mlp_bias", config.bias}};
}

Json gpt2_json(const TransformerConfig& config) {
  return {{"model_type", "gpt2"},
          {"architectures", {"GPT2LMHeadModel"}},
          {"vocab_size", config.vocabulary},
          {"n_positions", config.context},
          {"n_embd", config.width},
          {"n_layer", config.layers},
          {"n_head", config.heads},
          {"n_inner", config.feed_forward_width},
          {"activation_function", "gelu_new"},
          {"layer_norm_epsilon", config.norm_epsilon}};
}

/// The member `key`, a size. @throws Error naming it
int64_t size_member(const Json& json, const char* key, std::optional<int64_t> fallback, std::string_view where) {
  const int64_t size = fallback ? json_member_or<int64_t>(json, key, *fallback, where) : json_member<int64_t>(json, key, where);
  if (size < 1 || size > (int64_t{1} << 31)) fail("{}: \"{}\" is {}; it must be from 1 to 2^31", where, key, size);
  return size;
}

/// Fails unless the key is missing, null or equal to one of the values.
void only(const Json& json, const char* key, std::initializer_list<Json> values, std::string_view where) {
  if (!json.contains(key) || json.at(key).is_null()) return;
  for (const Json& value : values)
    if (json.at(key) == value) return;
  fail("{}: \"{}\" is {}, which is not supported", where, key, json.at(key).dump().substr(0, 80));
}

TransformerConfig llama_config(const Json& json, std::string_view where) {
  TransformerConfig config;
  config.vocabulary = size_member(json, "vocab_size", {}, where);
  config.context = size_member(json, "max_position_embeddings", {}, where);
  config.width = size_member(json, "hidden_size", {}, where);
  config.layers = size_member(json, "num_hidden_layers", {}, where);
  config.heads = size_member(json, "num_attention_heads", {}, where);
  config.key_value_heads = size_member(json, "num_key_value_heads", config.heads, where);
  config.head_width = size_member(json, "head_dim", std::max<int64_t>(config.width / config.heads, 1), where);
  config.feed_forward_width = size_member(json, "intermediate_size", {}, where);
  config.norm_epsilon = json_member_or<double>(json, "rms_norm_eps", 1e-6, where);
  config.rotary_base = json_member_or<double>(json, "rope_theta", 10000.0, where);
  config.bias = json_member_or<bool>(json, "attention_bias", false, where);
  config.tied_head = json_member_or<bool>(json, "tie_word_embeddings", false, where);
  only(json, "hidden_act", {"silu", "swish"}, where);
  if (json_member_or<bool>(json, "mlp_bias", false, where) != config.bias)
    fail("{}: \"attention_bias\" and \"mlp_bias\" differ, which is not supported", where);
  only(json, "sliding_window", {}, where);
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (!json.contains(key) || json.at(key).is_null()) continue;
    const Json& rope = json.at(key);
    if (!rope.is_object()) fail("{}: the key \"{}\" must be an object", where, key);
    for (const char* kind : {"rope_type", "type"})
      if (rope.contains(kind) && rope.at(kind) != "default")
        fail("{}: \"{}\" of type {} is not supported", where, key, rope.at(kind).dump().substr(0, 80));
    config.rotary_base = json_member_or<double>(rope, "rope_theta", config.rotary_base, where);
    only(rope, "partial_rotary_factor", {1.0}, where);
  }
  only(json, "partial_rotary_factor", {1.0}, where);
  return config;
}

TransformerConfig gpt2_config(const Json& json, std::string_view where) {
  TransformerConfig config;
  config.norm = Norm::kLayer;
  config.positions = Positions::kLearned;
  config.feed_forward = FeedForward::kGelu;
  config.bias = true;
  config.vocabulary = size_member(json, "vocab_size", {}, where);
  config.context = size_member(json, "n_positions", size_member(json, "n_ctx", 1024, where), where);
  config.width = size_member(json, "n_embd", {}, where);
  config.layers = size_member(json, "n_layer", {}, where);
  config.heads = config.key_value_heads = size_member(json, "n_head", {}, where);
  if (config.width % config.heads != 0)
    fail("{}: \"n_embd\" ({}) is not a multiple of \"n_head\" ({})", where, config.width, config.heads);
  config.head_width = config.width / config.heads;
  config.feed_forward_width = size_member(json, "n_inner", 4 * config.width, where);
  config.norm_epsilon = json_member_or<double>(json, "layer_norm_epsilon", 1e-5, where);
  config.tied_head = json_member_or<bool>(json, "tie_word_embeddings", true, where);
  only(json, "activation_function", {"gelu_new", "gelu_pytorch_tanh"}, where);
  only(json, "scale_attn_weights", {true}, where);
  only(json, "scale_attn_by_inverse_layer_idx", {false}, where);
  only(json, "add_cross_attention", {false}, where);
  return config;
}

}  // namespace

Json config_to_json(const TransformerConfig& config, const Tokenizer& tokenizer, torch::ScalarType weights) {
  slots_of(config);  // fails for a network of neither family
  Json json = is_llama(config) ? llama_json(config) : gpt2_json(config);
  json["tie_word_embeddings"] = config.tied_head;
  json["torch_dtype"] = weights == torch::kFloat16 ? "float16" : "float32";
  json["bos_token_id"] = json["eos_token_id"] = tokenizer.end_of_text();
  return json;
}

TransformerConfig config_from_json(const Json& json, std::string_view where) {
  const auto family = json_member<std::string>(json, "model_type", where);
  if (family != "llama" && family != "gpt2")
    fail("{}: \"model_type\" is \"{}\"; \"llama\" and \"gpt2\" are supported", where, family);
  only(json, "quantization_config", {}, where);
  const TransformerConfig config = family == "llama" ? llama_config(json, where) : gpt2_config(json, where);
  if (config.context > (int64_t{1} << 20)) fail("{}: a context of {} tokens is too long", where, config.context);
  try {
    check_config(config);
  } catch (const Error& error) {
    fail("{}: {}", where, error.what());
  }
  return config;
}

LanguageModel LanguageModel::load(const std::filesystem::path& folder) {
  if (folder.extension() == ".gguf") return load_gguf(folder);
  if (!std::filesystem::is_directory(folder))
    fail("{}: there is no such folder; give one that holds config.json, model.safetensors and tokenizer.json, or a .gguf file", folder.string());
  const std::filesystem::path place = folder / "config.json";
  const TransformerConfig config = config_from_json(read_json(place), place.string());
  const WeightFiles files(folder);
  check_size(config, files, place.string());
  auto network = std::make_shared<Transformer>(config);
  load_weights(*network, folder, files);
  network->eval();
  LanguageModel model{network, Tokenizer::load(folder / "tokenizer.json"), folder};
  if (model.tokenizer.size() > config.vocabulary)
    fail("{}: the tokenizer has {} tokens but \"vocab_size\" is {}; do the two belong together?", place.string(),
         model.tokenizer.size(), config.vocabulary);
  return model;
}

void LanguageModel::write_files(const std::filesystem::path& target, torch::ScalarType weights) const {
  if (weights != torch::kFloat32 && weights != torch::kFloat16) fail_usage("weights are saved as float32 or float16");
  torch::NoGradGuard no_grad;
  const auto parameters = network->named_parameters();
  NamedTensors tensors;
  for (const Slot& slot : slots_of(network->config())) {
    std::vector<torch::Tensor> pieces;
    for (const std::string& parameter : slot.parameters) pieces.push_back(parameters[parameter]);
    torch::Tensor whole = torch::cat(pieces, 0);
    if (slot.transposed) whole = whole.t();
    whole = whole.to(torch::kCPU, weights);
    if (!torch::isfinite(whole).all().item<bool>())
      fail("the weight \"{}\" holds a NaN or a value too large for {}", slot.name, c10::toString(weights));
    tensors.emplace_back(slot.name, whole);
  }
  save_tensors(target / "model.safetensors", tensors, {{"format", "pt"}});
  write_json(target / "config.json", config_to_json(network->config(), tokenizer, weights));
  tokenizer.save(target / "tokenizer.json");
}

void LanguageModel::save(const std::filesystem::path& target, torch::ScalarType weights) const {
  AtomicFolder whole(target, "model.safetensors");
  write_files(whole.path(), weights);
  whole.commit();
}

}  // namespace sememe
