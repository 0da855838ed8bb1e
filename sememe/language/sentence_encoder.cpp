#include "sememe/language/sentence_encoder.h"

#include <numeric>
#include <vector>

#include "sememe/base/error.h"
#include "sememe/base/memory.h"
#include "sememe/families/config_json.h"
#include "sememe/formats/shown.h"
#include "sememe/network/tensors.h"

namespace sememe {
namespace {

namespace fs = std::filesystem;

/// Old files have a flag for each way to pool, newer ones the name of one.
void read_pooling(const fs::path& path, int64_t width, Pooling& pooling) {
  const Json json = read_json(path);
  const std::string where = path.string();
  for (const char* const key : {"word_embedding_dimension", "embedding_dimension"}) only(json, key, {width}, where);
  only(json, "include_prompt", {true}, where);
  if (json.is_object() && json.contains("pooling_mode")) {
    only(json, "pooling_mode", {"mean", "cls"}, where);
    pooling.mean = json["pooling_mode"] == "mean";
    return;
  }
  for (const char* const key : {"pooling_mode_max_tokens", "pooling_mode_mean_sqrt_len_tokens", "pooling_mode_weightedmean_tokens", "pooling_mode_lasttoken"})
    only(json, key, {false}, where);
  pooling.mean = json_member<bool>(json, "pooling_mode_mean_tokens", where);
  if (json_member_or<bool>(json, "pooling_mode_cls_token", false, where) == pooling.mean)
    fail("{}: exactly one of \"pooling_mode_mean_tokens\" and \"pooling_mode_cls_token\" must be true; others are not supported", where);
}

/// modules.json lists what follows on what: the encoder, pooling, perhaps a norm.
Pooling read_modules(const fs::path& folder, int64_t width) {
  const fs::path path = folder / "modules.json";
  if (!fs::is_regular_file(path)) return {};
  const Json modules = read_json(path);
  const std::string where = path.string();
  if (!modules.is_array()) fail("{}: must be a list of modules", where);
  Pooling pooling{.mean = true, .normalized = false};
  const char* const order[] = {"Transformer", "Pooling", "Normalize"};
  for (size_t i = 0; i < modules.size(); ++i) {
    const auto type = json_member<std::string>(modules[i], "type", where);
    const std::string name = type.substr(type.rfind('.') + 1);
    if (i >= std::size(order) || name != order[i])
      fail("{}: module {} is \"{}\"; a Transformer, Pooling and perhaps Normalize are supported, in this order", where, i, shown(type));
    const auto place = json_member<std::string>(modules[i], "path", where);
    if (fs::path(place).filename() != place) fail("{}: the path of module {} must be the plain name of a folder", where, i);
    if (i == 0 && !place.empty()) fail("{}: the Transformer is in \"{}\"; give that folder, or move its files up", where, shown(place));
    if (i == 1) read_pooling(folder / place / "config.json", width, pooling);
    if (i == 2) pooling.normalized = true;
  }
  if (modules.size() < 2) fail("{}: has no Pooling", where);
  return pooling;
}

Json object_in(const fs::path& path) { return fs::is_regular_file(path) ? read_json(path) : Json::object(); }

/// Old versions of sentence-transformers wrote it among their settings, newer ones among the tokenizer's.
int64_t read_context(const fs::path& folder, const EncoderConfig& config) {
  const fs::path settings_path = folder / "sentence_bert_config.json", tokenizer_path = folder / "tokenizer_config.json";
  const Json settings = object_in(settings_path);
  only(settings, "do_lower_case", {false}, settings_path.string());
  if (settings.contains("max_seq_length")) return size_member(settings, "max_seq_length", {}, settings_path.string());
  const auto most = json_member_or<double>(object_in(tokenizer_path), "model_max_length", 0, tokenizer_path.string());
  return most >= 1 && most < static_cast<double>(config.context) ? static_cast<int64_t>(most) : 0;  // huge where there is no limit
}

}  // namespace

std::string Pooling::description() const {
  return fmt::format("{}{}", mean ? "the mean over tokens" : "the first token's", normalized ? ", of length 1" : "");
}

SentenceEncoder SentenceEncoder::load(const fs::path& folder) {
  const fs::path place = folder / "config.json";
  if (!fs::exists(place)) read_json(place);  // says so, rather than that the weights are missing
  const WeightFiles files(folder);
  const auto [config, parameters] = describe_encoder(files);
  require_memory(files.num_weights() * static_cast<int64_t>(sizeof(float)), fmt::format("{} in float32", folder.string()));
  const torch::NoGradGuard no_grad;
  SentenceEncoder encoder{std::make_shared<Encoder>(config), Tokenizer::load(folder), folder, read_modules(folder, config.width),
                          read_context(folder, config)};
  auto named = encoder.network->named_parameters();
  for (const EncoderParameter& parameter : parameters)
    named[parameter.name].copy_(load_weight(files.holding(parameter.tensor), parameter.tensor, parameter.shape));
  encoder.network->eval();
  const fs::path prompts = folder / "config_sentence_transformers.json";
  only(object_in(prompts), "default_prompt_name", {}, prompts.string());
  const Tokenizer& tokenizer = encoder.tokenizer;
  if (tokenizer.size() > config.vocabulary)
    fail("{}: the tokenizer has {} tokens but \"vocab_size\" is {}; do the two belong together?", place.string(), tokenizer.size(),
         config.vocabulary);
  if (!tokenizer.adds_beginning_of_text() || !tokenizer.closing())
    fail("{}: the tokenizer puts no tokens around a text, such as [CLS] and [SEP], as encoders need", folder.string());
  if (encoder.text_context() < 3)
    fail("{}: a context of {} tokens has no room for a text", place.string(), encoder.text_context());
  return encoder;
}

Embeddings SentenceEncoder::embed(std::span<const std::string> texts, int64_t batch_tokens) const {
  const torch::NoGradGuard no_grad;
  const auto count = static_cast<int64_t>(texts.size());
  const auto most = static_cast<size_t>(text_context()) - 2;
  Embeddings embeddings{torch::empty({count, network->config().width})};
  std::vector<std::vector<int32_t>> ids(count);
  for (int64_t i = 0; i < count; ++i) {
    std::vector<int32_t> text = tokenizer.encode(texts[i]);
    embeddings.shortened += text.size() > most;
    if (text.size() > most) text.resize(most);
    ids[i].push_back(tokenizer.opening());
    ids[i].insert(ids[i].end(), text.begin(), text.end());
    ids[i].push_back(*tokenizer.closing());
  }
  std::vector<int64_t> order(count);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return ids[a].size() < ids[b].size(); });
  const torch::Device device = network->parameters().front().device();
  for (int64_t begin = 0, end = 0; begin < count; begin = end) {
    int64_t length = 0;
    for (end = begin; end < count; ++end) {
      const auto longer = static_cast<int64_t>(ids[order[end]].size());
      if (end > begin && longer * (end - begin + 1) > batch_tokens) break;
      length = longer;
    }
    torch::Tensor inputs = torch::full({end - begin, length}, Encoder::kPadding, torch::kInt64);
    for (int64_t row = begin; row < end; ++row) {
      const std::vector<int32_t>& text = ids[order[row]];
      std::copy(text.begin(), text.end(), inputs.mutable_data_ptr<int64_t>() + (row - begin) * length);
    }
    inputs = inputs.to(device);
    NoVisitor nobody;
    const torch::Tensor tokens = network->forward({inputs, {}}, nobody);
    const torch::Tensor is_text = inputs.ne(Encoder::kPadding).unsqueeze(-1);
    torch::Tensor pooled = pooling.mean ? (tokens * is_text).sum(1) / is_text.sum(1) : tokens.select(1, 0);
    if (pooling.normalized) pooled = torch::nn::functional::normalize(pooled, torch::nn::functional::NormalizeFuncOptions().p(2).dim(1));
    const torch::Tensor rows = torch::tensor(std::vector<int64_t>(order.begin() + begin, order.begin() + end));
    embeddings.rows.index_copy_(0, rows, pooled.to(torch::kCPU));
  }
  return embeddings;
}

}  // namespace sememe
