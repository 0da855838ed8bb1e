#include "sememe/features/description.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <numeric>
#include <unordered_set>
#include <utility>

#include "sememe/base/error.h"
#include "sememe/base/files.h"
#include "sememe/base/interrupt.h"
#include "sememe/base/progress.h"
#include "sememe/base/random.h"
#include "sememe/base/threads.h"
#include "sememe/data/jsonl.h"
#include "sememe/features/capture.h"
#include "sememe/features/evaluation.h"
#include "sememe/features/key_words.h"
#include "sememe/features/logit_lens.h"
#include "sememe/features/site_visitors.h"

namespace sememe {
namespace {

constexpr int64_t kTokensBefore = 24, kTokensAfter = 12;  // of a passage around a peak
constexpr int64_t kContextTokens = 8;                     // before a firing, for context_words
constexpr size_t kTopExamples = 6, kBandExamples = 3;
constexpr std::pair<double, const char*> kBands[] = {{0.75, "75%"}, {0.50, "50%"}, {0.25, "25%"}};
constexpr double kBandReach = 0.1;  // a band holds the peaks within this of its quantile
constexpr size_t kShownWords = 8, kShownTokens = 8, kNearest = 5;
constexpr int64_t kHistogramBins = 20;
constexpr double kLeastZ = 1.96;
constexpr int64_t kLeastFirings = 8;  // in each half, for a clarity
constexpr int64_t kBlock = 256;       // latents worked on at a time
constexpr const char* kLatentsFile = "latents.jsonl";

/// Four significant digits: files stay small, and more would mean nothing.
double rounded(double value) { return std::strtod(fmt::format("{:.4g}", value).c_str(), nullptr); }

/// How often each unit stands at the positions (of one half, or of both if `half` is -1).
std::vector<WordCount> count_units(const DescribedText& text, TextUnit kind, std::span<const int32_t> positions, int half) {
  std::vector<int32_t> units;
  for (const int32_t position : positions)
    if (half < 0 || text.half(position) == half) units.push_back(text.unit(kind, position));
  std::sort(units.begin(), units.end());
  std::vector<WordCount> counts;
  for (const int32_t unit : units) {
    if (counts.empty() || counts.back().word != unit) {
      const int64_t even = text.occurrences(kind, unit, 0), odd = text.occurrences(kind, unit, 1);
      counts.push_back({unit, 0, half < 0 ? even + odd : half == 0 ? even : odd});
    }
    ++counts.back().firings;
  }
  return counts;
}

std::vector<DescribedWord> words_set_apart(const DescribedText& text, std::span<const int32_t> positions) {
  const std::vector<WordCount> counts = count_units(text, TextUnit::kWord, positions, -1);
  std::vector<DescribedWord> words;
  for (const KeyWord& word : contrast_words(counts, text.size())) {
    if (words.size() == kShownWords || word.z < kLeastZ) break;
    words.push_back({text.spelling(TextUnit::kWord, word.word), word.z, word.firings, word.occurrences});
  }
  return words;
}

/// The positions among the kContextTokens before any of `positions` in its context, each once, ascending.
std::vector<int32_t> positions_before(const DescribedText& text, std::span<const int32_t> positions) {
  std::vector<int32_t> before;
  int64_t next = 0;
  for (const int32_t position : positions) {
    next = std::max({next, text.context_begin(text.context(position)), position - kContextTokens});
    for (; next < position; ++next) before.push_back(static_cast<int32_t>(next));
  }
  return before;
}

std::vector<DescribedToken> commonest_tokens(const DescribedText& text, std::span<const int32_t> positions) {
  std::vector<WordCount> counts = count_units(text, TextUnit::kToken, positions, -1);
  std::sort(counts.begin(), counts.end(), [](const WordCount& a, const WordCount& b) {
    return a.firings != b.firings ? a.firings > b.firings : a.word < b.word;
  });
  std::vector<DescribedToken> tokens;
  for (size_t i = 0; i < std::min(kShownTokens, counts.size()); ++i)
    tokens.push_back({text.spelling(TextUnit::kToken, counts[i].word),
                      static_cast<double>(counts[i].firings) / static_cast<double>(positions.size())});
  return tokens;
}

/// The average precision with which units of one kind, weighed on the even half, foretell the firings of the odd half.
double precision_of(TextUnit kind, const DescribedText& text, std::span<const int32_t> positions, int64_t odd_firings) {
  std::vector<KeyWord> chosen = contrast_words(count_units(text, kind, positions, 0), text.half_size(0));
  std::erase_if(chosen, [](const KeyWord& word) { return word.z < kLeastZ; });
  std::sort(chosen.begin(), chosen.end(), [](const KeyWord& a, const KeyWord& b) {
    return a.log_odds != b.log_odds ? a.log_odds > b.log_odds : a.word < b.word;
  });
  const std::vector<WordCount> odd = count_units(text, kind, positions, 1);
  std::vector<WordCount> ordered;
  for (const KeyWord& word : chosen) {
    const auto found = std::lower_bound(odd.begin(), odd.end(), word.word,
                                        [](const WordCount& count, int32_t unit) { return count.word < unit; });
    const int64_t firings = found != odd.end() && found->word == word.word ? found->firings : 0;
    ordered.push_back({word.word, firings, text.occurrences(kind, word.word, 1)});
  }
  return average_precision(ordered, odd_firings, text.half_size(1));
}

/// Indices of the firings with no stronger one in their window (of equal ones the first), strongest first.
std::vector<int64_t> find_peaks(const DescribedText& text, std::span<const int32_t> positions, std::span<const float> values) {
  std::vector<int64_t> peaks;
  const auto count = static_cast<int64_t>(positions.size());
  for (int64_t i = 0; i < count; ++i) {
    const auto context = text.context(positions[i]);
    bool peak = true;
    for (int64_t j = i - 1; peak && j >= 0 && positions[i] - positions[j] <= kTokensBefore; --j)
      peak = text.context(positions[j]) != context || values[j] < values[i];
    for (int64_t j = i + 1; peak && j < count && positions[j] - positions[i] <= kTokensAfter; ++j)
      peak = text.context(positions[j]) != context || values[j] <= values[i];
    if (peak) peaks.push_back(i);
  }
  std::stable_sort(peaks.begin(), peaks.end(), [&](int64_t a, int64_t b) { return values[a] > values[b]; });
  return peaks;
}

class ExampleChooser {
 public:
  ExampleChooser(const DescribedText& text, std::span<const int32_t> positions, std::span<const float> values)
      : text_(text), positions_(positions), values_(values), peaks_(find_peaks(text, positions, values)) {}

  std::vector<Example> choose(RandomStream& stream) {
    std::vector<int64_t> ranks(peaks_.size());
    std::iota(ranks.begin(), ranks.end(), 0);
    take("top", ranks, kTopExamples);
    const double count = static_cast<double>(peaks_.size());
    for (const auto& [quantile, name] : kBands) {
      const auto first = static_cast<int64_t>(std::ceil((1.0 - quantile - kBandReach) * count));
      const auto last = static_cast<int64_t>(std::floor((1.0 - quantile + kBandReach) * count));
      std::vector<int64_t> band;
      for (const int64_t i : permutation(std::max<int64_t>(0, last - first), stream)) band.push_back(first + i);
      const size_t before = examples_.size();
      take(name, band, kBandExamples);
      std::stable_sort(examples_.begin() + static_cast<std::ptrdiff_t>(before), examples_.end(),
                       [](const Example& a, const Example& b) { return a.activation > b.activation; });
    }
    return std::move(examples_);
  }

 private:
  /// Up to `wanted` passages that were not taken yet, at the peaks of these ranks.
  void take(const char* group, const std::vector<int64_t>& ranks, size_t wanted) {
    for (size_t i = 0; i < ranks.size() && wanted > 0; ++i) {
      if (!taken_.insert(ranks[i]).second) continue;
      Example example = passage(peaks_[ranks[i]]);
      if (!seen_.insert(fmt::format("{}", fmt::join(example.parts, ""))).second) continue;
      example.group = group;
      examples_.push_back(std::move(example));
      --wanted;
    }
  }

  Example passage(int64_t firing) const {
    const int64_t position = positions_[firing];
    TextWindow window = text_.window(position, kTokensBefore, kTokensAfter);
    Example example;
    example.activation = values_[firing];
    example.activations.assign(window.parts.size(), 0.0);
    example.parts = std::move(window.parts);
    const auto part_of = [&](int64_t place) {
      const auto& first = window.first_positions;
      return std::upper_bound(first.begin(), first.end(), place) - first.begin() - 1;
    };
    auto entry = std::lower_bound(positions_.begin(), positions_.end(), window.first_positions.front());
    for (; entry != positions_.end() && *entry < window.end; ++entry) {
      double& activation = example.activations[part_of(*entry)];
      activation = std::max<double>(activation, values_[entry - positions_.begin()]);
    }
    example.peak = part_of(position);
    return example;
  }

  const DescribedText& text_;
  std::span<const int32_t> positions_;
  std::span<const float> values_;
  std::vector<int64_t> peaks_;
  std::unordered_set<int64_t> taken_;
  std::unordered_set<std::string> seen_;
  std::vector<Example> examples_;
};

/// What of a latent lies in its atom: the logit lens and the nearest atoms.
class AtomReader {
 public:
  /// @param site the last that the dictionary writes
  AtomReader(const Dictionary& dictionary, const LanguageModel& model, Site site)
      : end_(dictionary.written().begin + dictionary.written().count),
        atoms_(torch::nn::functional::normalize(dictionary.atoms().to(torch::kCPU, torch::kFloat))),
        model_(model),
        site_(std::move(site)) {}

  /// Adds to the descriptions of latents [first, first + count).
  void add(int64_t first, std::vector<LatentDescription>& descriptions) const {
    const auto count = static_cast<int64_t>(descriptions.size());
    torch::Tensor cosines = torch::mm(atoms_.narrow(0, first, count), atoms_.t());
    cosines.diagonal(first).fill_(-2.0);  // an atom is not its own neighbour
    const auto wanted = std::min<int64_t>(kNearest, atoms_.size(0) - 1);
    const auto [near, who] = cosines.topk(wanted, 1);
    for (int64_t i = 0; i < count; ++i)
      for (int64_t j = 0; j < wanted; ++j)
        descriptions[i].nearest.push_back({who[i][j].item<int64_t>(), near[i][j].item<double>()});
    // Of several sites the last is nearest to the head.
    const torch::Tensor written = atoms_.narrow(0, first, count).narrow(1, end_ - site_.width, site_.width);
    const torch::Tensor logits = logit_lens(model_, site_, written);
    if (!logits.defined()) return;
    for (int64_t i = 0; i < count; ++i) {
      descriptions[i].promoted = extreme_tokens(logits[i], true);
      descriptions[i].suppressed = extreme_tokens(logits[i], false);
    }
  }

 private:
  std::vector<DescribedToken> extreme_tokens(const torch::Tensor& logits, bool largest) const {
    const auto [values, ids] = logits.topk(std::min<int64_t>(kShownTokens, logits.size(0)), 0, largest);
    std::vector<DescribedToken> tokens;
    for (int64_t i = 0; i < ids.size(0); ++i) {
      std::string text(model_.tokenizer.token(static_cast<int32_t>(ids[i].item<int64_t>())));
      repair_utf8(text);
      tokens.push_back({std::move(text), values[i].item<double>()});
    }
    return tokens;
  }

  int64_t end_;          // of the columns that the dictionary writes
  torch::Tensor atoms_;  // [latents, width], unit rows
  const LanguageModel& model_;
  Site site_;
};

/// Text and firings of a run of the model, in the same order.
struct Observation {
  DescribedText text;
  Firings firings;
};

void add_contexts(const TokenBatch& batch, int64_t tokens_left, DescribedText& text) {
  const torch::Tensor valid = batch.valid.cpu();
  for (int64_t row = 0; row < batch.tokens.size(0) && tokens_left > 0; ++row) {
    const torch::Tensor ids = batch.tokens[row].cpu().index({valid[row]}).to(torch::kInt32).contiguous();
    const int64_t count = std::min(ids.size(0), tokens_left);
    if (count > 0) text.add_context({ids.data_ptr<int32_t>(), static_cast<size_t>(count)});
    tokens_left -= count;
  }
}

Observation observe(const Dictionary& dictionary, const LanguageModel& model, const std::filesystem::path& path,
                    const DescriptionOptions& options) {
  const torch::NoGradGuard no_autograd;
  TokenContexts contexts = open_contexts(model, path, std::min(options.batch_tokens, model.network->pass_tokens()));
  DescribedText text(model.tokenizer);
  std::vector<SparseCodes> parts;
  Progress progress("describe " + dictionary.architecture(), options.tokens, "tokens");
  while (text.size() < options.tokens) {
    const std::optional<TokenBatch> batch = contexts.next();
    if (!batch) break;
    RecordSite visitor(options.site, true);
    model.network->forward({batch->tokens.to(options.device), {}}, visitor);
    const torch::Tensor rows = visitor.value().index({batch->valid.to(options.device)}).to(torch::kFloat);
    const int64_t before = text.size();
    add_contexts(*batch, options.tokens - before, text);
    if (text.size() > before) parts.push_back(dictionary.encode(rows.narrow(0, 0, text.size() - before)).to(torch::kCPU));
    progress.update(text.size());
    if (interrupted()) throw Interrupted("interrupted while describing; nothing was written");
  }
  if (text.size() == 0) fail("{}: gave no tokens; is it empty?", path.string());
  return {std::move(text), transpose_codes(std::move(parts), dictionary.size())};
}

/// Counts over all latents for summary.json.
class Summary {
 public:
  void add(const LatentDescription& latent) {
    if (latent.firings == 0) ++dead_;
    if (latent.density > 0.1) ++dense_;
    if (latent.clarity) clear_.push_back({*latent.clarity, latent.latent});
  }

  Json finish(Json json) {
    std::sort(clear_.begin(), clear_.end(), [](const auto& a, const auto& b) {
      return a.first != b.first ? a.first > b.first : a.second < b.second;
    });
    json["dead"] = dead_;
    json["dense"] = dense_;
    json["latents_with_clarity"] = clear_.size();
    json["median_clarity"] = clear_.empty() ? Json() : Json(rounded(clear_[clear_.size() / 2].first));
    Json clearest = Json::array();
    for (const auto& [clarity, latent] : clear_) clearest.push_back(latent);
    json["clearest"] = clearest;
    json["clarity"] =
        "average precision with which the words (or tokens) that a latent fires on in one half of the text foretell where it fires "
        "in the other half";
    return json;
  }

 private:
  int64_t dead_ = 0, dense_ = 0;
  std::vector<std::pair<double, int64_t>> clear_;
};

Json rounded_list(const std::vector<double>& values) {
  Json list = Json::array();
  for (const double value : values) list.push_back(rounded(value));
  return list;
}

Json to_json(const std::vector<DescribedWord>& words) {
  Json list = Json::array();
  for (const DescribedWord& word : words)
    list.push_back({{"text", word.text}, {"z", rounded(word.z)}, {"firings", word.firings}, {"occurrences", word.occurrences}});
  return list;
}

Json to_json(const std::vector<DescribedToken>& tokens) {
  Json list = Json::array();
  for (const DescribedToken& token : tokens) list.push_back({{"text", token.text}, {"value", rounded(token.value)}});
  return list;
}

/// The elements of the list `key`, each read by `read(element)`.
template <class Read>
auto list_member(const Json& json, const char* key, std::string_view where, const Read& read) {
  std::vector<decltype(read(json))> list;
  for (const Json& element : json_member<std::vector<Json>>(json, key, where)) list.push_back(read(element));
  return list;
}

}  // namespace

std::span<const int32_t> Firings::positions_of(int64_t latent) const {
  return std::span(positions).subspan(offsets[latent], offsets[latent + 1] - offsets[latent]);
}

std::span<const float> Firings::values_of(int64_t latent) const {
  return std::span(values).subspan(offsets[latent], offsets[latent + 1] - offsets[latent]);
}

Firings transpose_codes(std::vector<SparseCodes> parts, int64_t latents) {
  Firings firings;
  firings.offsets.assign(latents + 1, 0);
  for (const SparseCodes& codes : parts)
    for (const int32_t atom : std::span(codes.atoms.data_ptr<int32_t>(), codes.atoms.numel())) ++firings.offsets[atom + 1];
  std::partial_sum(firings.offsets.begin(), firings.offsets.end(), firings.offsets.begin());
  firings.positions.resize(firings.offsets.back());
  firings.values.resize(firings.offsets.back());
  std::vector<int64_t> next(firings.offsets.begin(), firings.offsets.end() - 1);
  for (SparseCodes& codes : parts) {
    const int64_t* const offsets = codes.offsets.data_ptr<int64_t>();
    for (int64_t row = 0; row < codes.rows(); ++row, ++firings.places) {
      for (int64_t entry = offsets[row]; entry < offsets[row + 1]; ++entry) {
        const int64_t place = next[codes.atoms.data_ptr<int32_t>()[entry]]++;
        firings.positions[place] = static_cast<int32_t>(firings.places);
        firings.values[place] = codes.values.data_ptr<float>()[entry];
      }
    }
    codes = {};
  }
  return firings;
}

std::optional<double> clarity_of(const DescribedText& text, std::span<const int32_t> positions) {
  int64_t halves[2] = {0, 0};
  for (const int32_t position : positions) ++halves[text.half(position)];
  if (std::min(halves[0], halves[1]) < kLeastFirings) return std::nullopt;
  return std::max(precision_of(TextUnit::kWord, text, positions, halves[1]),
                  precision_of(TextUnit::kToken, text, positions, halves[1]));
}

LatentDescription describe_latent(int64_t latent, const DescribedText& text, const Firings& firings, uint64_t seed) {
  const std::span<const int32_t> positions = firings.positions_of(latent);
  const std::span<const float> values = firings.values_of(latent);
  LatentDescription description;
  description.latent = latent;
  description.firings = static_cast<int64_t>(positions.size());
  description.histogram.assign(kHistogramBins, 0);
  if (positions.empty()) return description;
  description.density = static_cast<double>(positions.size()) / static_cast<double>(firings.places);
  description.clarity = clarity_of(text, positions);
  std::vector<float> sorted(values.begin(), values.end());
  std::sort(sorted.begin(), sorted.end());
  description.maximum = sorted.back();
  description.typical_maximum = sorted[static_cast<size_t>(std::ceil(0.99 * static_cast<double>(sorted.size()))) - 1];
  description.mean = std::accumulate(sorted.begin(), sorted.end(), 0.0) / static_cast<double>(sorted.size());
  for (const float value : values) {
    const auto bin = static_cast<int64_t>(std::ceil(value / description.maximum * kHistogramBins)) - 1;
    ++description.histogram[std::clamp<int64_t>(bin, 0, kHistogramBins - 1)];
  }
  description.key_words = words_set_apart(text, positions);
  description.context_words = words_set_apart(text, positions_before(text, positions));
  description.fires_on = commonest_tokens(text, positions);
  RandomStream stream(seed, fmt::format("describe/{}", latent));
  description.examples = ExampleChooser(text, positions, values).choose(stream);
  return description;
}

Json describe_dictionary(const Dictionary& dictionary, const LanguageModel& model, const std::filesystem::path& text,
                         const DescriptionOptions& options, const std::filesystem::path& folder) {
  const std::vector<Site> sites = written_sites(dictionary, model, options.site);
  if (options.tokens < 1 || options.tokens > std::numeric_limits<int32_t>::max())
    fail_usage("--tokens {}: give a number from 1 to 2147483647", options.tokens);
  check_output_folder(folder, kLatentsFile);
  const torch::NoGradGuard no_autograd;
  const Observation seen = observe(dictionary, model, text, options);
  const AtomReader reader(dictionary, model, sites.back());
  AtomicFolder output(folder, kLatentsFile);
  JsonlWriter lines(output.path() / kLatentsFile);
  Summary summary;
  Progress progress("describe " + dictionary.architecture(), dictionary.size(), "latents");
  for (int64_t first = 0; first < dictionary.size(); first += kBlock) {
    std::vector<LatentDescription> block(std::min(kBlock, dictionary.size() - first));
    parallel_for(static_cast<int64_t>(block.size()), 8, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) block[i] = describe_latent(first + i, seen.text, seen.firings, options.seed);
    });
    reader.add(first, block);
    for (const LatentDescription& latent : block) {
      lines.write(latent.to_json());
      summary.add(latent);
    }
    progress.update(first + static_cast<int64_t>(block.size()));
    if (interrupted()) throw Interrupted("interrupted while describing; nothing was written");
  }
  lines.commit();
  const Json result = summary.finish({{"architecture", dictionary.architecture()},
                                      {"latents", dictionary.size()},
                                      {"site", options.site},
                                      {"model", model.folder.filename().string()},
                                      {"text", text.filename().string()},
                                      {"tokens", seen.text.size()},
                                      {"contexts", seen.text.contexts()},
                                      {"seed", options.seed}});
  write_json(output.path() / "summary.json", result);
  output.commit();
  return result;
}

std::optional<std::filesystem::path> find_description(const std::filesystem::path& path) {
  std::filesystem::path beside = path.has_filename() ? path : path.parent_path();
  beside += "-description";
  for (const std::filesystem::path& folder : {path, path / "description", beside})
    if (std::filesystem::exists(folder / kLatentsFile)) return folder;
  return std::nullopt;
}

LatentDescription load_latent(const std::filesystem::path& folder, int64_t latent) {
  LineReader lines(folder / kLatentsFile);
  int64_t line = 0;
  while (const std::optional<std::string> text = lines.next()) {
    if (line++ != latent) continue;
    LatentDescription description = LatentDescription::from_json(parse_json(*text, lines.where()), lines.where());
    if (description.latent != latent) fail("{}: describes latent {}, not {}", lines.where(), description.latent, latent);
    return description;
  }
  fail_usage("latent {}: there are only 0 to {} in {}", latent, line - 1, folder.string());
}

Json LatentDescription::to_json() const {
  Json near = Json::array(), passages = Json::array();
  for (const NearLatent& other : nearest) near.push_back({{"latent", other.latent}, {"cosine", rounded(other.cosine)}});
  for (const Example& example : examples)
    passages.push_back({{"group", example.group},
                        {"activation", rounded(example.activation)},
                        {"parts", example.parts},
                        {"activations", rounded_list(example.activations)},
                        {"peak", example.peak}});
  return {{"latent", latent},
          {"firings", firings},
          {"density", rounded(density)},
          {"clarity", clarity ? Json(rounded(*clarity)) : Json()},
          {"maximum", rounded(maximum)},
          {"typical_maximum", rounded(typical_maximum)},
          {"mean", rounded(mean)},
          {"histogram", histogram},
          {"key_words", sememe::to_json(key_words)},
          {"context_words", sememe::to_json(context_words)},
          {"fires_on", sememe::to_json(fires_on)},
          {"promoted", sememe::to_json(promoted)},
          {"suppressed", sememe::to_json(suppressed)},
          {"nearest", near},
          {"examples", passages}};
}

LatentDescription LatentDescription::from_json(const Json& json, std::string_view where) {
  const auto word = [&](const Json& element) {
    return DescribedWord{json_member<std::string>(element, "text", where), json_member<double>(element, "z", where),
                         json_member<int64_t>(element, "firings", where), json_member<int64_t>(element, "occurrences", where)};
  };
  const auto token = [&](const Json& element) {
    return DescribedToken{json_member<std::string>(element, "text", where), json_member<double>(element, "value", where)};
  };
  const auto near = [&](const Json& element) {
    return NearLatent{json_member<int64_t>(element, "latent", where), json_member<double>(element, "cosine", where)};
  };
  const auto passage = [&](const Json& element) {
    Example example{json_member<std::string>(element, "group", where), json_member<double>(element, "activation", where),
                    json_member<std::vector<std::string>>(element, "parts", where),
                    json_member<std::vector<double>>(element, "activations", where), json_member<int64_t>(element, "peak", where)};
    if (example.parts.size() != example.activations.size() || example.peak < 0 ||
        example.peak >= static_cast<int64_t>(example.parts.size()))
      fail("{}: an example's \"parts\", \"activations\" and \"peak\" do not fit together", where);
    return example;
  };
  LatentDescription description;
  description.latent = json_member<int64_t>(json, "latent", where);
  description.firings = json_member<int64_t>(json, "firings", where);
  description.density = json_member<double>(json, "density", where);
  if (json.contains("clarity") && !json["clarity"].is_null()) description.clarity = json_member<double>(json, "clarity", where);
  description.maximum = json_member<double>(json, "maximum", where);
  description.typical_maximum = json_member<double>(json, "typical_maximum", where);
  description.mean = json_member<double>(json, "mean", where);
  description.histogram = json_member<std::vector<int64_t>>(json, "histogram", where);
  description.key_words = list_member(json, "key_words", where, word);
  description.context_words = list_member(json, "context_words", where, word);
  description.fires_on = list_member(json, "fires_on", where, token);
  description.promoted = list_member(json, "promoted", where, token);
  description.suppressed = list_member(json, "suppressed", where, token);
  description.nearest = list_member(json, "nearest", where, near);
  description.examples = list_member(json, "examples", where, passage);
  return description;
}

}  // namespace sememe
