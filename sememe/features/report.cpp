#include "sememe/features/report.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <unordered_set>

#include "sememe/base/error.h"
#include "sememe/base/files.h"
#include "sememe/data/jsonl.h"
#include "sememe/features/description.h"
#include "sememe/features/page.h"

namespace sememe {

namespace embedded {  // made from web/ by cmake/embed.cmake
extern const std::string_view report_js;
}

namespace {

namespace fs = std::filesystem;

constexpr double kFirstBin = -6.0, kBinWidth = 0.25;  // log10 of density
constexpr int64_t kBins = 24;
constexpr double kClear = 0.5;

std::string folder_name(const fs::path& folder) {
  return (folder.has_filename() ? folder : folder.parent_path()).filename().string();
}

std::optional<fs::path> first_existing(std::initializer_list<fs::path> paths) {
  for (const fs::path& path : paths)
    if (fs::exists(path)) return path;
  return std::nullopt;
}

/// Copies numbers that are there; a value that is there but no number is an error.
void copy_numbers(const Json& from, std::initializer_list<const char*> keys, std::string_view where, Json& to) {
  for (const char* const key : keys)
    if (from.is_object() && from.contains(key) && !from[key].is_null()) to[key] = json_member<double>(from, key, where);
}

Json read_evaluation(const fs::path& path) {
  const Json file = read_json(path);
  Json evaluation = Json::object();
  // What the page's sentences need is required, the rest may come with later versions.
  for (const char* const key : {"tokens", "l0", "explained_variance", "ce_clean", "ce_dictionary", "ce_recovered"})
    evaluation[key] = json_member<double>(file, key, path.string());
  copy_numbers(file, {"fvu", "dead", "dense", "kl", "ce_zero", "ce_mean", "ce_recovered_mean", "ce_recovered_gradient"},
               path.string(), evaluation);
  return evaluation;
}

Json read_training(const fs::path& path) {
  const Json file = read_json(path);
  Json training = Json::object();
  copy_numbers(file, {"tokens", "loss", "fvu", "l0", "dead", "tokens_per_second"}, path.string(), training);
  training["curve"] = Json::array();
  for (const Json& point : json_member_or<std::vector<Json>>(file, "curve", {}, path.string())) {
    Json copied;
    copied["tokens"] = json_member<double>(point, "tokens", path.string());
    copy_numbers(point, {"loss", "fvu", "l0", "dead"}, path.string(), copied);
    training["curve"].push_back(copied);
  }
  return training;
}

/// A latent for the page: activations of a passage as [part, activation] where there are any.
Json card_of(const LatentDescription& latent) {
  Json card = latent.to_json();
  for (Json& example : card["examples"]) {
    Json entries = Json::array();
    for (size_t i = 0; i < example["activations"].size(); ++i)
      if (example["activations"][i].get<double>() > 0) entries.push_back({i, example["activations"][i]});
    example["activations"] = entries;
  }
  return card;
}

/// What the page takes from a description: the clearest latents whole, counts of all.
void add_description(const fs::path& folder, int64_t cards, Json& dictionary) {
  const fs::path summary_path = folder / "summary.json";
  const Json summary = read_json(summary_path);
  const std::string where = summary_path.string();
  Json description{{"tokens", json_member<int64_t>(summary, "tokens", where)}, {"median_clarity", Json()}};
  copy_numbers(summary, {"median_clarity", "dead", "dense"}, where, description);
  const auto clearest = json_member<std::vector<int64_t>>(summary, "clearest", where);
  const auto kept = static_cast<std::ptrdiff_t>(std::min<size_t>(clearest.size(), static_cast<size_t>(cards)));
  const std::unordered_set<int64_t> wanted(clearest.begin(), clearest.begin() + kept);
  int64_t clear = 0;
  std::vector<int64_t> bins(kBins, 0);
  Json shown = Json::array();
  JsonlReader lines(folder / "latents.jsonl");
  while (const std::optional<Json> line = lines.next()) {
    const LatentDescription latent = LatentDescription::from_json(*line, lines.where());
    if (latent.clarity.value_or(0.0) >= kClear) ++clear;
    if (latent.density > 0) {
      const double place = std::floor((std::log10(latent.density) - kFirstBin) / kBinWidth);
      ++bins[static_cast<size_t>(std::clamp(place, 0.0, static_cast<double>(kBins - 1)))];
    }
    if (wanted.contains(latent.latent)) shown.push_back(card_of(latent));
  }
  dictionary["description"] = description;
  dictionary["clear"] = clear;
  dictionary["densities"] = {{"first", kFirstBin}, {"width", kBinWidth}, {"latents", bins}};
  dictionary["cards"] = shown;
}

/// What the architecture is called in writing.
std::string written(const std::string& architecture) {
  if (architecture == "topk") return "TopK";
  if (architecture == "gsae") return "g-SAE";
  return architecture;
}

Json read_dictionary(const ReportDictionary& source, int64_t cards) {
  const fs::path path = source.folder / "config.json";
  const Json config = read_json(path);
  const auto architecture = json_member<std::string>(config, "architecture", path.string());
  const std::string folder = folder_name(source.folder);
  Json dictionary{{"folder", folder},
                  {"name", folder == architecture ? written(architecture) : folder},
                  {"architecture", architecture},
                  {"latents", json_member<int64_t>(config, "latents", path.string())},
                  {"site", json_member_or<std::string>(config, "site", "", path.string())},
                  {"cards", Json::array()}};
  copy_numbers(config, {"k", "width"}, path.string(), dictionary);
  if (fs::exists(source.folder / "training.json")) dictionary["training"] = read_training(source.folder / "training.json");
  if (source.evaluation) dictionary["evaluation"] = read_evaluation(*source.evaluation);
  if (source.description) add_description(*source.description, cards, dictionary);
  return dictionary;
}

Json read_moves(const Json& steered, const char* key, std::string_view where) {
  Json moves = Json::array();
  for (const Json& move : json_member<std::vector<Json>>(steered, key, where))
    moves.push_back({{"text", json_member<std::string>(move, "text", where)},
                     {"before", json_member<double>(move, "before", where)},
                     {"after", json_member<double>(move, "after", where)}});
  return moves;
}

/// One continuation under steering.
Json read_steered(const Json& steered, const std::string& title, std::string_view where) {
  return {{"title", title},
          {"after", json_member<std::string>(steered, "after", where)},
          {"kl", json_member<double>(steered, "kl", where)},
          {"raised", read_moves(steered, "raised", where)},
          {"lowered", read_moves(steered, "lowered", where)}};
}

/// What dictionary steer --json wrote: one latent at several strengths, or edits that act together.
Json read_steering(const fs::path& path) {
  const std::string where = path.string();
  const Json file = read_json(path);
  Json run{{"dictionary", json_member<std::string>(file, "dictionary", where)},
           {"prompt", json_member<std::string>(file, "prompt", where)},
           {"before", json_member<std::string>(file, "before", where)},
           {"key_words", Json::array()},
           {"steered", Json::array()}};
  if (file.contains("edits")) {
    run["title"] = fmt::format("{}", fmt::join(json_member<std::vector<std::string>>(file, "edits", where), ", "));
    run["steered"].push_back(read_steered(file, "edited", where));
    return run;
  }
  run["title"] = fmt::format("latent {}", json_member<int64_t>(file, "latent", where));
  run["key_words"] = json_member<std::vector<std::string>>(file, "key_words", where);
  run["unit"] = json_member<double>(file, "unit", where);
  run["unit_meaning"] = json_member<std::string>(file, "unit_meaning", where);
  for (const Json& steered : json_member<std::vector<Json>>(file, "steered", where))
    run["steered"].push_back(read_steered(steered, fmt::format("strength {:g}", json_member<double>(steered, "strength", where)), where));
  return run;
}

Json read_model(const fs::path& folder) {
  Json model{{"name", folder_name(folder)}};
  const fs::path training = folder / "training.json";
  // An imported model says nothing about its training.
  if (fs::exists(training))
    copy_numbers(read_json(training), {"parameters", "heldout_bits_per_byte", "kneser_ney_bits_per_byte"}, training.string(), model);
  return model;
}

/// "a, b and c"
std::string joined(const std::vector<std::string>& parts) {
  std::string text;
  for (size_t i = 0; i < parts.size(); ++i) text += (i == 0 ? "" : i + 1 == parts.size() ? " and " : ", ") + parts[i];
  return text;
}

std::string text_of(const Json& object, const char* key) { return object.at(key).get<std::string>(); }

std::string what_was_learnt(const Json& data) {
  std::set<std::string> sites;
  std::set<int64_t> sizes;
  for (const Json& dictionary : data.at("dictionaries")) {
    sites.insert(text_of(dictionary, "site"));
    sizes.insert(dictionary.at("latents").get<int64_t>());
  }
  std::vector<std::string> numbers;
  for (const int64_t size : sizes) numbers.push_back(std::to_string(size));
  const size_t count = data.at("dictionaries").size();
  std::string sentence = count == 1 ? "One dictionary" : count == 2 ? "Two dictionaries" : fmt::format("{} dictionaries", count);
  sentence += fmt::format(" of {} latents {} learnt", joined(numbers), count == 1 ? "was" : "were");
  if (sites.size() == 1 && !sites.begin()->empty()) sentence += " from what passes " + *sites.begin();
  const Json& model = data.at("model");
  sentence += model.is_null() ? " in a language model" : " in the language model " + text_of(model, "name");
  if (!model.is_null() && model.contains("parameters"))
    sentence += fmt::format(" ({:.1f} million parameters)", model.at("parameters").get<double>() / 1e6);
  return sentence + ", and checked on text that was not used for learning.";
}

void add_evaluations(const Json& dictionaries, std::vector<std::string>& sentences) {
  std::vector<std::string> parts, names;
  std::vector<double> recovered;
  for (const Json& dictionary : dictionaries) {
    if (!dictionary.contains("evaluation")) continue;
    const Json& evaluation = dictionary.at("evaluation");
    names.push_back(text_of(dictionary, "name"));
    recovered.push_back(evaluation.at("ce_recovered").get<double>());
    parts.push_back(fmt::format("{} describes a token by {:.1f} latents on average and keeps {:.1f} % of the model's prediction",
                                names.back(), evaluation.at("l0").get<double>(), 100 * recovered.back()));
  }
  if (!parts.empty()) sentences.push_back(joined(parts) + ".");
  if (parts.size() != 2) return;
  const double points = 100 * (recovered[1] - recovered[0]);
  sentences.push_back(std::abs(points) < 0.05 ? "In that they are equal."
                                              : fmt::format("That is {:.1f} points {} for {} than for {}.", std::abs(points),
                                                            points > 0 ? "more" : "less", names[1], names[0]));
}

void add_clearness(const Json& dictionaries, std::vector<std::string>& sentences) {
  std::vector<std::string> parts;
  for (const Json& dictionary : dictionaries)
    if (dictionary.contains("description"))
      parts.push_back(fmt::format("{} of {}'s {} latents", dictionary.at("clear").get<int64_t>(), text_of(dictionary, "name"),
                                  dictionary.at("latents").get<int64_t>()));
  if (parts.empty()) return;
  sentences.push_back(joined(parts) +
                      " follow a list of words closely: the words they fire on in one half of the text foretell at least half of "
                      "where they fire in the other.");
}

}  // namespace

bool is_dictionary(const fs::path& folder) {
  return fs::is_directory(folder) && fs::exists(folder / "config.json") && fs::exists(folder / "dictionary.safetensors");
}

std::optional<fs::path> find_evaluation(const fs::path& folder) {
  const fs::path whole = folder.has_filename() ? folder : folder.parent_path();
  return first_existing({whole / "evaluation.json", whole.parent_path() / (folder_name(folder) + "-evaluation.json")});
}

ReportSources find_report_sources(const fs::path& run) {
  if (!fs::is_directory(run)) fail("{}: is no folder; give the one that holds the dictionaries of a run", run.string());
  ReportSources sources;
  for (const auto& entry : fs::directory_iterator(run)) {
    const fs::path& path = entry.path();
    const std::string name = path.filename().string();
    if (is_dictionary(path)) sources.dictionaries.push_back({path, find_evaluation(path), find_description(path)});
    if (entry.is_regular_file() && name.ends_with(".json") && name.find("steering") != std::string::npos)
      sources.steering.push_back(path);
  }
  if (sources.dictionaries.empty())
    fail("{}: holds no dictionary; make one in it with: sememe dictionary train --out {}", run.string(), (run / "topk").string());
  std::sort(sources.dictionaries.begin(), sources.dictionaries.end(), [](const ReportDictionary& a, const ReportDictionary& b) {
    const auto key = [](const ReportDictionary& one) { return std::pair(folder_name(one.folder) != "topk", one.folder); };
    return key(a) < key(b);
  });
  std::sort(sources.steering.begin(), sources.steering.end());
  return sources;
}

Json report_data(const ReportSources& sources) {
  if (sources.cards < 1) fail_usage("--cards {}: give at least 1", sources.cards);
  Json data{{"dictionaries", Json::array()}, {"steering", Json::array()}, {"model", Json()}};
  for (const ReportDictionary& source : sources.dictionaries) {
    Json dictionary = read_dictionary(source, sources.cards);
    dictionary["id"] = fmt::format("d{}", data["dictionaries"].size());
    data["dictionaries"].push_back(std::move(dictionary));
  }
  for (const fs::path& path : sources.steering) data["steering"].push_back(read_steering(path));
  if (sources.model) data["model"] = read_model(*sources.model);
  data["findings"] = findings(data);
  return data;
}

std::vector<std::string> findings(const Json& data) {
  std::vector<std::string> sentences{what_was_learnt(data)};
  add_evaluations(data.at("dictionaries"), sentences);
  add_clearness(data.at("dictionaries"), sentences);
  return sentences;
}

std::string report_page(const Json& data) {
  return self_contained_page("Sememe report", embedded::report_js, data);
}

void write_report(const fs::path& path, const Json& data) { write_file(path, report_page(data)); }

}  // namespace sememe
