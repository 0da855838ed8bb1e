#include "sememe/features/comparison.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <memory>
#include <set>
#include <string_view>
#include <utility>

#include "sememe/base/error.h"
#include "sememe/base/interrupt.h"
#include "sememe/base/progress.h"
#include "sememe/features/activation_store.h"
#include "sememe/features/evaluation.h"
#include "sememe/features/page.h"
#include "sememe/features/report.h"
#include "sememe/features/similarity.h"

namespace sememe {

namespace embedded {  // made from web/ by cmake/embed.cmake
extern const std::string_view compare_js;
}

namespace {

namespace fs = std::filesystem;

constexpr int64_t kBatchRows = 4096;

fs::path without_slash(const fs::path& folder) { return folder.has_filename() ? folder : folder.parent_path(); }

/// Numbers inside text by their value: "k8" stands before "k16".
bool natural_less(std::string_view a, std::string_view b) {
  const auto number = [](std::string_view text, size_t at) {
    size_t end = at;
    while (end < text.size() && std::isdigit(static_cast<unsigned char>(text[end]))) ++end;
    std::string_view digits = text.substr(at, end - at);
    digits.remove_prefix(std::min(digits.find_first_not_of('0'), digits.size()));
    return std::pair(digits, end);
  };
  size_t i = 0, j = 0;
  while (i < a.size() && j < b.size()) {
    if (std::isdigit(static_cast<unsigned char>(a[i])) && std::isdigit(static_cast<unsigned char>(b[j]))) {
      const auto [first, first_end] = number(a, i);
      const auto [second, second_end] = number(b, j);
      if (first != second) return first.size() != second.size() ? first.size() < second.size() : first < second;
      i = first_end;
      j = second_end;
    } else {
      if (a[i] != b[j]) return a[i] < b[j];
      ++i;
      ++j;
    }
  }
  return std::pair(a.size() - i, a) < std::pair(b.size() - j, b);
}

/// Copies numbers that are there; a value that is there but no number is an error.
void copy_numbers(const Json& from, std::initializer_list<const char*> keys, std::string_view where, Json& to) {
  for (const char* const key : keys)
    if (from.is_object() && from.contains(key) && !from[key].is_null()) to[key] = json_member<double>(from, key, where);
}

/// What is known of a dictionary from its files.
Json described(const ComparedDictionary& source) {
  const fs::path path = source.folder / "config.json";
  const Json config = read_json(path);
  Json dictionary{{"name", source.name},
                  {"architecture", json_member<std::string>(config, "architecture", path.string())},
                  {"latents", json_member<int64_t>(config, "latents", path.string())},
                  {"width", json_member<int64_t>(config, "width", path.string())},
                  {"site", json_member_or<std::string>(config, "site", "", path.string())}};
  copy_numbers(config, {"k"}, path.string(), dictionary);
  if (source.evaluation) {
    Json evaluation = Json::object();
    for (const char* const key : {"tokens", "l0", "ce_recovered"}) evaluation[key] = json_member<double>(*source.evaluation, key, source.evaluation_source);
    copy_numbers(*source.evaluation,
                 {"contexts", "fvu", "fvu_low", "fvu_high", "explained_variance", "nmse", "cosine", "l2_ratio", "relative_bias", "dead",
                  "dense", "ce_clean", "ce_zero", "ce_mean", "ce_dictionary", "delta_ce", "ce_recovered_low", "ce_recovered_high",
                  "ce_recovered_mean", "ce_recovered_mean_low", "ce_recovered_mean_high", "kl", "kl_low", "kl_high", "kl_score",
                  "kl_score_mean", "ce_recovered_gradient"},
                 source.evaluation_source, evaluation);
    dictionary["evaluation"] = evaluation;
  }
  const fs::path training_path = source.folder / "training.json";
  if (!fs::exists(training_path)) return dictionary;
  const Json training = read_json(training_path);
  dictionary["training"] = Json::object();
  copy_numbers(training, {"tokens", "loss", "fvu", "l0", "dead", "tokens_per_second"}, training_path.string(), dictionary["training"]);
  Json settings = json_member_or<Json>(training, "settings", Json(), training_path.string());
  if (!settings.is_object()) return dictionary;
  if (settings.contains("seed")) dictionary["seed"] = json_member<uint64_t>(settings, "seed", training_path.string());
  settings.erase("seed");
  // What two dictionaries must share to differ by their seed only; taken out again once the recipes are numbered.
  settings["of"] = {dictionary["site"], config.value("activations", Json()), config.value("model", Json())};
  dictionary["settings"] = settings;
  return dictionary;
}

std::string recipe_name(const Json& dictionary) {
  std::string name = fmt::format("{}, {} latents", dictionary.at("architecture").get<std::string>(), dictionary.at("latents").get<int64_t>());
  if (dictionary.contains("k")) name += fmt::format(", k {:g}", dictionary.at("k").get<double>());
  return name;
}

/// Numbers the recipes and says which each dictionary was made by.
Json recipes_of(Json& dictionaries) {
  Json recipes = Json::array();
  std::map<std::string, size_t> known;
  std::set<std::string> names;
  for (size_t i = 0; i < dictionaries.size(); ++i) {
    Json& dictionary = dictionaries[i];
    // Of a dictionary without settings nothing says that another differs from it by the seed only.
    const std::string key = dictionary.contains("settings") ? dictionary["settings"].dump() : fmt::format("dictionary {}", i);
    const auto [place, is_new] = known.emplace(key, recipes.size());
    if (is_new) {
      std::string name = recipe_name(dictionary);
      if (!names.insert(name).second) name += fmt::format(" (as {})", dictionary["name"].get<std::string>());
      recipes.push_back({{"name", name}, {"dictionaries", Json::array()}});
    }
    recipes[place->second]["dictionaries"].push_back(i);
    dictionary["recipe"] = place->second;
    dictionary.erase("settings");
  }
  return recipes;
}

/// Dictionaries with all that is measured by reading them.
class Comparison {
 public:
  Comparison(const std::vector<ComparedDictionary>& sources, const ComparisonOptions& options) : options_(options) {
    for (const ComparedDictionary& source : sources) {
      described_.push_back(described(source));
      loaded_.push_back(load_dictionary(source.folder));
      atoms_.push_back(loaded_.back()->atoms());
      if (loaded_.back()->width() != loaded_.front()->width())
        fail("{}: takes rows of width {}, {} of width {}; dictionaries of different sites cannot be compared", source.folder.string(),
             loaded_.back()->width(), sources.front().folder.string(), loaded_.front()->width());
    }
  }

  Json run() {
    Json result{{"recipes", recipes_of(described_)}, {"pairs", Json::array()}};
    find_pairs();
    if (options_.activations) read_activations();
    Progress progress("compare", static_cast<int64_t>(pairs_.size()), "pairs");
    for (Pair& pair : pairs_) {
      result["pairs"].push_back(compared(pair));
      progress.update(static_cast<int64_t>(result["pairs"].size()));
      check_stop();
    }
    result["dictionaries"] = described_;
    return result;
  }

 private:
  struct Pair {
    size_t first = 0, second = 0;
    std::unique_ptr<FeatureSplitting> splitting;  // where the sizes differ
    bool first_is_smaller = false;
  };

  static void check_stop() {
    if (interrupted()) throw Interrupted("interrupted while comparing; nothing was written");
  }

  void find_pairs() {
    for (size_t i = 0; i < loaded_.size(); ++i) {
      for (size_t j = i + 1; j < loaded_.size(); ++j) {
        Pair pair{i, j, nullptr, loaded_[i]->size() < loaded_[j]->size()};
        const auto [smaller, larger] = pair.first_is_smaller ? std::pair(i, j) : std::pair(j, i);
        if (loaded_[i]->size() != loaded_[j]->size())
          pair.splitting = std::make_unique<FeatureSplitting>(atoms_[smaller], atoms_[larger], options_.threshold);
        pairs_.push_back(std::move(pair));
      }
    }
  }

  void read_activations() {
    const ActivationStore store = ActivationStore::open(*options_.activations);
    if (store.width() != loaded_.front()->width())
      fail("{}: has rows of width {}, the dictionaries take {}", options_.activations->string(), store.width(), loaded_.front()->width());
    const int64_t rows = std::min(store.rows(), options_.rows);
    std::vector<ReconstructionFigures> figures;
    for (const auto& dictionary : loaded_) figures.emplace_back(dictionary->size(), dictionary->width());
    Progress progress("encode", rows, "rows");
    for (int64_t row = 0; row < rows; row += kBatchRows) {
      const torch::Tensor x = store.read(row, std::min(kBatchRows, rows - row)).activations;
      std::vector<SparseCodes> codes;
      for (size_t i = 0; i < loaded_.size(); ++i) {
        codes.push_back(loaded_[i]->encode(x));
        figures[i].add(x, codes.back(), loaded_[i]->decode(codes.back()));
        check_stop();
      }
      for (Pair& pair : pairs_) {
        if (!pair.splitting) continue;
        const auto [smaller, larger] = pair.first_is_smaller ? std::pair(pair.first, pair.second) : std::pair(pair.second, pair.first);
        pair.splitting->add(codes[smaller], codes[larger]);
      }
      progress.update(row + x.size(0));
    }
    for (size_t i = 0; i < loaded_.size(); ++i) {
      described_[i]["on_activations"] = {{"rows", figures[i].rows()},   {"l0", figures[i].l0()},
                                         {"fvu", figures[i].fvu()},     {"explained_variance", 1.0 - figures[i].fvu()},
                                         {"nmse", figures[i].nmse()},   {"cosine", figures[i].cosine()},
                                         {"dead", figures[i].dead()},   {"dense", figures[i].dense()},
                                         {"l2_ratio", figures[i].l2_ratio()}};
    }
  }

  Json compared(const Pair& pair) const {
    const torch::Tensor& first = atoms_[pair.first];
    const torch::Tensor& second = atoms_[pair.second];
    const auto nearest = [](const NearestAtoms& atoms) {
      return Json{{"mean_cosine", atoms.mean_cosine}, {"above_07", atoms.above_07}, {"above_09", atoms.above_09}};
    };
    const Json& a = described_[pair.first];
    const Json& b = described_[pair.second];
    Json result{{"first", pair.first},
                {"second", pair.second},
                {"seeds", a.at("recipe") == b.at("recipe") && a.value("seed", Json()) != b.value("seed", Json())},
                {"first_nearest", nearest(nearest_atoms(first, second))},
                {"second_nearest", nearest(nearest_atoms(second, first))},
                {"matched_cosine", Json()}};
    if (std::max(first.size(0), second.size(0)) <= kLargestMatching) {
      const MatchedAtoms matched = match_atoms(first, second);
      result["matched_cosine"] = matched.mean_cosine;
      result["matched_above_07"] = matched.above_07;
      result["matched_above_09"] = matched.above_09;
    }
    if (pair.splitting) {
      result["splitting"] = pair.splitting->summary();
      result["splitting"]["smaller"] = pair.first_is_smaller ? pair.first : pair.second;
    }
    return result;
  }

  const ComparisonOptions& options_;
  Json described_ = Json::array();
  std::vector<std::shared_ptr<Dictionary>> loaded_;
  std::vector<torch::Tensor> atoms_;
  std::vector<Pair> pairs_;
};

/// Mean matched cosine over pairs of seeds, for each recipe that has some.
void add_stability(Json& result) {
  std::vector<std::pair<double, int64_t>> sums(result["recipes"].size());
  for (const Json& pair : result["pairs"]) {
    if (!pair["seeds"].get<bool>() || pair["matched_cosine"].is_null()) continue;
    auto& [sum, count] = sums[result["dictionaries"][pair["first"].get<size_t>()]["recipe"].get<size_t>()];
    sum += pair["matched_cosine"].get<double>();
    ++count;
  }
  for (size_t i = 0; i < sums.size(); ++i)
    if (sums[i].second > 0) result["recipes"][i]["stability"] = sums[i].first / static_cast<double>(sums[i].second);
}

Json front_of(const Json& dictionaries) {
  Json front = Json::array();
  const auto point = [](const Json& one) {
    return std::pair(one["evaluation"]["l0"].get<double>(), one["evaluation"]["ce_recovered"].get<double>());
  };
  for (size_t i = 0; i < dictionaries.size(); ++i) {
    if (!dictionaries[i].contains("evaluation")) continue;
    const auto [l0, recovered] = point(dictionaries[i]);
    const bool beaten = std::any_of(dictionaries.begin(), dictionaries.end(), [&](const Json& other) {
      if (!other.contains("evaluation")) return false;
      const auto [other_l0, other_recovered] = point(other);
      return other_l0 <= l0 && other_recovered >= recovered && (other_l0 < l0 || other_recovered > recovered);
    });
    if (!beaten) front.push_back(i);
  }
  return front;
}

/// "a, b and c"
std::string joined(const std::vector<std::string>& parts) {
  std::string text;
  for (size_t i = 0; i < parts.size(); ++i) text += (i == 0 ? "" : i + 1 == parts.size() ? " and " : ", ") + parts[i];
  return text;
}

std::vector<std::string> findings_of(const Json& result) {
  const Json& dictionaries = result["dictionaries"];
  std::vector<std::string> sentences;
  std::vector<std::string> front;
  for (const Json& place : result["front"]) {
    const Json& one = dictionaries[place.get<size_t>()];
    front.push_back(fmt::format("{} ({:.1f} % at {:.1f} latents a token)", one["name"].get<std::string>(),
                                100 * one["evaluation"]["ce_recovered"].get<double>(), one["evaluation"]["l0"].get<double>()));
  }
  if (front.size() > 6) front = {fmt::format("{} of them", front.size())};
  if (!front.empty()) sentences.push_back("Of the model's prediction no other keeps more with as few latents than " + joined(front) + ".");
  std::vector<std::string> stabilities;
  for (const Json& recipe : result["recipes"])
    if (recipe.contains("stability")) stabilities.push_back(fmt::format("{:.2f} for {}", recipe["stability"].get<double>(), recipe["name"].get<std::string>()));
  if (!stabilities.empty())
    sentences.push_back("Between seeds the atoms, matched one to one, have a mean cosine of " + joined(stabilities) + ".");
  for (const Json& pair : result["pairs"]) {
    if (!pair.contains("splitting") || sentences.size() > 4) continue;
    const Json& splitting = pair["splitting"];
    const size_t smaller = splitting["smaller"].get<size_t>(), larger = pair["first"].get<size_t>() + pair["second"].get<size_t>() - smaller;
    std::string sentence = fmt::format("{} of {}'s {} atoms have more than one atom of {} near them", splitting["atoms_split"].get<int64_t>(),
                                       dictionaries[smaller]["name"].get<std::string>(), splitting["atoms"].get<int64_t>(),
                                       dictionaries[larger]["name"].get<std::string>());
    if (splitting.contains("nested"))
      sentence += fmt::format("; those of {} fire only where it does", splitting["nested"].get<int64_t>());
    sentences.push_back(sentence + ".");
  }
  return sentences;
}

std::vector<std::string> warnings_of(const Json& result) {
  std::set<double> tokens, clean;
  size_t evaluated = 0;
  for (const Json& dictionary : result["dictionaries"]) {
    if (!dictionary.contains("evaluation")) continue;
    ++evaluated;
    tokens.insert(dictionary["evaluation"]["tokens"].get<double>());
    if (dictionary["evaluation"].contains("ce_clean")) clean.insert(dictionary["evaluation"]["ce_clean"].get<double>());
  }
  std::vector<std::string> warnings;
  if (evaluated == 0)
    warnings.push_back("No evaluation was found, so nothing is said about the model's prediction; give --model and --text, or evaluate first.");
  else if (evaluated < result["dictionaries"].size())
    warnings.push_back(fmt::format("Only {} of {} dictionaries were evaluated.", evaluated, result["dictionaries"].size()));
  if (tokens.size() > 1)
    warnings.push_back(fmt::format("The evaluations used from {:.0f} to {:.0f} tokens: what never fires on the shorter text may fire on "
                                   "the longer, so dead latents cannot be compared.", *tokens.begin(), *tokens.rbegin()));
  // The clean model gives the same loss on the same text.
  else if (clean.size() > 1 && *clean.rbegin() - *clean.begin() > 1e-3)
    warnings.push_back("The evaluations used different texts or models: the clean cross-entropies differ.");
  for (const Json& pair : result["pairs"])
    if (pair["matched_cosine"].is_null()) {
      warnings.push_back(fmt::format("Dictionaries of more than {} atoms were not matched one to one.", kLargestMatching));
      break;
    }
  return warnings;
}

}  // namespace

std::vector<ComparedDictionary> find_compared(const std::vector<fs::path>& folders) {
  std::vector<ComparedDictionary> found;
  std::set<fs::path> seen;
  const auto add = [&](const fs::path& folder) {
    if (seen.insert(fs::weakly_canonical(folder)).second) found.push_back({folder, folder.filename().string(), std::nullopt, ""});
  };
  for (const fs::path& given : folders) {
    const fs::path folder = without_slash(given);
    if (is_dictionary(folder)) {
      add(folder);
      continue;
    }
    std::vector<fs::path> inside;
    for (const ReportDictionary& one : find_report_sources(folder).dictionaries) inside.push_back(one.folder);
    std::sort(inside.begin(), inside.end(), [](const fs::path& a, const fs::path& b) { return natural_less(a.filename().string(), b.filename().string()); });
    std::for_each(inside.begin(), inside.end(), add);
  }
  std::map<std::string, int64_t> counts;
  for (const ComparedDictionary& one : found) ++counts[one.name];
  for (ComparedDictionary& one : found) {
    if (counts[one.name] > 1) one.name = one.folder.string();
    if (const std::optional<fs::path> evaluation = find_evaluation(one.folder)) {
      one.evaluation = read_json(*evaluation);
      one.evaluation_source = evaluation->string();
    }
  }
  return found;
}

Json compare_dictionaries(const std::vector<ComparedDictionary>& dictionaries, const ComparisonOptions& options) {
  if (dictionaries.size() < 2) fail_usage("{} dictionary: give at least 2 to compare", dictionaries.size());
  if (options.rows < 1) fail_usage("--rows {}: give at least 1", options.rows);
  if (!(options.threshold > 0 && options.threshold < 1)) fail_usage("--threshold {}: give a cosine between 0 and 1", options.threshold);
  Json result = Comparison(dictionaries, options).run();
  add_stability(result);
  result["front"] = front_of(result["dictionaries"]);
  result["findings"] = findings_of(result);
  result["warnings"] = warnings_of(result);
  return result;
}

std::string comparison_page(const Json& comparison) {
  return self_contained_page("Sememe: dictionaries compared", embedded::compare_js, comparison);
}

}  // namespace sememe
