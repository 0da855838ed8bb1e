// Neuronpedia's features: one JSON object a line, gzipped, in features/batch-N.jsonl.gz. What is measured comes from a description; nothing is
// explained in words, and what was not measured is left out.

#include <zlib.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "sememe/base/error.h"
#include "sememe/data/byte_stream.h"
#include "sememe/features/description.h"
#include "sememe/features/interchange/format.h"

namespace sememe {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kBatch = 1024;  // features a file

class GzipWriter {
 public:
  explicit GzipWriter(const fs::path& path) : path_(path.string()), file_(gzopen(path_.c_str(), "wb")) {
    if (!file_) fail("{}: cannot write there", path_);
  }
  ~GzipWriter() {
    if (file_) gzclose(file_);
  }
  GzipWriter(const GzipWriter&) = delete;
  GzipWriter& operator=(const GzipWriter&) = delete;
  void line(const std::string& text) {
    if (gzwrite(file_, (text + "\n").data(), static_cast<unsigned>(text.size() + 1)) <= 0) fail("{}: cannot write; is the disk full?", path_);
  }
  void close() {
    if (gzclose(std::exchange(file_, nullptr)) != Z_OK) fail("{}: cannot write; is the disk full?", path_);
  }

 private:
  std::string path_;
  gzFile file_;
};

Json numbers(const torch::Tensor& row) {
  const torch::Tensor values = row.contiguous();
  return std::vector<float>(values.data_ptr<float>(), values.data_ptr<float>() + values.numel());
}

template <class List, class Take>
Json listed(const List& list, const Take& take) {
  Json values = Json::array();
  for (const auto& element : list) values.push_back(take(element));
  return values;
}

/// Where an example's activation lies, as SAEDashboard notes it: the bounds of its interval and the share of all tokens therein, zeros
/// counted in the lowest. Strongest examples stand in no interval: -1, and the maximum as the upper bound.
struct Interval {
  double low = -1.0, high = 0.0, share = -1.0;
};

Interval interval_of(const Example& example, const LatentDescription& latent) {
  const auto bins = static_cast<int64_t>(latent.histogram.size());
  if (example.group == "top" || bins == 0 || latent.firings == 0) return {-1.0, latent.maximum, -1.0};
  const double width = latent.maximum / static_cast<double>(bins);
  const int64_t bin = std::clamp<int64_t>(static_cast<int64_t>(std::ceil(example.activation / width)) - 1, 0, bins - 1);
  const double share = latent.density * static_cast<double>(latent.histogram[bin]) / static_cast<double>(latent.firings);
  return {width * static_cast<double>(bin), width * static_cast<double>(bin + 1), bin == 0 ? share + 1.0 - latent.density : share};
}

Json activation_of(const Example& example, const LatentDescription& latent) {
  const auto least = std::min_element(example.activations.begin(), example.activations.end());
  const Interval interval = interval_of(example, latent);
  return {{"tokens", example.parts}, {"values", example.activations}, {"maxValue", example.activation},
          {"maxValueTokenIndex", example.peak}, {"minValue", least == example.activations.end() ? 0.0 : *least},
          {"binMin", interval.low}, {"binMax", interval.high}, {"binContains", interval.share}, {"qualifyingTokenIndex", example.peak}};
}

void add_description(const LatentDescription& latent, Json& feature) {
  feature["maxActApprox"] = latent.maximum;
  feature["frac_nonzero"] = latent.density;
  if (!latent.promoted.empty()) {
    feature["pos_str"] = listed(latent.promoted, [](const DescribedToken& token) { return token.text; });
    feature["pos_values"] = listed(latent.promoted, [](const DescribedToken& token) { return token.value; });
    feature["neg_str"] = listed(latent.suppressed, [](const DescribedToken& token) { return token.text; });
    feature["neg_values"] = listed(latent.suppressed, [](const DescribedToken& token) { return token.value; });
  }
  const double bin = latent.histogram.empty() ? 0.0 : latent.maximum / static_cast<double>(latent.histogram.size());
  Json centres = Json::array();
  for (size_t i = 0; i < latent.histogram.size(); ++i) centres.push_back(bin * (static_cast<double>(i) + 0.5));
  feature["freq_hist_data_bar_heights"] = latent.histogram;
  feature["freq_hist_data_bar_values"] = centres;
  feature["topkCosSimIndices"] = listed(latent.nearest, [](const NearLatent& near) { return near.latent; });
  feature["topkCosSimValues"] = listed(latent.nearest, [](const NearLatent& near) { return near.cosine; });
  feature["activations"] = listed(latent.examples, [&](const Example& example) { return activation_of(example, latent); });
}

/// Model and source as Neuronpedia names them if SAELens' config said, "gpt2-small/8-res-jb"; else model and site.
std::pair<std::string, std::string> names_of(const DictionaryParts& parts) {
  const auto text = [](const Json& object, const char* key) {
    return object.is_object() && object.contains(key) && object[key].is_string() ? object[key].get<std::string>() : std::string();
  };
  const Json source = source_config(parts, "saelens");
  const std::string id = text(source.contains("metadata") ? source["metadata"] : source, "neuronpedia_id");
  const size_t slash = id.find('/');
  if (slash != std::string::npos) return {id.substr(0, slash), id.substr(slash + 1)};
  return {fs::path(text(parts.config, "model")).filename().string(), text(parts.config, "site")};
}

/// The description's latents in order, one a call; load_latent would begin anew for each.
class DescriptionReader {
 public:
  explicit DescriptionReader(const fs::path& folder) : lines_(folder / "latents.jsonl") {}
  LatentDescription next(int64_t latent) {
    const std::optional<std::string> text = lines_.next();
    if (!text) fail("{}: ends before latent {}; is it of another dictionary?", lines_.where(), latent);
    LatentDescription description = LatentDescription::from_json(parse_json(*text, lines_.where()), lines_.where());
    if (description.latent != latent) fail("{}: describes latent {}, not {}", lines_.where(), description.latent, latent);
    return description;
  }

 private:
  LineReader lines_;
};

}  // namespace

void write_neuronpedia(const DictionaryParts& parts, const fs::path& folder, const WriteOptions& options) {
  fs::create_directories(folder / "features");
  const auto [model, layer] = names_of(parts);
  const Json site = parts.config.contains("site") ? parts.config["site"] : Json();
  const int64_t latents = parts.weights.latents();
  std::optional<DescriptionReader> description;
  if (!options.description.empty()) description.emplace(options.description);
  for (int64_t begin = 0; begin < latents; begin += kBatch) {
    GzipWriter file(folder / "features" / fmt::format("batch-{}.jsonl.gz", begin / kBatch));
    for (int64_t latent = begin; latent < std::min(latents, begin + kBatch); ++latent) {
      Json feature{{"modelId", model}, {"layer", layer}, {"index", std::to_string(latent)}, {"hasVector", true},
                   {"vector", numbers(parts.weights.decoder[latent])}};
      if (site.is_string()) feature["hookName"] = site;
      if (description) add_description(description->next(latent), feature);
      file.line(feature.dump());
    }
    file.close();
  }
}

}  // namespace sememe
