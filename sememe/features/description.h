#pragma once
// What a dictionary's latents fire on, measured over held-out text. A description holds counts, words, tokens and passages from the text;
// nothing in it is an interpretation.

#include <torch/torch.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "sememe/base/json.h"
#include "sememe/features/described_text.h"
#include "sememe/features/dictionary.h"
#include "sememe/language/language_model.h"

namespace sememe {

struct DescriptionOptions {
  std::string site;
  int64_t tokens = 200'000;     ///< of the text; about 16 bytes are held for each firing
  int64_t batch_tokens = 8192;  ///< tokens a forward pass
  uint64_t seed = 1;            ///< of the draw of examples
  torch::Device device = torch::kCPU;
};

/// The firings of every latent over a text of `places` positions: latent i has entries [offsets[i], offsets[i + 1]), positions ascending.
struct Firings {
  int64_t places = 0;
  std::vector<int64_t> offsets;    ///< [latents + 1]
  std::vector<int32_t> positions;  ///< [entries]
  std::vector<float> values;       ///< [entries], > 0

  int64_t latents() const { return static_cast<int64_t>(offsets.size()) - 1; }
  std::span<const int32_t> positions_of(int64_t latent) const;
  std::span<const float> values_of(int64_t latent) const;
};

/// Turns codes of successive rows into firings by latent; the parts are freed on the way.
Firings transpose_codes(std::vector<SparseCodes> parts, int64_t latents);

/// A word with the number of places at which the latent fires on it, and of all places where it stands.
struct DescribedWord {
  std::string text;
  double z = 0.0;  ///< of contrast_words
  int64_t firings = 0, occurrences = 0;
};

struct DescribedToken {
  std::string text;
  double value = 0.0;  ///< for fires_on the share of the firings, for the logit lens the logit that a unit of the atom adds
};

struct NearLatent {
  int64_t latent = 0;
  double cosine = 0.0;
};

/// A passage around a peak: a firing with none stronger in its window.
struct Example {
  std::string group;                ///< "top", or "75%", "50%", "25%": where the peak stands among all peaks by activation
  double activation = 0.0;          ///< at the peak
  std::vector<std::string> parts;   ///< the text
  std::vector<double> activations;  ///< of each part
  int64_t peak = 0;                 ///< which part
};

struct LatentDescription {
  int64_t latent = 0;
  int64_t firings = 0;
  double density = 0.0;            ///< firings / places
  std::optional<double> clarity;   ///< see clarity_of(); none with too few firings
  double maximum = 0.0;            ///< of the activation
  double typical_maximum = 0.0;    ///< 99th percentile of the activations where it fires: the unit of steering
  double mean = 0.0;               ///< of the activation where it fires
  std::vector<int64_t> histogram;  ///< firings by activation, equal bins over (0, maximum]
  std::vector<DescribedWord> key_words;      ///< at the place of firing
  std::vector<DescribedWord> context_words;  ///< among the 8 tokens before it
  std::vector<DescribedToken> fires_on;      ///< commonest tokens
  std::vector<DescribedToken> promoted, suppressed;  ///< logit lens; empty at a site that the head does not read
  std::vector<NearLatent> nearest;
  std::vector<Example> examples;

  Json to_json() const;
  /// @throws Error naming `where` and the key
  static LatentDescription from_json(const Json& json, std::string_view where);
};

/// How well the words a latent fires on in one half of the text foretell where it fires in the other half: words of even contexts with
/// z >= 1.96 in contrast_words, in the order of their log-odds, rank the places of the odd contexts; the value is the average precision of
/// that ranking. 1: a list of words says exactly where the latent fires; near the density: words say nothing about it. A latent that
/// follows longer patterns than a word scores low here, whatever else it may stand for.
/// @return nothing if the latent fires fewer than 8 times in either half
std::optional<double> clarity_of(const DescribedText& text, std::span<const int32_t> positions);

/// Describes from the firings and the text alone: all but the logit lens and the nearest latents.
LatentDescription describe_latent(int64_t latent, const DescribedText& text, const Firings& firings, uint64_t seed);

/// Runs the model over the text and writes latents.jsonl (latent i on line i + 1) and summary.json into `folder`, whole or not at all.
/// Codes are selected plainly, without gradients.
/// @return what summary.json holds
/// @throws UsageError for a site that does not exist; Error if widths differ, the text has no tokens, or `folder` holds something else
///         than a description; Interrupted
Json describe_dictionary(const Dictionary& dictionary, const LanguageModel& model, const std::filesystem::path& text,
                         const DescriptionOptions& options, const std::filesystem::path& folder);

/// The folder with the description: `path` itself, `path`/description or `path`-description.
std::optional<std::filesystem::path> find_description(const std::filesystem::path& path);

/// Reads one latent of a description folder.
/// @throws Error naming the file; UsageError if there is no such latent
LatentDescription load_latent(const std::filesystem::path& folder, int64_t latent);

}  // namespace sememe
