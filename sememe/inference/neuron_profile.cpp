#include "sememe/inference/neuron_profile.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "sememe/base/error.h"
#include "sememe/base/files.h"
#include "sememe/base/json.h"
#include "sememe/base/random.h"
#include "sememe/formats/safetensors.h"

namespace sememe {
namespace {

constexpr const char *kFile = "profile.safetensors", *kPredictorFile = "predictors.safetensors";

template <class T>
constexpr DType kTypeOf = std::is_same_v<T, float> ? DType::kF32 : DType::kI32;

/// Tables of equal length as one tensor.
class Tensors {
 public:
  template <class T>
  void add(std::string name, std::vector<int64_t> shape, std::vector<T> values) {
    const auto bytes = std::as_bytes(std::span<const T>(values));
    data_.emplace_back(bytes.begin(), bytes.end());
    views_.push_back({std::move(name), kTypeOf<T>, std::move(shape), {}});
  }
  template <class T>
  void add_tables(std::string name, const std::vector<std::vector<T>>& tables) {
    std::vector<T> all;
    for (const std::vector<T>& table : tables) all.insert(all.end(), table.begin(), table.end());
    add(std::move(name), {static_cast<int64_t>(tables.size()), static_cast<int64_t>(tables.empty() ? 0 : tables[0].size())}, std::move(all));
  }
  void write(const std::filesystem::path& path, const std::map<std::string, std::string>& metadata) {
    for (size_t i = 0; i < views_.size(); ++i) views_[i].data = data_[i];
    write_safetensors(path, views_, metadata);
  }

 private:
  std::vector<TensorView> views_;
  std::vector<std::vector<std::byte>> data_;
};

template <class T>
std::vector<T> values_of(const SafetensorsFile& file, const std::string& name, const std::vector<int64_t>& shape) {
  const TensorView& view = file.tensor(name);
  if (view.dtype != kTypeOf<T> || view.shape != shape)
    fail("{}: tensor \"{}\" is {} [{}], not {} [{}]", file.path().string(), name, dtype_name(view.dtype), fmt::join(view.shape, ", "),
         dtype_name(kTypeOf<T>), fmt::join(shape, ", "));
  std::vector<T> values(view.data.size() / sizeof(T));
  std::memcpy(values.data(), view.data.data(), view.data.size());
  if constexpr (std::is_same_v<T, float>)
    for (const float value : values)
      if (!std::isfinite(value)) fail("{}: tensor \"{}\" holds a NaN or infinite value", file.path().string(), name);
  return values;
}

template <class T>
std::vector<std::vector<T>> tables_of(const SafetensorsFile& file, const std::string& name, int64_t rows, int64_t columns) {
  const std::vector<T> all = values_of<T>(file, name, {rows, columns});
  std::vector<std::vector<T>> tables;
  for (int64_t row = 0; row < rows; ++row) tables.emplace_back(all.begin() + row * columns, all.begin() + (row + 1) * columns);
  return tables;
}

std::vector<InputShares> path_of(const SafetensorsFile& file, const std::string& name) {
  const std::vector<int64_t>& shape = file.tensor(name).shape;
  if (shape.size() != 2 || shape[0] < 1 || shape[1] != kMatrixInputs)
    fail("{}: tensor \"{}\" is [{}], not [points, {}]", file.path().string(), name, fmt::join(shape, ", "), kMatrixInputs);
  const std::vector<float> shares = values_of<float>(file, name, shape);
  std::vector<InputShares> path(shape[0]);
  for (size_t i = 0; i < shares.size(); ++i) {
    if (!(shares[i] >= 0.0f && shares[i] <= 1.0f)) fail("{}: tensor \"{}\" holds {}, which is no share", file.path().string(), name, shares[i]);
    path[i / kMatrixInputs][i % kMatrixInputs] = shares[i];
  }
  return path;
}

void check_neurons(std::span<const int32_t> neurons, int64_t count, const std::string& where) {
  for (const int32_t neuron : neurons)
    if (neuron < 0 || neuron >= count) fail("{}: neuron {} does not exist: the model's MLPs have {}", where, neuron, count);
}

}  // namespace

std::vector<int32_t> by_falling(const std::vector<double>& scores) {
  std::vector<int32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return scores[a] != scores[b] ? scores[a] > scores[b] : a < b; });
  return order;
}

std::vector<float> NeuronClusters::vector_of(const CoreNeurons& text) const {
  std::vector<int32_t> ranking = text.ranking(layer);
  ranking.resize(std::min<size_t>(ranking.size(), static_cast<size_t>(chosen)));
  std::vector<float> vector(text.counts(layer).size());
  for (const int32_t neuron : ranking) vector[neuron] = 1.0f;
  return vector;
}

size_t NeuronClusters::nearest(std::span<const float> vector) const {
  size_t best = 0;
  double least = INFINITY;
  for (size_t cluster = 0; cluster < centroids.size(); ++cluster) {
    double distance = 0;
    for (size_t i = 0; i < vector.size(); ++i) {
      const double difference = vector[i] - centroids[cluster][i];
      distance += difference * difference;
    }
    if (distance < least) best = cluster, least = distance;
  }
  return best;
}

float NeuronProfile::quantile(const std::vector<float>& table, double below) {
  const auto place = static_cast<int64_t>(std::llround(std::clamp(below, 0.0, 1.0) * (kQuantiles - 1)));
  return table.at(place);
}

std::vector<int32_t> NeuronProfile::by_frequency(int64_t layer) const {
  return by_falling({core.at(layer).begin(), core.at(layer).end()});
}

std::vector<int32_t> NeuronProfile::by_importance(int64_t layer) const {
  const std::vector<float>& sum = sums.at(layer);
  const std::vector<int32_t>& count = positive.at(layer);
  const double most_sum = std::max(*std::max_element(sum.begin(), sum.end()), 1e-30f);
  const double most_count = std::max(*std::max_element(count.begin(), count.end()), 1);
  std::vector<double> importance(neurons);
  for (int64_t i = 0; i < neurons; ++i) importance[i] = 0.5 * sum[i] / most_sum + 0.5 * count[i] / most_count;
  return by_falling(importance);
}

void NeuronProfile::save(const std::filesystem::path& folder) const {
  AtomicFolder whole(folder, kFile);
  Tensors tensors;
  tensors.add_tables("core", core);
  tensors.add_tables("positive", positive);
  tensors.add_tables("sums", sums);
  for (int input = 0; input < kMatrixInputs; ++input) {
    std::vector<std::vector<float>> tables;
    for (const auto& layer : inputs) tables.push_back(layer[input]);
    tensors.add_tables(fmt::format("inputs.{}", input), tables);
  }
  tensors.add_tables("gates", gates);
  for (size_t layer = 0; layer < input_paths.size(); ++layer) {
    std::vector<float> points;
    for (const InputShares& point : input_paths[layer]) points.insert(points.end(), point.begin(), point.end());
    tensors.add(fmt::format("input_paths.{}", layer), {static_cast<int64_t>(input_paths[layer].size()), kMatrixInputs}, points);
  }
  tensors.add_tables("clusters.centroids", clusters.centroids);
  tensors.add("clusters.of_texts", {static_cast<int64_t>(clusters.of_texts.size())}, clusters.of_texts);
  for (size_t cluster = 0; cluster < clusters.rankings.size(); ++cluster)
    for (size_t layer = 0; layer < clusters.rankings[cluster].size(); ++layer) {
      const std::vector<int32_t>& ranking = clusters.rankings[cluster][layer];
      tensors.add(fmt::format("clusters.{}.{}", cluster, layer), {static_cast<int64_t>(ranking.size())}, ranking);
    }
  const Json about = {{"model", fmt::format("{:016x}", model)}, {"layers", layers}, {"neurons", neurons}, {"tokens", tokens},
                      {"token_share", token_share}, {"cluster_layer", clusters.layer}, {"cluster_neurons", clusters.chosen},
                      {"clusters", clusters.centroids.size()}, {"input_paths", !input_paths.empty()}};
  tensors.write(whole.path() / kFile, {{"about", about.dump()}});
  std::vector<std::vector<int32_t>> lists;
  for (int64_t layer = 0; layer < layers; ++layer) lists.push_back(by_importance(layer));
  save_neuron_list(whole.path() / "neurons.json", lists);
  if (predictors != nullptr) NeuronPredictor::save(whole.path() / kPredictorFile, *predictors);
  whole.commit();
}

NeuronProfile NeuronProfile::load(const std::filesystem::path& folder, const QuantizedTransformer& engine) {
  const std::filesystem::path path = folder / kFile;
  if (!std::filesystem::exists(path)) fail("{}: there is no profile; sememe model profile makes one", path.string());
  const SafetensorsFile file(path);
  const auto found = file.metadata().find("about");
  if (found == file.metadata().end()) fail("{}: does not say which model it is of", path.string());
  const std::string where = path.string() + ": about";
  const Json about = parse_json(found->second, where);
  NeuronProfile profile;
  profile.model = fingerprint(engine);
  const TransformerConfig& config = engine.config();
  if (json_member<std::string>(about, "model", where) != fmt::format("{:016x}", profile.model))
    fail("{}: is a profile of another model than {}", folder.string(), engine.weights().source().path().string());
  profile.layers = config.layers, profile.neurons = config.feed_forward_width;
  profile.tokens = json_member<int64_t>(about, "tokens", where);
  profile.token_share = json_member<double>(about, "token_share", where);
  const int64_t layers = config.layers, neurons = config.feed_forward_width;
  profile.core = tables_of<int32_t>(file, "core", layers, neurons);
  profile.positive = tables_of<int32_t>(file, "positive", layers, neurons);
  profile.sums = tables_of<float>(file, "sums", layers, neurons);
  profile.inputs.resize(layers);
  for (int input = 0; input < kMatrixInputs; ++input) {
    const auto tables = tables_of<float>(file, fmt::format("inputs.{}", input), layers, kQuantiles);
    for (int64_t layer = 0; layer < layers; ++layer) profile.inputs[layer][input] = tables[layer];
  }
  profile.gates = tables_of<float>(file, "gates", layers, kQuantiles);
  if (json_member_or<bool>(about, "input_paths", false, where))
    for (int64_t layer = 0; layer < layers; ++layer) profile.input_paths.push_back(path_of(file, fmt::format("input_paths.{}", layer)));
  NeuronClusters& clusters = profile.clusters;
  clusters.layer = json_member<int64_t>(about, "cluster_layer", where), clusters.chosen = json_member<int64_t>(about, "cluster_neurons", where);
  if (clusters.layer < 0 || clusters.layer >= layers || clusters.chosen < 1 || clusters.chosen > neurons)
    fail("{}: layer {} and {} neurons do not fit the model", where, clusters.layer, clusters.chosen);
  const auto count = json_member<int64_t>(about, "clusters", where);
  if (count < 1 || count > 1024) fail("{}: {} clusters", where, count);
  clusters.centroids = tables_of<float>(file, "clusters.centroids", count, neurons);
  const TensorView& of_texts = file.tensor("clusters.of_texts");
  clusters.of_texts = values_of<int32_t>(file, "clusters.of_texts", of_texts.shape);
  for (const int32_t cluster : clusters.of_texts)
    if (cluster < 0 || cluster >= count) fail("{}: a text is of cluster {}, of {}", path.string(), cluster, count);
  for (int64_t cluster = 0; cluster < count; ++cluster) {
    clusters.rankings.emplace_back();
    for (int64_t layer = 0; layer < layers; ++layer) {
      const std::string name = fmt::format("clusters.{}.{}", cluster, layer);
      clusters.rankings.back().push_back(values_of<int32_t>(file, name, file.tensor(name).shape));
      check_neurons(clusters.rankings.back().back(), neurons, fmt::format("{}: tensor \"{}\"", path.string(), name));
    }
  }
  if (std::filesystem::exists(folder / kPredictorFile))
    profile.predictors = std::make_shared<const std::vector<NeuronPredictor>>(
        NeuronPredictor::load(folder / kPredictorFile, layers, config.width, neurons));
  return profile;
}

uint64_t fingerprint(const QuantizedTransformer& engine) {
  const TransformerConfig& config = engine.config();
  std::string about = fmt::format("{} {} {} {} {} {}", config.vocabulary, config.width, config.layers, config.heads, config.key_value_heads,
                                  config.feed_forward_width);
  const WeightSource& source = engine.weights().source();
  for (const std::string& parameter : {std::string("embedding"), fmt::format("block{}.down", config.layers - 1)}) {
    const std::span<const std::byte> data = source.tensor(parameter).data;
    const size_t some = std::min<size_t>(data.size(), 1 << 16);
    about.append(reinterpret_cast<const char*>(data.data() + (data.size() - some) / 2), some);
  }
  return hash64(about);
}

void save_neuron_list(const std::filesystem::path& path, const std::vector<std::vector<int32_t>>& lists) { write_file(path, Json{{"neurons", lists}}.dump()); }

std::vector<std::vector<int32_t>> load_neuron_list(const std::filesystem::path& path, const TransformerConfig& config) {
  const auto lists = json_member<std::vector<std::vector<int64_t>>>(read_json(path), "neurons", path.string());
  if (static_cast<int64_t>(lists.size()) != config.layers)
    fail("{}: lists neurons of {} layers, but the model has {}", path.string(), lists.size(), config.layers);
  std::vector<std::vector<int32_t>> found(lists.size());
  for (size_t layer = 0; layer < lists.size(); ++layer) {
    std::vector<bool> seen(config.feed_forward_width);
    for (const int64_t neuron : lists[layer]) {
      if (neuron == -1) break;
      if (neuron < 0 || neuron >= config.feed_forward_width || seen[neuron])
        fail("{}: neuron {} of layer {} does not exist or stands twice; the model's MLPs have {}", path.string(), neuron, layer, config.feed_forward_width);
      seen[neuron] = true;
      found[layer].push_back(static_cast<int32_t>(neuron));
    }
  }
  return found;
}

}  // namespace sememe
